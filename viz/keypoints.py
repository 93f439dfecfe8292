"""Pictures of points in cells: who holds a slot, and who is lost."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ytrue.annotations import Example
from ytrue.contract import POINT_LOST, PointAssignment
from ytrue.resizing import ResizeMode
from ytrue.viz import style
from ytrue.viz.assignment import frame_pixels
from ytrue.viz.drawing import show_pixels

_PANEL: Final = 620
_MOST_LINES: Final = 130
_MOST_REASONS: Final = 40


def show_points(
    image: Example | NDArray[np.uint8],
    assignment: PointAssignment,
    *,
    object: int | None = None,
    resize: ResizeMode = "letterbox",
    title: str = "",
) -> Figure:
    """Draw an image in the network's frame with its points and the cells that hold them.

    A panel for each grid. Green dots hold a slot of it, hollow where they are annotated as hidden,
    with their offsets as lines from the cell's corner; orange ones hold one of another grid only;
    red crosses are lost, with the reason beside them.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        assignment: what `encoder.explain` returned for the annotations in the frame.
        object: single this object's points out.
        resize: how the image was fitted into the frame.
        title: a line above the picture.

    Raises:
        DataError: the image file cannot be read.
    """
    pixels = frame_pixels(image, assignment.image_size, resize)
    height, width = assignment.image_size
    panels, scale = len(assignment.grid), _PANEL / max(height, width)
    figure = style.new_figure(max(panels * width * scale, 480), height * scale + 60)
    for level in range(panels):
        axes = figure.add_subplot(1, panels, level + 1)
        show_pixels(axes, pixels)
        _panel(axes, assignment, level, object)
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 52 / (height * scale + 60), 0.02)
    figure.text(0.008, 0.985, title or repr(assignment), fontsize=10, va="top", parse_math=False)
    _legend(figure)
    return figure


def _panel(axes: Axes, assignment: PointAssignment, level: int, chosen: int | None) -> None:
    rows, columns = assignment.grid[level]
    _cells(axes, assignment, level)
    keypoints = assignment.annotations.keypoints
    if keypoints is not None and keypoints.size:
        points = keypoints.reshape(-1, 3)
        mine = np.ones(len(points), bool) if chosen is None else assignment.object == chosen
        held = mine & (assignment.slot[level] >= 0)
        lost = mine & np.isin(assignment.outcome, POINT_LOST) & np.isfinite(points).all(axis=1)
        matched = np.array([outcome == "matched" for outcome in assignment.outcome])
        elsewhere = mine & matched & ~held
        hidden = points[:, 2] < 2
        _offsets(axes, assignment, level, np.flatnonzero(held), points)
        for chosen_, face in ((held & ~hidden, style.MATCHED), (held & hidden, "none"),
                              (elsewhere, style.FORCED)):  # fmt: skip
            edge = style.MATCHED if face == "none" else "black"
            axes.scatter(
                points[chosen_, 1], points[chosen_, 0], s=22, c=face, edgecolors=edge, lw=0.9
            )
        axes.scatter(points[lost, 1], points[lost, 0], s=26, c=style.LOST, marker="x", lw=1.6)
        for m in np.flatnonzero(lost)[:_MOST_REASONS]:
            axes.annotate(
                assignment.outcome[m], (points[m, 1], points[m, 0]), (5, -3),
                textcoords="offset points", fontsize=7, color=style.on_dark(style.LOST), annotation_clip=True,
                bbox={"facecolor": style.TEXT_BACK, "edgecolor": "none", "pad": 0.8},
            )  # fmt: skip
    axes.set_title(f"{rows}x{columns}", fontsize=8.5, pad=2)


def _offsets(
    axes: Axes,
    assignment: PointAssignment,
    level: int,
    held: NDArray[np.intp],
    points: NDArray[np.float32],
) -> None:
    """Draw what the network is to tell of a point: the way from its cell's corner to it."""
    rows, columns = assignment.grid[level]
    height, width = assignment.image_size
    cell = assignment.cell[level, held] - assignment.first_cell(level)
    row, column = np.divmod(cell, columns)
    corners = np.stack((column * width / columns, row * height / rows), axis=-1)
    lines = np.stack((corners, points[held, 1::-1]), axis=1)
    axes.add_collection(LineCollection(list(lines), colors=style.MATCHED, linewidths=1.0))


def _cells(axes: Axes, assignment: PointAssignment, level: int) -> None:
    """Shade the cells that hold a point, the fuller the stronger, and draw the grid if it is coarse."""
    rows, columns = assignment.grid[level]
    height, width = assignment.image_size
    first = assignment.first_cell(level)
    state = assignment.state.reshape(-1, assignment.slots_per_cell)[first : first + rows * columns]
    count = (state == 1).sum(axis=1)
    tall, wide = height / rows, width / columns
    for cell in np.flatnonzero(count):
        row, column = divmod(int(cell), columns)
        strength = 0.15 + 0.4 * count[cell] / assignment.slots_per_cell
        corner = (column * wide, row * tall)
        axes.add_patch(Rectangle(corner, wide, tall, color=style.BARS, alpha=strength, lw=0))
    if max(rows, columns) <= _MOST_LINES:
        axes.hlines(np.arange(1, rows) * tall, 0, width, colors="white", lw=0.35, alpha=0.45)
        axes.vlines(np.arange(1, columns) * wide, 0, height, colors="white", lw=0.35, alpha=0.45)


def _legend(figure: Figure) -> None:
    marks = [
        _mark(style.MATCHED, "holds a slot"),
        _mark("none", "hidden, holds a slot", edge=style.MATCHED),
        _mark(style.FORCED, "on another grid only"),
        _mark(style.LOST, "lost", edge=style.LOST, marker="x"),
    ]
    figure.legend(
        handles=marks, loc="upper left", bbox_to_anchor=(0, 1 - 22 / (figure.get_figheight() * style.DPI)),
        ncols=len(marks), fontsize=7.5, frameon=False, borderaxespad=0.2, handletextpad=0.2,
        columnspacing=1.0,
    )  # fmt: skip


def _mark(colour: str, label: str, *, edge: str = "black", marker: str = "o") -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=5, markerfacecolor=colour,
        markeredgecolor=edge, label=label,
    )  # fmt: skip
