"""`ytrue predict`: what a detector finds in images, as a results file and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AsJson,
    check_choice,
    check_share,
    print_json,
    progress_bar,
    silent_start,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Format, Images, Source
from ytrue.errors import DataError
from ytrue.files import replace_file
from ytrue.words import counted, printable

if TYPE_CHECKING:
    from ytrue.datasets import Dataset
    from ytrue.model.predict import Finder, Found, Timing
    from ytrue.model.predict import Source as ImageSource

TaskOfRun = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="box, fcos, centernet, yolo, polygon, mask, keypoints or pose: refuse a run of another; "
        "default: any.",
    ),
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="best or last; default: best where there is one.")
]


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of ytrue train, or of ytrue export.")],
    sources: Annotated[list[Path] | None, typer.Argument(help="Image files or folders.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Results file to write.")] = Path(
        "detections.json"
    ),
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="Dataset whose image ids to write; without sources all of it."),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=2, help="Of --ids only what train held out."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Folder for a picture of each image: scores from 0.3 on."),
    ] = None,
    task: TaskOfRun = None,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            help="keras (RUN of ytrue train); saved_model or tflite (folder of ytrue export).",
        ),
    ] = "keras",
    precision: Annotated[
        str, typer.Option("--precision", help="Of tflite: float32, float16 or int8.")
    ] = "float32",
    weights: Weights = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch; tflite: 1.")] = 1,
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Lowest score of a detection.")
    ] = 0.05,
    suppression: Annotated[
        str | None,
        typer.Option(
            "--suppression", help="class (rivals are of one class; the default) or global."
        ),
    ] = None,
    soft: Annotated[
        bool,
        typer.Option("--soft", help="Lower the scores of overlapping boxes, drop none (gaussian)."),
    ] = False,
    iou_threshold: Annotated[
        float | None,
        typer.Option(
            "--iou-threshold",
            help="Overlap from which one of two boxes falls; default: 0.5, of centernet none falls.",
        ),
    ] = None,
    duplicate_radius: Annotated[
        float | None,
        typer.Option(
            "--duplicate-radius",
            help="Cells in which one of two alike points falls; default: 0.5.",
        ),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            "--max-detections",
            min=1,
            help="Most detections of an image; default: 100, of points 1000.",
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be read; list them.")
    ] = False,
    format: Format = None,
    images: Images = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Find objects or points in images: a results file, and pictures; says how long it took.

    Example: ytrue predict run photos/ -o detections.json --pictures found
    """
    with silent_start():
        from ytrue.model.predict import Timing, records_of, with_class_ids
        from ytrue.model.predict import predict as predict_images

    check_share("--score-threshold", score_threshold)
    check_share("--iou-threshold", iou_threshold)
    if runtime == "tflite" and batch_size != 1:
        raise ValueError(f"--batch-size {batch_size}: a TFLite file takes one image at a time")
    if hold_out is not None and ids is None:
        raise ValueError("--hold-out belongs to a dataset: name it with --ids")
    dataset = None if ids is None else Source(ids, format=format, images=images).load_telling()
    if dataset is not None and hold_out is not None:
        _, dataset = dataset.hold_out(hold_out)
    outputs.results(out, force=force)
    chosen = _sources(sources or [], dataset)
    finder = finder_of(run, runtime, precision, weights, task)
    speaker = finder if dataset is None else with_class_ids(finder, dataset)
    timing = Timing()
    if suppression is not None:
        check_choice("--suppression", suppression, ("class", "global"))
    options = _options_of(
        finder,
        {
            "--suppression": ("scope", suppression),
            "--soft": ("method", "gaussian" if soft else None),
            "--iou-threshold": ("iou_threshold", iou_threshold),
            "--duplicate-radius": ("duplicate_radius", duplicate_radius),
        },
    )
    if max_detections is not None:
        options["max_detections"] = max_detections
    skipped: dict[Any, str] | None = {} if skip_broken else None
    read = {source.image_id: source.read for source in chosen}
    names = _picture_names(source.image_id for source in chosen)
    with progress_bar("predicting", quiet=as_json) as progress:
        found = []
        for one in predict_images(
            finder, chosen, batch_size=batch_size, timing=timing, progress=progress,
            skipped=skipped, score_threshold=score_threshold, **options,
        ):  # fmt: skip
            found.append(one)
            if pictures is not None:
                picture = outputs.picture(pictures / names[one.image_id], force=force)
                _draw(read[one.image_id](1), one, finder, picture)
    records = records_of(speaker, found)
    content = json.dumps(records) + "\n"
    replace_file(out, lambda file: file.write(content.encode()))
    _say(out, records, timing, skipped or {}, as_json=as_json)


