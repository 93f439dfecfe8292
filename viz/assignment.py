"""One image: its objects, and the anchors that each of them got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ytrue.annotations import Example
from ytrue.contract import IGNORE, LOST, POSITIVE, Assignment, Outcome
from ytrue.datasets.pixels import PAD, pad_to, place_pixels, read_image
from ytrue.resizing import ResizeMode, place
from ytrue.viz import style
from ytrue.viz.drawing import (
    LONG_SIDE,
    Sheet,
    box_key,
    check_object,
    class_name,
    dot_key,
    image_axes,
    new_sheet,
    padding_key,
    rectangle,
    say,
    shade_padding,
    view_of,
    write_labels,
    write_legend,
)  # fmt: skip

MOST_BOXES: Final = 40
_PANEL_SIDE: Final = 520


def show_assignment(
    image: Example | NDArray[np.uint8],
    assignment: Assignment,
    *,
    object: int | None = None,
    levels: bool = False,
    classes: Sequence[str] = (),
    resize: ResizeMode = "letterbox",
    title: str = "",
) -> Figure:
    """Draw an image in the network's frame with its objects and their positive anchors.

    Boxes are objects: green got anchors on merit, orange only forced ones, red none; violet hatching
    is a crowd. Dots are centres of positive anchors in their level's colour, ringed where forced;
    white specks are ignored anchors.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        assignment: what `encoder.explain` returned for the annotations in the frame.
        object: single this object out: its anchors as boxes, and the reason in words.
        levels: one panel for each level.
        classes: names, where `image` is no example.
        resize: how the image was fitted into the frame.
        title: a line above the picture.

    Raises:
        ValueError: no such object.
        DataError: the image file cannot be read.
    """
    check_object(object, len(assignment))
    pixels = frame_pixels(image, assignment.image_size, resize)
    scene = _Scene(assignment, pixels, names_of(image, classes), object)
    if levels:
        return _panels(scene, title)
    return _single(scene, title)


def show_example(example: Example) -> Figure:
    """Draw an example in its own pixels: boxes, labels, outlines and keypoints."""
    pixels = read_image(example.path)
    scale = min(1.0, LONG_SIDE / max(pixels.shape[:2]))
    figure = style.new_figure(max(360, pixels.shape[1] * scale), pixels.shape[0] * scale + 30)
    axes = image_axes(figure, pixels, bottom=0.0, top=1 - 30 / (pixels.shape[0] * scale + 30))
    objects = example.annotations
    for k, box in enumerate(objects.boxes):
        axes.add_patch(rectangle(box, style.CROWD if objects.crowd[k] else style.MATCHED, 1.6))
        for part in objects.polygons[k] if objects.polygons is not None else ():
            axes.fill(part[:, 1], part[:, 0], color=style.MATCHED, alpha=0.25)
    if objects.keypoints is not None:
        labelled = objects.keypoints[objects.keypoints[..., 2] > 0]
        axes.scatter(
            labelled[:, 1], labelled[:, 0], s=9, c=style.FORCED, edgecolors="black", lw=0.4
        )
    texts = [(box, class_name(example.classes, label), style.MATCHED, 0.0)
             for box, label in zip(objects.boxes, objects.labels, strict=True)]  # fmt: skip
    hidden = write_labels(axes, texts, pixels.shape[1] / (pixels.shape[1] * scale))
    more = f" ({hidden} labels left out)" if hidden else ""
    say(figure, f"image {example.image_id}: {len(objects)} objects{more}", 11)
    return figure


@dataclass(frozen=True, eq=False)
class _Scene:
    assignment: Assignment
    pixels: NDArray[np.uint8]
    classes: tuple[str, ...]
    chosen: int | None

    @property
    def finest(self) -> int:
        return int(self.assignment.position_level.min())

    @property
    def levels(self) -> list[int]:
        return [int(level) for level in np.unique(self.assignment.position_level)]

    def label(self, k: int) -> str:
        a = self.assignment
        name = class_name(self.classes, int(a.annotations.labels[k]))
        if a.outcome[k] == "crowd":
            return f"{name}: crowd"
        if a.outcome[k] in LOST:
            return f"#{k} {name}: lost, {a.outcome[k]}"
        best = f" · {a.best_iou[k]:.2f}" if a.by_overlap else ""
        return f"#{k} {name}: {a.positives[k]}{best}"


def objects_and_lost(a: Assignment) -> str:
    """Say how many objects there are and how many of them are lost."""
    count, lost = len(a), len(a.lost)
    said = f"{count} object{'s' * (count != 1)}"
    return (
        f"{said}, {lost} of them lost" if lost else f"{said}, none lost" if count else "no objects"
    )


def outcome_colour(outcome: Outcome) -> str:
    """Return the colour of an object's box."""
    if outcome == "crowd":
        return style.CROWD
    if outcome in LOST:
        return style.LOST
    return style.FORCED if outcome == "forced" else style.MATCHED


