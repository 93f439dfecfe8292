"""The command line: a verb parses, calls one public function and shows what it returned."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ytrue import __version__
from ytrue.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from ytrue.annotations import Example
    from ytrue.datasets.dataset import Dataset
    from ytrue.encoders.anchor import AnchorEncoder
    from ytrue.resizing import Placement

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn object annotations into the training targets of detectors, and see them. "
    "Exit codes: 0 fine, 1 findings under --fail-on, 2 wrong use or unusable data.",
)

Data = Annotated[Path, typer.Argument(help="Annotation file, or the folder of a dataset.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="coco, voc, yolo, labelme, shapes or records; default: found."),
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder that image file names are relative to.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first problem.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
PresetName = Annotated[
    str, typer.Option("--preset", help="ytrue, efficientdet, retinanet or keras_hub.")
]
Size = Annotated[str, typer.Option("--size", help="Network input, pixels: SIDE or HEIGHTxWIDTH.")]
Resize = Annotated[str, typer.Option("--resize", help="letterbox or stretch.")]


def main() -> None:
    """Run the command line; errors in data or arguments are one line and exit code 2."""
    # TensorFlow greets with a screenful of its own; errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except (DataError, ValueError) as error:
        typer.echo(f"ytrue: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("-o", "--out", help="Where to write everything.")] = Path(
        "ytrue-demo"
    ),
    images: Annotated[int, typer.Option("--images", min=4, help="How many images to draw.")] = 60,
) -> None:
    """Make a sample dataset, find what is wrong with it, encode it, audit it, draw it.

    Example: ytrue demo -o ytrue-demo
    """
    from ytrue import auditing, datasets, viz
    from ytrue.encoders import preset
    from ytrue.resizing import place

    console = _console()
    console.rule("1. a sample dataset")
    with _progress("drawing images") as progress:
        file = datasets.write_shapes(
            folder / "shapes", num_images=images, bad=True, progress=progress
        )
    console.print(
        f"wrote {file} ({images} images), with a few bad annotations on purpose", highlight=False
    )
    console.rule("2. reading it, as any COCO file")
    dataset = datasets.load(file)
    viz.print_dataset(dataset, console)
    viz.print_problems(dataset, console, examples=1)
    console.rule("3. what a detector would be taught")
    encoder = preset("ytrue", (512, 512), dataset.num_classes)
    with _progress("auditing") as progress:
        report = auditing.audit(dataset, encoder, progress=progress)
    viz.print_audit(report, console)
    console.rule("4. pictures")
    with_crowd = next((i for i in range(len(dataset)) if dataset[i].annotations.crowd.any()), 0)
    example = dataset[with_crowd]
    placed = place((example.height, example.width), encoder.image_size, "letterbox").apply(
        example.annotations
    )
    assignment = encoder.explain(placed)
    for name, figure in (
        ("assignment.png", viz.show_assignment(example, assignment)),
        ("levels.png", viz.show_assignment(example, assignment, levels=True)),
        ("object.png", viz.show_assignment(example, assignment, object=0)),
        ("audit.png", viz.show_audit(report)),
    ):
        console.print(f"wrote {viz.save_png(figure, folder / name)}", highlight=False)
    console.print(f"wrote {viz.report_html(report, folder / 'audit.html')}", highlight=False)
    console.rule("5. the first batch")
    _first_batch(dataset, encoder, console)
    console.rule("next, with your own data")
    for line in (
        "ytrue inspect path/to/annotations.json",
        "ytrue audit path/to/annotations.json --size 512",
        "ytrue show path/to/annotations.json IMAGE -o picture.png",
    ):
        console.print(f"  {line}", highlight=False)


def _first_batch(dataset: Dataset, encoder: AnchorEncoder, console: Console) -> None:
    from ytrue import datasets

    with _silent_start():
        import tensorflow  # noqa: F401
    report = datasets.Report()
    batches = datasets.pipeline(
        dataset, encoder, batch_size=4, augment="light", shuffle=True, images="imagenet",
        on_error="skip", report=report,
    )  # fmt: skip
    pixels, targets = next(iter(batches))
    console.print(f"  images {tuple(pixels.shape)} {pixels.dtype.name}", highlight=False)
    for name, array in targets.items():
        console.print(f"  {name} {tuple(array.shape)} {array.dtype.name}", highlight=False)


@app.command()
def inspect(
    data: Data,
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
    fail_on: Annotated[
        str, typer.Option(help="any, dropped or none: which problems make the exit code 1.")
    ] = "none",
) -> None:
    """Read a dataset and tell what is in it and what is wrong with it.

    Example: ytrue inspect annotations/instances_train2017.json --fail-on dropped
    """
    _choice("--fail-on", fail_on, ("any", "dropped", "none"))
    dataset = _load(data, format, images, strict)
    if as_json:
        _print_json(
            {
                "source": str(dataset.source),
                "format": dataset.format,
                "images": len(dataset),
                "objects": dataset.num_objects,
                "classes": dict(zip(dataset.classes, dataset.class_ids, strict=True)),
                "problems": [problem.to_json() for problem in dataset.problems],
            }
        )
    else:
        from ytrue import viz

        console = _console()
        viz.print_dataset(dataset, console)
        viz.print_problems(dataset, console)
    found = [p for p in dataset.problems if fail_on == "any" or p.action == "dropped"]
    if fail_on != "none" and found:
        raise typer.Exit(1)


@app.command()
def audit(
    data: Data,
    preset: PresetName = "ytrue",
    size: Size = "512",
    resize: Resize = "letterbox",
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML report.")
    ] = None,
    fail_on: Annotated[
        float | None, typer.Option(help="Exit code 1 when more than this share of objects is lost.")
    ] = None,
) -> None:
    """Encode a whole dataset and account for every object: what it owns, or why it is lost.

    Example: ytrue audit annotations.json --preset efficientdet --size 640 --html audit.html
    """
    from ytrue import auditing

    dataset = _load(data, format, images, strict)
    encoder = _encoder(preset, size, dataset)
    with _progress("auditing", quiet=as_json) as progress:
        report = auditing.audit(dataset, encoder, resize=_resize(resize), progress=progress)
    if as_json:
        _print_json(report.to_json())
    else:
        from ytrue import viz

        viz.print_audit(report, _console())
    if html is not None:
        from ytrue import viz

        typer.echo(f"wrote {viz.report_html(report, html)}", err=as_json)
    if fail_on is not None and report.lost_share > fail_on:
        typer.echo(
            f"ytrue: {report.lost_share:.1%} of the objects are lost, more than {fail_on:.1%}",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def show(
    data: Data,
    image: Annotated[str, typer.Argument(help="The image: its id, file name, or #POSITION.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="PNG to write; default: from the image's name."),
    ] = None,
    object: Annotated[int | None, typer.Option("--object", help="Single this object out.")] = None,
    levels: Annotated[
        bool, typer.Option("--levels", help="One panel for each pyramid level.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Annotations only, in the image's own pixels.")
    ] = False,
    preset: PresetName = "ytrue",
    size: Size = "512",
    resize: Resize = "letterbox",
    format: Format = None,
    images: Images = None,
    as_json: AsJson = False,
) -> None:
    """Draw which anchors each object of an image got, and why another got none.

    Example: ytrue show annotations.json 000000000139.jpg --object 3 -o picture.png
    """
    from ytrue import viz
    from ytrue.resizing import place

    dataset = _load(data, format, images, False)
    example = dataset[_position(dataset, image)]
    target = out or Path(f"{Path(str(example.path)).stem or example.image_id}_assignment.png")
    if raw:
        typer.echo(f"wrote {viz.save_png(viz.show_example(example), target)}")
        return
    encoder = _encoder(preset, size, dataset)
    placement = place((example.height, example.width), encoder.image_size, _resize(resize))
    assignment = encoder.explain(placement.apply(example.annotations))
    figure = viz.show_assignment(
        example, assignment, object=object, levels=levels, resize=_resize(resize)
    )
    viz.save_png(figure, target)
    chosen = range(len(assignment)) if object is None else [object]
    names = [dataset.classes[label] for label in assignment.annotations.labels]
    if as_json:
        _print_json(
            {
                "image_id": example.image_id,
                "picture": str(target),
                "objects": [
                    {
                        "object": k,
                        "annotation_id": example.annotation_ids[k],
                        "class": names[k],
                        "outcome": assignment.outcome[k],
                        "positives": int(assignment.positives[k]),
                        "forced": int(assignment.forced[k]),
                        "best_iou": float(assignment.best_iou[k]),
                        "why": assignment.why(k),
                    }
                    for k in chosen
                ],
            }
        )
        return
    for k in chosen:
        typer.echo(
            f"object {k}, {names[k]} (annotation {example.annotation_ids[k]}): {assignment.why(k)}"
        )
    if dataset.store is None and not example.path.is_file():
        typer.echo(f"the image file {example.path} does not exist: drawn on grey", err=True)
    typer.echo(f"wrote {target}")


@app.command()
def encode(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the records.")],
    targets: Annotated[
        bool, typer.Option("--targets", help="Also store encoded targets, compactly.")
    ] = False,
    preset: PresetName = "ytrue",
    size: Size = "512",
    resize: Resize = "letterbox",
    shard_examples: Annotated[int, typer.Option(min=1, help="Examples in a shard.")] = 256,
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as sharded TFRecords; killed and started again, it goes on.

    Example: ytrue encode annotations.json -o records --targets --size 512
    """
    from ytrue import datasets

    dataset = _load(data, format, images, strict)
    encoder = _encoder(preset, size, dataset) if targets else None
    with _progress("writing records", quiet=as_json) as progress:
        manifest = datasets.write_records(
            dataset, out, encoder=encoder, resize=_resize(resize), shard_examples=shard_examples,
            progress=progress,
        )  # fmt: skip
    if as_json:
        _print_json(manifest)
    else:
        typer.echo(
            f"wrote {manifest['examples']} examples in {len(manifest['shards'])} shards to {out}"
        )