def _options_of(finder: Finder, said: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return what was said of how duplicates fall, by the names that `decode` takes.

    Raises:
        ValueError: something was said that means nothing to the detector's task.
    """
    from ytrue.model.tasks import task_of

    task = task_of(finder.encoder)
    given = {flag: entry for flag, entry in said.items() if entry[1] is not None}
    for flag, (name, _) in given.items():
        if name not in task.options:
            takes = [other for other, (own, _) in said.items() if own in task.options]
            raise ValueError(
                f"{flag} means nothing to a detector of --task {task.name}, which takes "
                f"{', '.join(takes)}"
            )
    return dict(given.values())


def finder_of(
    run: Path, runtime: str, precision: str, weights: str | None, task: str | None
) -> Finder:
    """Return the detector of a run, or an export of one, if it is of the task."""
    check_choice("--runtime", runtime, ("keras", "saved_model", "tflite"))
    if runtime == "keras" and precision != "float32":
        raise ValueError(f"--precision {precision} is of --runtime tflite")
    if runtime != "keras" and weights is not None:
        raise ValueError(f"--weights {weights} is of a run: an export holds what was exported")
    with silent_start():
        from ytrue.model.predict import Detector

        if runtime == "keras":
            finder: Finder = Detector.load(run, weights).folded()
        else:
            from ytrue.model.export import load_export

            finder = load_export(run, runtime=runtime, precision=precision)  # type: ignore[arg-type]
    if task not in (None, task_name(finder)):
        raise DataError(
            f"a detector of --task {task_name(finder)}, not {task}", where=run,
            do="leave --task out, or name another run",
        )  # fmt: skip
    return finder


def task_name(finder: Finder) -> str:
    """Return what `--task` calls the detector's task."""
    from ytrue.model.tasks import task_of

    return task_of(finder.encoder).name


def _say(
    out: Path,
    records: list[dict[str, Any]],
    timing: Timing,
    skipped: Mapping[Any, str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "results": str(out),
                "images": timing.images,
                "detections": len(records),
                "seconds": timing.seconds,
                "milliseconds_per_image": timing.latency,
                "skipped": list(skipped.values()),
            }
        )
        return
    for why in skipped.values():
        typer.echo(f"left out: {printable(why)}", err=True)
    typer.echo(timing.words())
    typer.echo(f"wrote {counted(len(records), 'detection')} to {printable(out)}")


def _sources(paths: list[Path], dataset: Dataset | None) -> list[ImageSource]:
    """Return the files named, or the dataset's images; of both: the files, with its ids."""
    from ytrue.model.predict import image_files, images_of, with_ids

    if not paths:
        if dataset is None:
            raise ValueError("name image files or folders, or a dataset with --ids")
        return images_of(dataset)
    left_out: dict[Path, list[Path]] = {}
    files = image_files(paths, left_out)
    _tell_left_out(left_out)
    return files if dataset is None else with_ids(files, dataset)


def _tell_left_out(left_out: Mapping[Path, Sequence[Path]]) -> None:
    """Say which files of the folders are not looked at."""
    for folder, others in left_out.items():
        if others:
            names = ", ".join(printable(other.name) for other in others[:3])
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            typer.echo(f"left out of {folder}, no image by name: {names}{more}", err=True)


def _draw(pixels: Any, found: Found, finder: Finder, path: Path) -> None:
    from ytrue import viz

    figure = viz.show_detections(
        pixels, found.detections, classes=finder.classes, score_threshold=0.3,
        title=str(found.image_id),
    )  # fmt: skip
    viz.save_png(figure, path)


def _picture_names(image_ids: Iterable[Any]) -> dict[Any, str]:
    """Return image id -> file name; a number tells a/b.jpg from a_b.jpg."""
    names: dict[Any, str] = {}
    taken: set[str] = set()
    for image_id in image_ids:
        # The suffix stays, as dog.jpg may lie beside dog.png.
        stem = str(image_id).replace("/", "_").replace(".", "_")
        ways = chain([stem], (f"{stem}_{k}" for k in count(2)))
        names[image_id] = next(way for way in ways if way not in taken) + ".png"
        taken.add(names[image_id].removesuffix(".png"))
    return names
