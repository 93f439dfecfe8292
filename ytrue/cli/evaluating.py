"""`ytrue evaluate`: detections against a dataset, in the numbers of their task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AsJson,
    check_choice,
    check_share,
    print_json,
    progress_bar,
    rich_console,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.predicting import Weights, finder_of, task_name
from ytrue.cli.reading import Source, reads_data
from ytrue.errors import DataError
from ytrue.words import printable

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.console import Console

    from ytrue.datasets.dataset import Dataset
    from ytrue.model.evaluating.kinds import Kind
    from ytrue.model.predict import Finder


@dataclass(frozen=True)
class Measured:
    """A task's numbers, and how they are told.

    Attributes:
        headline: name and value of what `--fail-under` is about.
        reports: name -> what `to_json` is printed of; "" where there is one only.
        say: prints the reports.
        figure: draws them.
        image_f1: (I,) of each image, nan where there is nothing.
    """

    headline: tuple[str, float | None]
    reports: Mapping[str, Any]
    say: Callable[[Console], None]
    figure: Callable[[], Figure]
    image_f1: NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """How to measure: the least score that counts, a hit's radius, what points are told apart by."""

    score_threshold: float
    radius: float
    by: Literal["landmark", "class"]


@app.command()
@reads_data
def evaluate(
    source: Source,
    results: Annotated[
        Path,
        typer.Argument(help="Results file of ytrue predict; or a run's folder, which is asked."),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="box, fcos, centernet, yolo, polygon, mask, keypoints or pose; default: of the "
            "results.",
        ),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=2, help="Only what train held out: every N-th image."),
    ] = None,
    weights: Weights = None,
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Least score in found, missed and mistaken.")
    ] = 0.3,
    radius: Annotated[
        float,
        typer.Option("--radius", help="Of keypoints: a hit's distance / the image's longer side."),
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Picture of the precision-recall curves.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Folder for the three best and worst images, by F1."),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            help="Exit code 1 when AP50 (of masks; by OKS; of keypoints: PCK) is less or undefined.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare detections with a dataset: COCO's and VOC's AP, OKS, PCK; what was found or missed.

    Example: ytrue evaluate annotations.json detections.json --fail-under 0.5
    """
    from ytrue.model.evaluating.kinds import FINDS, kind_of_results

    if task is not None:
        check_choice("--task", task, tuple(FINDS))
    check_share("--score-threshold", score_threshold)
    check_share("--radius", radius)
    check_share("--fail-under", fail_under)
    if out is not None:
        outputs.picture(out, force=force)
    dataset = source.load_telling()
    if hold_out is not None:
        _, dataset = dataset.hold_out(hold_out)
    found: Any
    if results.is_dir():
        dataset, found, finder = _predicted(dataset, results, weights, task, as_json)
        kind, by = FINDS[task_name(finder)], _by(finder)
    else:
        from ytrue.model.evaluating.filenames import give_ids
        from ytrue.model.evaluating.results import ResultsFile

        found = ResultsFile(results)
        named = give_ids(found, dataset, results)
        if named:
            typer.echo(f"{results} names its images by file: {named} of {source.data}", err=True)
        kind, by = kind_of_results(found)
        kind = kind if task is None else FINDS[task]
    asked = Asked(score_threshold, radius, by)
    measured = _MEASURES[kind](dataset, found, asked)
    if as_json:
        plain = {name: report.to_json() for name, report in measured.reports.items()}
        print_json(plain.get("", plain))
    else:
        measured.say(rich_console())
    if out is not None:
        from ytrue import viz

        written = viz.save_picture(measured.figure(), out)
        typer.echo(f"wrote {printable(written)}", err=as_json)
    if pictures is not None:
        _draw_extremes(dataset, measured, kind, found, pictures, asked, force=force)
    name, value = measured.headline
    if fail_under is not None and (value is None or value < fail_under):
        said = "not defined" if value is None else f"{value:.3f}"
        typer.echo(f"ytrue: {name} is {said}, expected {fail_under:g} or more", err=True)
        raise typer.Exit(1)


def _boxes(dataset: Dataset, found: Any, asked: Asked) -> Measured:
    from ytrue.model.evaluate import evaluate

    report = evaluate(dataset, found, score_threshold=asked.score_threshold)

    def say(console: Console) -> None:
        from ytrue import viz

        viz.print_evaluation(report, console)

    def figure() -> Figure:
        from ytrue import viz

        return viz.show_evaluation(report)

    return Measured(("AP50", report.ap50), {"": report}, say, figure, report.image_f1)


def _keypoints(dataset: Dataset, found: Any, asked: Asked) -> Measured:
    from ytrue.model.evaluatepoints import evaluate_points

    report = evaluate_points(
        dataset, found, radius=asked.radius, by=asked.by, score_threshold=asked.score_threshold
    )

    def say(console: Console) -> None:
        from ytrue import viz

        viz.print_point_evaluation(report, console)

    def figure() -> Figure:
        from ytrue import viz

        return viz.show_point_evaluation(report)

    return Measured(("PCK", report.overall.pck), {"": report}, say, figure, report.image_f1)


def _pose(dataset: Dataset, found: Any, asked: Asked) -> Measured:
    from ytrue.model.evaluatepoints import evaluate_keypoints

    report = evaluate_keypoints(dataset, found)
    boxes = _boxes(dataset, found, asked)

    def say(console: Console) -> None:
        from ytrue import viz

        viz.print_keypoint_evaluation(report, console)
        boxes.say(console)

    return Measured(
        ("AP50 by OKS", report.coco["AP50"]), {"keypoints": report, "box": boxes.reports[""]},
        say, boxes.figure, boxes.image_f1,
    )  # fmt: skip


def _masks(dataset: Dataset, found: Any, asked: Asked) -> Measured:
    from ytrue.model.evaluatemasks import evaluate_masks

    report = evaluate_masks(dataset, found)
    boxes = _boxes(dataset, found, asked)

    def say(console: Console) -> None:
        from ytrue import viz

        viz.print_mask_evaluation(report, console)
        boxes.say(console)

    return Measured(
        ("AP50 of masks", report.coco["AP50"]), {"mask": report, "box": boxes.reports[""]}, say,
        boxes.figure, boxes.image_f1,
    )  # fmt: skip


_MEASURES: Final[Mapping[Kind, Callable[[Dataset, Any, Asked], Measured]]] = {
    "box": _boxes,
    "keypoints": _keypoints,
    "pose": _pose,
    "mask": _masks,
}


def _draw_extremes(
    dataset: Dataset,
    measured: Measured,
    kind: Kind,
    found: Any,
    folder: Path,
    asked: Asked,
    *,
    force: bool,
) -> None:
    """Draw the three images of highest and of lowest F1, detections beside the truth."""
    import numpy as np

    from ytrue import viz
    from ytrue.model.evaluating.kinds import annotations_by_image
    from ytrue.model.predict import images_of

    order = np.argsort(measured.image_f1, kind="stable")
    order = order[~np.isnan(measured.image_f1[order])]
    by_image = annotations_by_image(dataset, found, kind, by=asked.by)
    named = [(f"best_{k + 1}", row) for k, row in enumerate(order[::-1][:3])]
    named += [(f"worst_{k + 1}", row) for k, row in enumerate(order[:3])]
    for name, row in named:
        (source,) = images_of(dataset, [int(row)])
        figure = viz.show_detections(
            source.read(1), by_image[row], classes=dataset.classes,
            truth=dataset[row].annotations, score_threshold=asked.score_threshold,
            title=f"{source.image_id}: F1 {measured.image_f1[row]:.2f}",
        )  # fmt: skip
        viz.save_picture(figure, outputs.picture(folder / f"{name}.png", force=force))


def _predicted(
    dataset: Dataset, run: Path, weights: str | None, task: str | None, quiet: bool
) -> tuple[Dataset, dict[Any, Any], Finder]:
    """Return the dataset without what cannot be read, what a run's detector finds, and that."""
    finder = finder_of(run, "keras", "float32", weights, task)
    from ytrue.model.evaluating.kinds import FINDS

    kind = FINDS[task_name(finder)]
    for what, kinds, known, there in (
        ("classes", ("box", "mask", "pose"), finder.classes, dataset.classes),
        ("keypoints", ("keypoints", "pose"), finder.landmarks, dataset.keypoint_names),
    ):
        if kind in kinds and known != there:
            raise DataError(
                f"the run knows {', '.join(known) or 'none'}; the dataset's {what} are "
                f"{', '.join(there) or 'none'}",
                where=run,
                do=f"evaluate on a dataset of the same {what}",
            )
    from ytrue.model.predict import MIN_SCORE, images_of, without
    from ytrue.model.predict import predict as predict_images

    skipped: dict[Any, str] = {}
    with progress_bar("predicting", quiet=quiet) as progress:
        predicted = predict_images(
            finder, images_of(dataset), score_threshold=MIN_SCORE, progress=progress,
            skipped=skipped,
        )  # fmt: skip
        found = {one.image_id: one.detections for one in predicted}
    return without(dataset, skipped), found, finder


def _by(finder: Finder) -> Literal["landmark", "class"]:
    from ytrue.encoders import KeypointGridEncoder
    from ytrue.model.tasks import told_by

    encoder = finder.encoder
    return told_by(encoder) if isinstance(encoder, KeypointGridEncoder) else "landmark"