@app.command()
def convert(
    data: Data,
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo or labelme.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File (coco) or folder to write.")],
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the images as well.")
    ] = False,
) -> None:
    """Write a dataset in another format; what that cannot hold is listed.

    Example: ytrue convert VOCdevkit/VOC2012 --to coco -o annotations.json
    """
    from ytrue import datasets, viz

    dataset = _load(data, format, images, strict)
    lost = datasets.convert(dataset, to, out, copy_images=copy_images)
    if as_json:
        _print_json({"images": len(dataset), "problems": [problem.to_json() for problem in lost]})
        return
    typer.echo(f"wrote {len(dataset)} images, {dataset.num_objects} objects as {to} to {out}")
    if lost:
        from dataclasses import replace

        viz.print_problems(replace(dataset, problems=tuple(lost)), _console())


@app.command()
def evaluate(
    data: Data,
    results: Annotated[
        Path, typer.Argument(help="COCO results file: detections of the dataset's images.")
    ],
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Least score in found, missed and mistaken.")
    ] = 0.3,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="PNG of the precision-recall curves.")
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option("--fail-under", help="Exit code 1 when COCO's AP50 is less or undefined."),
    ] = None,
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare detections with a dataset: COCO's and VOC's AP, and what was found or missed.

    Example: ytrue evaluate annotations.json detections.json --fail-under 0.5
    """
    from ytrue.model.evaluate import evaluate

    dataset = _load(data, format, images, strict)
    report = evaluate(dataset, results, score_threshold=score_threshold)
    if as_json:
        _print_json(report.to_json())
    else:
        from ytrue import viz

        viz.print_evaluation(report, _console())
    if out is not None:
        from ytrue import viz

        typer.echo(f"wrote {viz.save_png(viz.show_evaluation(report), out)}", err=as_json)
    if fail_under is not None and (report.ap50 is None or report.ap50 < fail_under):
        found = "not defined" if report.ap50 is None else f"{report.ap50:.3f}"
        typer.echo(f"ytrue: AP50 is {found}, expected {fail_under:g} or more", err=True)
        raise typer.Exit(1)


def _stored_pixels(dataset: Dataset, example: Example, placement: Placement) -> Any:
    from ytrue.datasets.pixels import decode_image, place_pixels
    from ytrue.viz.assignment import PAD

    where = f"{dataset.source}, image {example.image_id}"
    data = dataset.store.image_bytes(example.image_id)  # type: ignore[union-attr]
    return place_pixels(
        lambda shrink: decode_image(data, where=where, shrink=shrink), placement,
        pad=PAD, where=where,
    )  # fmt: skip


def _load(data: Path, format: str | None, images: Path | None, strict: bool) -> Dataset:
    from ytrue import datasets

    return datasets.load(data, format=format, images=images, strict=strict)


def _encoder(name: str, size: str, dataset: Dataset) -> AnchorEncoder:
    from ytrue.encoders import preset

    sides = size.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise ValueError(
            f"--size {size}: expected SIDE or HEIGHTxWIDTH in pixels, such as 512 or 640x512"
        )
    numbers = [int(side) for side in sides]
    if dataset.num_classes == 0:
        raise DataError(
            "the dataset has no classes", where=dataset.source, do="check the annotation file"
        )
    return preset(name, (numbers[0], numbers[-1]), dataset.num_classes)


def _position(dataset: Dataset, image: str) -> int:
    if image.startswith("#") and image[1:].isdigit():
        if int(image[1:]) >= len(dataset):
            raise DataError(
                f"no image {image}: the dataset has {len(dataset)}", where=dataset.source
            )
        return int(image[1:])
    return dataset.index_of(image)


def _resize(resize: str) -> Any:
    _choice("--resize", resize, ("letterbox", "stretch"))
    return resize


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} {value}: expected one of {', '.join(allowed)}")


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty())


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def _silent_start() -> Iterator[None]:
    """Keep TensorFlow's greetings, written below Python before its log levels hold, off stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Give a progress callback: a bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