def names_of(image: Example | NDArray[np.uint8], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes: an example's own, those given where there is none."""
    return tuple(image.classes if isinstance(image, Example) else classes)


def frame_pixels(
    image: Example | NDArray[np.uint8], frame: tuple[int, int], resize: ResizeMode
) -> NDArray[np.uint8]:
    """Return the pixels of an image in the network's frame; grey where there is no file.

    Raises:
        ValueError: pixels of another size than the frame.
        DataError: the image file cannot be read.
    """
    if not isinstance(image, Example):
        if image.shape[:2] != frame:
            raise ValueError(
                f"the image has shape {image.shape}, the frame is {frame}: resize it first"
            )
        return image
    if not image.path.is_file():
        return pad_to(np.zeros((1, 1, 3), np.uint8), frame, (70, 70, 74))
    placement = place((image.height, image.width), frame, resize)
    return place_pixels(
        lambda shrink: read_image(image.path, shrink=shrink),
        placement,
        pad=PAD,
        where=str(image.path),
    )


def _single(scene: _Scene, title: str) -> Figure:
    height, width = view_of(scene.assignment.annotations, scene.assignment.image_size)
    sheet = new_sheet(scene.pixels[:height, :width])
    hidden = _draw(sheet.axes, scene, scene.levels, 1 / sheet.scale)
    say(sheet.figure, title or _headline(scene), 11.5)
    _legend(sheet, scene, hidden)
    return sheet.figure


def _panels(scene: _Scene, title: str) -> Figure:
    height, width = view_of(scene.assignment.annotations, scene.assignment.image_size)
    scale = _PANEL_SIDE / max(height, width)
    levels = scene.levels
    columns = min(3, len(levels))
    rows = -(-len(levels) // columns)
    panel_height, panel_width, head = height * scale + 28, width * scale, 34
    total_height, total_width = (
        rows * panel_height + head,
        columns * panel_width + 10 * (columns - 1),
    )
    figure = style.new_figure(total_width, total_height)
    for place_, level in enumerate(levels):
        row, column = divmod(place_, columns)
        bottom = 1 - (head + (row + 1) * panel_height) / total_height
        axes = image_axes(
            figure, scene.pixels[:height, :width], left=column * (panel_width + 10) / total_width, bottom=bottom,
            width=panel_width / total_width, top=bottom + height * scale / total_height,
        )  # fmt: skip
        _draw(axes, scene, [level], 1 / scale, labels=False)
        at = scene.assignment.position_level == level
        positive = int((scene.assignment.state[at] == POSITIVE).sum())
        axes.set_title(
            f"P{level}: {positive} positive", fontsize=10,
            color="black" if positive else "#777777", pad=3,
        )  # fmt: skip
    say(figure, title or _headline(scene), 11.5)
    return figure


def _headline(scene: _Scene) -> str:
    a = scene.assignment
    if scene.chosen is not None:
        name = class_name(scene.classes, int(a.annotations.labels[scene.chosen]))
        return f"object {scene.chosen}, {name}: {a.why(scene.chosen)}"
    positive, ignored = (int((a.state == s).sum()) for s in (POSITIVE, IGNORE))
    return f"{objects_and_lost(a)}; of {a.state.size:,} {_positions(a)} {positive} positive, {ignored} ignored"


def _draw(
    axes: Axes, scene: _Scene, levels: Sequence[int], pixel: float, *, labels: bool = True
) -> int:
    """Draw everything of the given levels; `pixel`: frame pixels in a pixel of the picture."""
    a = scene.assignment
    at = np.isin(a.position_level, levels)
    shade_padding(axes, a.annotations, a.image_size)
    many = len(a) > 60
    for k in range(len(a)):
        if a.outcome[k] == "crowd":
            axes.add_patch(
                rectangle(a.annotations.boxes[k], style.CROWD, 1.2, hatch="/", alpha=0.5)
            )
        elif np.isfinite(a.annotations.boxes[k]).all():
            faint = scene.chosen is not None and scene.chosen != k
            thick = (0.9 if many else 1.8) * (0.5 if faint else 1.0)
            dashed = "--" if a.outcome[k] in LOST else "-"
            axes.add_patch(
                rectangle(a.annotations.boxes[k], outcome_colour(scene.assignment.outcome[k]), thick, linestyle=dashed,
                           alpha=0.45 if faint else 1.0)
            )  # fmt: skip
    centres = (a.boxes[:, :2] + a.boxes[:, 2:]) / 2
    if scene.chosen is None:
        ignored = np.flatnonzero(at & (a.state == IGNORE))
        axes.scatter(
            centres[ignored, 1], centres[ignored, 0], s=1.6, c=style.IGNORED, alpha=0.5, lw=0
        )
    _dots(axes, scene, at, centres, many)
    if scene.chosen is not None:
        _boxes_of(axes, scene, at)
    if not labels:
        return 0
    texts = [
        (
            a.annotations.boxes[k],
            scene.label(k),
            outcome_colour(scene.assignment.outcome[k]),
            label_rank(a, k),
        )
        for k in range(len(a))
        if scene.chosen in (None, k) and np.isfinite(a.annotations.boxes[k]).all()
    ]
    return write_labels(axes, texts, pixel)


def label_rank(a: Assignment, k: int) -> float:
    """Return what is labelled first: the lost, the forced, then the large."""
    y_min, x_min, y_max, x_max = a.annotations.boxes[k]
    rank = {"forced": 1e9}.get(a.outcome[k], 0.0)
    rank = 1e12 if a.outcome[k] in LOST else rank
    return rank + float((y_max - y_min) * (x_max - x_min))


def _dots(
    axes: Axes, scene: _Scene, at: NDArray[np.bool_], centres: NDArray[Any], many: bool
) -> None:
    a = scene.assignment
    forced = np.zeros(a.state.size, bool)
    forced[a.forced_positions] = True
    mine = np.ones(a.state.size, bool) if scene.chosen is None else a.object == scene.chosen
    for level in scene.levels:
        dots = np.flatnonzero(at & mine & (a.state == POSITIVE) & (a.position_level == level))
        # Of cells an object has a few places, of anchors dozens.
        size = (5 if many else 24 if a.by_cell else 10) + 3 * (level - scene.finest)
        colour = style.level_colour(level, scene.finest)
        plain, by_force = dots[~forced[dots]], dots[forced[dots]]
        axes.scatter(
            centres[plain, 1], centres[plain, 0], s=size, c=colour, edgecolors="black", lw=0.4
        )
        axes.scatter(centres[by_force, 1], centres[by_force, 0], s=size + 12, c=colour,
                     edgecolors=style.FORCED, lw=1.5)  # fmt: skip


def _boxes_of(axes: Axes, scene: _Scene, at: NDArray[np.bool_]) -> None:
    """Draw the chosen object's anchors, at most `MOST_BOXES`; its best one where it has none."""
    a, k = scene.assignment, scene.chosen
    mine = np.flatnonzero(at & (a.object == k) & (a.state == POSITIVE))
    for anchor in mine[:: max(1, -(-len(mine) // MOST_BOXES))]:
        colour = style.level_colour(int(a.position_level[anchor]), scene.finest)
        axes.add_patch(rectangle(a.boxes[anchor], colour, 0.8, alpha=0.8))
    best = int(a.best_position[k]) if k is not None else -1
    if not len(mine) and best >= 0 and at[best]:
        axes.add_patch(rectangle(a.boxes[best], "white", 1.2, linestyle=":"))


def _legend(sheet: Sheet, scene: _Scene, hidden: int) -> None:
    a = scene.assignment
    counts = {name: a.outcome.count(name) for name in ("matched", "forced", "crowd")}
    handles: list[Line2D | Patch] = [
        box_key(style.MATCHED, f"{counts['matched']} objects matched", lw=2)
    ]
    if a.by_overlap:  # nothing is forced elsewhere
        handles.append(box_key(style.FORCED, f"{counts['forced']} only forced", lw=2))
    handles.append(box_key(style.LOST, f"{len(a.lost)} lost", lw=2, ls="--"))
    if counts["crowd"]:
        label = f"{counts['crowd']} crowd region{'s' * (counts['crowd'] > 1)}"
        handles.append(box_key(style.CROWD, label, hatch="/"))
    for level in scene.levels:
        n = int(((a.position_level == level) & (a.state == POSITIVE)).sum())
        colour = style.level_colour(level, scene.finest)
        handles.append(dot_key(colour, f"{n} positive on P{level}"))
    if a.by_overlap:
        label = f"{len(a.forced_positions)} of them forced"
        handles.append(dot_key("white", label, edge=style.FORCED))
    handles.append(dot_key("#dddddd", f"{int((a.state == IGNORE).sum())} ignored", size=3))
    if a.annotations.content is not None:
        handles.append(padding_key())
    note = f"label: #object class: {_positions(a)}{' · best IoU' if a.by_overlap else ''}"
    if a.by_cell:
        note += "\nof the shapes, on one centre;\na dot lies on the centre of its cell"
    write_legend(sheet, handles, note, hidden)


def _positions(a: Assignment) -> str:
    """Return what positions are called: a cell's place is one of its anchors."""
    if a.by_cell:
        return "places"
    return "anchors" if a.by_overlap else "cells"
