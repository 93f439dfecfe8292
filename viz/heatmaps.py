"""Pictures of heat maps over an image: where each object's centre is, and who lost its cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ytrue.annotations import Example
from ytrue.boxes import clip
from ytrue.contract import IGNORE, LOST, Assignment
from ytrue.resizing import ResizeMode
from ytrue.viz import style
from ytrue.viz.assignment import frame_pixels, names_of
from ytrue.viz.drawing import (
    class_name,
    image_axes,
    padding_key,
    rectangle,
    say,
    shade_padding,
    view_of,
    write_labels,
)

_LONG_SIDE: Final = 1000
_HEAD: Final = 56
_COLOURS: Final = "inferno"


def show_heatmap(
    image: Example | NDArray[np.uint8],
    heatmap: NDArray[np.floating],
    assignment: Assignment,
    *,
    label: int | None = None,
    classes: Sequence[str] = (),
    resize: ResizeMode = "letterbox",
    title: str = "",
) -> Figure:
    """Draw a heat map over its image, with the objects and their centres.

    The map is the highest of all classes, or that of one, the more opaque the higher. Green boxes
    and dots are objects that have the cell of their centre; red dashed boxes and crosses are lost,
    with the reason; violet hatching is a crowd, violet cells are ignored.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        heatmap: (rows, columns, C) in [0, 1], of a target or a network's scores.
        assignment: what `CenterNetEncoder.explain` returned for the annotations in the frame.
        label: only this class's map and objects.
        classes: names, where `image` is no example.
        resize: how the image was fitted into the frame.
        title: a line above the picture.

    Raises:
        ValueError: a map of other cells than the assignment's, or no such class.
        DataError: the image file cannot be read.
    """
    if heatmap.ndim != 3 or heatmap.shape[0] * heatmap.shape[1] != assignment.state.size:
        raise ValueError(
            f"the heat map has shape {heatmap.shape}: expected (rows, columns, classes) of the "
            f"assignment's {assignment.state.size} cells"
        )
    if label is not None and not 0 <= label < heatmap.shape[2]:
        raise ValueError(f"label={label}: the heat map has {heatmap.shape[2]} classes, from 0")
    pixels = frame_pixels(image, assignment.image_size, resize)
    names = names_of(image, classes)
    height, width = assignment.image_size
    rows, columns = view_of(assignment.annotations, assignment.image_size)
    scale = _LONG_SIDE / max(rows, columns)
    total = rows * scale + _HEAD
    figure = style.new_figure(max(columns * scale, 560), total)
    share = columns * scale / max(columns * scale, 560)
    axes = image_axes(figure, pixels, width=share, top=1 - _HEAD / total)
    shown = heatmap.max(axis=-1, initial=0) if label is None else heatmap[..., label]
    for overlay in (_shade(assignment.state.reshape(shown.shape)), _overlay(shown)):
        axes.imshow(overlay, extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    shade_padding(axes, assignment.annotations, assignment.image_size)
    chosen = np.ones(len(assignment), bool)
    if label is not None:
        chosen = assignment.annotations.labels == label
    _objects(axes, assignment, np.flatnonzero(chosen), names, 1 / scale)
    say(figure, title or _headline(assignment, chosen, names, label), 11)
    _legend(figure, total, padded=assignment.annotations.content is not None)
    return figure


def _overlay(heat: NDArray[np.floating]) -> NDArray[Any]:
    """Return the colours of a map: the more opaque the higher, low values well visible."""
    heat = np.clip(heat, 0, 1)
    # From the middle of the scale on: its dark end would hide the image, not show the map.
    colours = np.array(colormaps[_COLOURS](0.35 + 0.65 * heat))
    colours[..., 3] = 0.85 * np.sqrt(heat)
    return colours


def _shade(state: NDArray[np.int8]) -> NDArray[Any]:
    """Return the colours of the ignored cells, transparent elsewhere."""
    return np.where((state == IGNORE)[..., None], np.array(to_rgba(style.CROWD, 0.45)), 0.0)


def _objects(
    axes: Axes, a: Assignment, chosen: NDArray[np.intp], names: Sequence[str], pixel: float
) -> None:
    boxes, texts = a.annotations.boxes, []
    finite = [k for k in chosen.tolist() if np.isfinite(boxes[k]).all()]
    for k in finite:
        lost = a.outcome[k] in LOST
        name = class_name(names, int(a.annotations.labels[k]))
        if a.outcome[k] == "crowd":
            axes.add_patch(rectangle(boxes[k], style.CROWD, 1.0, hatch="/", alpha=0.5))
            continue
        colour = style.LOST if lost else style.MATCHED
        axes.add_patch(rectangle(boxes[k], colour, 1.2, linestyle="--" if lost else "-"))
        text = f"#{k} {name}: lost, {a.outcome[k]}" if lost else f"#{k} {name}"
        texts.append((boxes[k], text, colour, float(lost)))
    inside = clip(boxes, *a.image_size)
    centres = (inside[:, :2] + inside[:, 2:]) / 2
    has, taken = ([k for k in finite if a.outcome[k] == word] for word in ("matched", "taken"))
    axes.scatter(
        centres[has, 1], centres[has, 0], s=16, c=style.MATCHED, edgecolors="black", lw=0.7
    )
    axes.scatter(centres[taken, 1], centres[taken, 0], s=34, c=style.LOST, marker="x", lw=1.8)
    write_labels(axes, texts, pixel)


def _headline(
    a: Assignment, chosen: NDArray[np.bool_], names: Sequence[str], label: int | None
) -> str:
    lost = int(chosen[list(a.lost)].sum())
    told = f"{lost} object{'s are' if lost != 1 else ' is'} lost" if lost else "no object is lost"
    of = "every class" if label is None else class_name(names, label)
    crowds = sum(a.outcome[k] == "crowd" for k in np.flatnonzero(chosen))
    beside = f", {crowds} crowd{'s' * (crowds != 1)}" if crowds else ""
    return (
        f"heat map of {of}: {int(a.positives[chosen].sum())} of {int(chosen.sum()) - crowds} objects "
        f"have a cell, {told}{beside}; {int((a.state == IGNORE).sum()):,} of {a.state.size:,} cells ignored"
    )


def _legend(figure: Figure, total: float, *, padded: bool) -> None:
    marks: list[Line2D | Patch] = [
        _mark("o", style.MATCHED, "black", "centre that has its cell"),
        _mark("x", style.LOST, style.LOST, "centre whose cell is another's"),
        _mark("s", colormaps[_COLOURS](0.9), "none", "near a centre"),
        _mark("s", style.CROWD, "none", "ignored cell"),
    ]
    if padded:
        marks.append(padding_key())
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(0, 1 - 26 / total), ncols=len(marks),
        fontsize=8, frameon=False, borderaxespad=0.2, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip


def _mark(marker: str, colour: Any, edge: str, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=6, markerfacecolor=colour,
        markeredgecolor=edge, label=label,
    )  # fmt: skip
