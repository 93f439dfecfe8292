"""Verbs on datasets: a verb parses, calls one public function and shows what it returned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ytrue.cli.app import app
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    Data,
    Format,
    Images,
    PresetName,
    Resize,
    Size,
    Strict,
    check_choice,
    encoder_of,
    load,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
)  # fmt: skip
from ytrue.errors import DataError

if TYPE_CHECKING:
    from ytrue.annotations import Example
    from ytrue.datasets.dataset import Dataset
    from ytrue.resizing import Placement


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
    check_choice("--fail-on", fail_on, ("any", "dropped", "none"))
    dataset = load(data, format, images, strict)
    if as_json:
        print_json(
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

        console = rich_console()
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
    anchor_scale: AnchorScale = None,
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

    dataset = load(data, format, images, strict)
    encoder = encoder_of(preset, size, dataset, anchor_scale=anchor_scale)
    with progress_bar("auditing", quiet=as_json) as progress:
        report = auditing.audit(dataset, encoder, resize=resize_mode(resize), progress=progress)
    if as_json:
        print_json(report.to_json())
    else:
        from ytrue import viz

        viz.print_audit(report, rich_console())
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
    anchor_scale: AnchorScale = None,
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

    dataset = load(data, format, images, False)
    example = dataset[_position(dataset, image)]
    target = out or Path(f"{Path(str(example.path)).stem or example.image_id}_assignment.png")
    if raw:
        typer.echo(f"wrote {viz.save_png(viz.show_example(example), target)}")
        return
    encoder = encoder_of(preset, size, dataset, anchor_scale=anchor_scale)
    placement = place((example.height, example.width), encoder.image_size, resize_mode(resize))
    assignment = encoder.explain(placement.apply(example.annotations))
    figure = viz.show_assignment(
        _frame(dataset, example, placement), assignment, object=object, levels=levels,
        classes=dataset.classes, resize=resize_mode(resize),
    )  # fmt: skip
    viz.save_png(figure, target)
    chosen = range(len(assignment)) if object is None else [object]
    names = [dataset.classes[label] for label in assignment.annotations.labels]
    if as_json:
        print_json(
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
    anchor_scale: AnchorScale = None,
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

    dataset = load(data, format, images, strict)
    encoder = encoder_of(preset, size, dataset, anchor_scale=anchor_scale) if targets else None
    with progress_bar("writing records", quiet=as_json) as progress:
        manifest = datasets.write_records(
            dataset, out, encoder=encoder, resize=resize_mode(resize), shard_examples=shard_examples,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(manifest)
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

    dataset = load(data, format, images, strict)
    lost = datasets.convert(dataset, to, out, copy_images=copy_images)
    if as_json:
        print_json({"images": len(dataset), "problems": [problem.to_json() for problem in lost]})
        return
    typer.echo(f"wrote {len(dataset)} images, {dataset.num_objects} objects as {to} to {out}")
    if lost:
        from dataclasses import replace

        viz.print_problems(replace(dataset, problems=tuple(lost)), rich_console())


def _frame(dataset: Dataset, example: Example, placement: Placement) -> Any:
    """Return what to draw on: the example, or its pixels where they lie in no file of their own."""
    if dataset.store is None:
        return example
    from ytrue.datasets.pixels import PAD, image_reader, place_pixels

    read = image_reader(dataset.store, example.image_id, example.path)
    where = f"{dataset.source}, image {example.image_id}"
    return place_pixels(read, placement, pad=PAD, where=where)


def _position(dataset: Dataset, image: str) -> int:
    if image.startswith("#") and image[1:].isdigit():
        if int(image[1:]) >= len(dataset):
            raise DataError(
                f"no image {image}: the dataset has {len(dataset)}", where=dataset.source
            )
        return int(image[1:])
    return dataset.index_of(image)
