"""`ytrue show`: what an image's objects or points got, as a picture, sentences and JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    PresetName,
    Resize,
    Size,
    print_json,
    resize_mode,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Source, reads_data
from ytrue.cli.tasks import Choices, Settings, TaskName, encoder_of
from ytrue.errors import DataError
from ytrue.words import counted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ytrue.annotations import Annotations, Example
    from ytrue.contract import Assignment, Encoder, PointAssignment
    from ytrue.datasets.dataset import Dataset
    from ytrue.encoders.polygon import PolygonVertices
    from ytrue.resizing import Placement, ResizeMode

GREY: Final = 90
LONGEST_STEM: Final = 100
MOST_LINES: Final = 40
"""Objects or points of an image that are told of one by one."""


@app.command()
@reads_data
def show(
    source: Source,
    image: Annotated[str, typer.Argument(help="The image: its id, file name, or #POSITION.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Picture to write (.png, .jpg, .svg, .pdf); default: from the image's name.",
        ),
    ] = None,
    object: Annotated[int | None, typer.Option("--object", help="Single this object out.")] = None,
    levels: Annotated[
        bool, typer.Option("--levels", help="One panel for each pyramid level.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Annotations only, in the image's own pixels.")
    ] = False,
    task: TaskName = "box",
    settings: Settings = None,
    preset: PresetName = "ytrue",
    size: Size = "512",
    anchor_scale: AnchorScale = None,
    resize: Resize = "letterbox",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Draw which anchors or cells each object or point of an image got, and why another got none.

    Example: ytrue show annotations.json 000000000139.jpg --object 3 -o picture.png
    """
    from ytrue import viz
    from ytrue.contract import encoders_in
    from ytrue.resizing import place

    dataset = source.load()
    example = dataset[_position(dataset, image)]
    count = len(example.annotations)
    if object is not None and not 0 <= object < count:
        raise ValueError(f"--object {object}: the image has {counted(count, 'object')}, from 0")
    target = out or Path(f"{_safe_name(example)}_assignment.png")
    if raw:
        outputs.picture(target, force=force)
        written = viz.save_picture(viz.show_example(example), target)
        typer.echo(f"wrote {printable(written)}")
        return
    encoder = encoder_of(
        task, Choices(size, preset, anchor_scale, settings, resize=resize_mode(resize)), dataset
    )
    placement = place((example.height, example.width), encoder.image_size, resize_mode(resize))
    frame = frame_of(dataset, example, placement)
    said: dict[str, Any] = {"image_id": example.image_id}
    placed = placement.apply(example.annotations)
    parts = encoders_in(encoder)
    files = {name: target.with_stem(f"{target.stem}_{name}") if name else target for name in parts}
    for file in files.values():
        outputs.picture(file, force=force)
    for name, part in parts.items():
        file = files[name]
        figure = viz.show_encoding(
            frame, part, placed, object=object, levels=levels, classes=dataset.classes,
            resize=resize_mode(resize),
        )  # fmt: skip
        viz.save_picture(figure, file)
        kind, rows = _rows(part, placed, example, dataset)
        rows = [row for row in rows if object in (None, row["object"])]
        told = {"picture": str(file), kind: rows}
        said |= {name: told} if name else told
        if not as_json:
            for line in _sentences(rows):
                typer.echo(printable(line))
            typer.echo(f"wrote {printable(file)}")
    if as_json:
        print_json(_unsaid(said))
    elif dataset.store is None and not example.path.is_file():
        typer.echo(
            f"the image file {printable(example.path)} does not exist: drawn on grey", err=True
        )


def _safe_name(example: Example) -> str:
    """Return a stem for an image's picture that stays in the working folder."""
    name = Path(str(example.path)).stem or str(example.image_id)
    return printable(name).replace("/", "_").replace("\\", "_")[:LONGEST_STEM]


def draw_encoding(
    dataset: Dataset,
    example: Example,
    encoder: Encoder,
    resize: ResizeMode,
    *,
    on_grey: bool = False,
) -> Figure:
    """Return the picture of what an encoder of one part makes of an image.

    Raises:
        DataError: the image cannot be read, and it is not to be drawn on grey then.
    """
    from ytrue import viz
    from ytrue.resizing import place

    placement = place((example.height, example.width), encoder.image_size, resize)
    placed = placement.apply(example.annotations)
    try:
        return viz.show_encoding(
            frame_of(dataset, example, placement), encoder, placed, classes=dataset.classes,
            resize=resize,
        )  # fmt: skip
    except DataError:
        if not on_grey:
            raise
    import numpy as np

    grey = np.full((*encoder.image_size, 3), GREY, np.uint8)
    return viz.show_encoding(grey, encoder, placed, classes=dataset.classes, resize=resize)


def _sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for every row; of many, for those not matched first, and how many are left out."""
    if len(rows) <= MOST_LINES:
        return [row["said"] + row["why"] for row in rows]
    told = sorted(rows, key=lambda row: row["outcome"] == "matched")[:MOST_LINES]
    told.sort(key=rows.index)
    left = Counter(row["outcome"] for row in rows) - Counter(row["outcome"] for row in told)
    words = ", ".join(f"{count} {outcome}" for outcome, count in left.most_common())
    return [
        *(row["said"] + row["why"] for row in told),
        f"and {left.total()} more ({words}): --object K tells of one, --json of all",
    ]


def frame_of(dataset: Dataset, example: Example, placement: Placement) -> Any:
    """Return what to draw on: the example, or its pixels where they lie in no file of their own."""
    if dataset.store is None:
        return example
    from ytrue.datasets.pixels import PAD, image_reader, place_pixels

    read = image_reader(dataset.store, example.image_id, example.path)
    where = f"{dataset.source}, image {example.image_id}"
    return place_pixels(read, placement, pad=PAD, where=where)


def _rows(
    encoder: Encoder, placed: Annotations, example: Example, dataset: Dataset
) -> tuple[str, list[dict[str, Any]]]:
    """Return "objects" or "points", and a row for each, in words and numbers."""
    from ytrue.contract import Assignment, PointAssignment
    from ytrue.encoders import MaskEncoder, PolygonEncoder

    explained = encoder.explain(placed)
    if isinstance(explained, PointAssignment):
        return "points", _point_rows(example, explained, dataset)
    assert isinstance(explained, Assignment)  # no encoder has parts of parts
    rows = _object_rows(example, explained, dataset)
    if isinstance(encoder, PolygonEncoder):
        _add_outlines(rows, encoder.vertices(placed), explained)
    if isinstance(encoder, MaskEncoder):
        for row, cells in zip(rows, encoder.encode(placed)["masks"], strict=True):
            row["mask_cells"] = int(cells.sum())
            row["why"] += "" if row["mask_cells"] else "; it has no mask"
    return "objects", rows


def _add_outlines(
    rows: list[dict[str, Any]], vertices: PolygonVertices, assignment: Assignment
) -> None:
    """Add to the objects' rows what became of their outlines."""
    from ytrue.outlinefits import outline_fit

    fit = outline_fit(vertices, assignment)
    for k, row in enumerate(rows):
        row["why"] = fit.why(k)
        row["outline"] = {
            "vertices": int(fit.given[k]),
            "kept": int(fit.kept[k]),
            "unused_parts": int(fit.unused_parts[k]),
            "iou": float(fit.iou[k]) if fit.given[k] else None,
        }


def _object_rows(
    example: Example, assignment: Assignment, dataset: Dataset
) -> list[dict[str, Any]]:
    names = [dataset.classes[label] for label in assignment.annotations.labels]
    ids = example.annotation_ids
    return [
        {
            "object": k,
            "annotation_id": ids[k],
            "class": names[k],
            "outcome": assignment.outcome[k],
            "positives": int(assignment.positives[k]),
            "forced": int(assignment.forced[k]),
            **({"best_iou": float(assignment.best_iou[k])} if assignment.by_overlap else {}),
            "why": assignment.why(k),
            "said": f"object {k}, {names[k]} (annotation {ids[k]}): ",
        }
        for k in range(len(assignment))
    ]


def _point_rows(
    example: Example, assignment: PointAssignment, dataset: Dataset
) -> list[dict[str, Any]]:
    landmarks = dataset.keypoint_names
    rows = []
    for m, (owner, landmark) in enumerate(
        zip(assignment.object.tolist(), assignment.landmark.tolist(), strict=True)
    ):
        name = landmarks[landmark] if landmark < len(landmarks) else str(landmark)
        annotation = example.annotation_ids[owner]
        rows.append(
            {
                "object": owner,
                "annotation_id": annotation,
                "landmark": name,
                "outcome": assignment.outcome[m],
                "grids": int(assignment.positives[m]),
                "why": assignment.why(m),
                "said": f"object {owner} (annotation {annotation}), {name}: ",
            }
        )
    return rows


def _unsaid(value: Any) -> Any:
    """Return the JSON value without what is there for the sentences."""
    if isinstance(value, dict):
        return {name: _unsaid(item) for name, item in value.items() if name != "said"}
    return [_unsaid(item) for item in value] if isinstance(value, list) else value


def _position(dataset: Dataset, image: str) -> int:
    if image.startswith("#") and image[1:].isdecimal():
        if int(image[1:]) >= len(dataset):
            raise DataError(
                f"no image {image}: the dataset has {len(dataset)}", where=dataset.source
            )
        return int(image[1:])
    return dataset.index_of(image)
