"""One image: the masks its objects are taught by, on the prototypes' cells, and the anchors of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ytrue.annotations import Example
from ytrue.contract import LOST, POSITIVE, Assignment
from ytrue.encoders.mask import MaskEncoder
from ytrue.resizing import ResizeMode
from ytrue.viz import style
from ytrue.viz.assignment import frame_pixels, names_of
from ytrue.viz.drawing import (
    check_object,
    class_name,
    image_axes,
    padding_key,
    rectangle,
    say,
    shade_padding,
    view_of,
    write_labels,
)

_LONG_SIDE: Final = 1080
_HEAD: Final = 56
_OPACITY: Final = 0.45
_MOST_LINES: Final = 80
"""Of cells, in what is seen: more of them would hide the image."""
_MANY: Final = 40


def show_masks(
    image: Example | NDArray[np.uint8],
    assignment: Assignment,
    encoder: MaskEncoder,
    *,
    object: int | None = None,
    classes: Sequence[str] = (),
    resize: ResizeMode = "letterbox",
    title: str = "",
) -> Figure:
    """Draw an image in the network's frame with each object's mask and the anchors that learn it.

    A mask is the cells that are set, in a colour of the object's own; dots in this colour are the
    centres of its positive anchors, and its box is drawn in it, too. Boxes of objects that teach
    but have no mask are dotted white; of those that own no anchor, dashed red.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        assignment: what `encoder.explain` returned for the annotations in the frame.
        encoder: whose masks they are.
        object: single this object out, with its surroundings and the cells.
        classes: names, where `image` is no example.
        resize: how the image was fitted into the frame.
        title: a line above the picture.

    Raises:
        ValueError: no such object.
        DataError: the image file cannot be read.
    """
    count = len(assignment)
    check_object(object, count)
    pixels = frame_pixels(image, encoder.image_size, resize)
    names = names_of(image, classes)
    target = encoder.encode(assignment.annotations)
    learnt = target["mask_state"] == POSITIVE
    chosen = [k for k in range(count) if object in (None, k)]
    window = _window(assignment, object)
    seen = window[2:] - window[:2]
    scale = _LONG_SIDE / seen.max()
    figure = style.new_figure(max(seen[1] * scale, 560), seen[0] * scale + _HEAD)
    top = 1 - _HEAD / (seen[0] * scale + _HEAD)
    shown = {k: encoder.magnified(target["masks"][k]) for k in chosen}
    axes = image_axes(figure, _tinted(pixels, shown), top=top)
    shade_padding(axes, assignment.annotations, assignment.image_size)
    axes.set_xlim(window[1], window[3])
    axes.set_ylim(window[2], window[0])
    if object is not None:
        _lines(axes, window, encoder.stride)
    for k in chosen:
        _mark(axes, assignment, k, learnt=bool(learnt[k]), many=count > _MANY)
    hidden = 0
    if object is None:
        texts = [_label(assignment, k, names, learnt=bool(learnt[k])) for k in chosen]
        texts = [text for text in texts if np.isfinite(text[0]).all()]
        hidden = write_labels(axes, texts, float(1 / scale))
    said = title or _headline(assignment, learnt, encoder, object, names)
    say(figure, said, 11 if object is None else 9.5)
    _legend(figure, hidden, padded=assignment.annotations.content is not None)
    return figure


def _colour(k: int) -> str:
    return style.LEVELS[k % len(style.LEVELS)]


def _window(assignment: Assignment, chosen: int | None) -> NDArray[np.float64]:
    """Return what is shown of the frame, (y_min, x_min, y_max, x_max)."""
    height, width = view_of(assignment.annotations, assignment.image_size)
    whole = np.array((0, 0, height, width), float)
    if chosen is None or not np.isfinite(assignment.annotations.boxes[chosen]).all():
        return whole
    box = assignment.annotations.boxes[chosen].astype(float)
    margin = 0.35 * max(box[2] - box[0], box[3] - box[1], 24.0)
    low = np.clip(box[:2] - margin, 0, (height - 8, width - 8))
    high = np.clip(box[2:] + margin, low + 8, (height, width))
    return np.concatenate((low, high))


def _tinted(pixels: NDArray[np.uint8], masks: Mapping[int, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the pixels, those of each object's mask in its colour."""
    tinted = pixels.astype(np.float32)
    for k, mask in masks.items():
        tint = np.array(to_rgb(_colour(k)), np.float32) * 255 * _OPACITY
        inside = mask == 1
        tinted[inside] = tinted[inside] * (1 - _OPACITY) + tint
    return tinted.astype(np.uint8)


def _lines(axes: Axes, window: NDArray[np.float64], stride: int) -> None:
    """Draw the borders of the cells, where they are few enough to be seen."""
    rows, columns = (
        np.arange(np.ceil(window[axis] / stride), window[axis + 2] / stride) * stride
        for axis in (0, 1)
    )
    if max(len(rows), len(columns)) <= _MOST_LINES:
        line: dict[str, Any] = {"colors": "white", "lw": 0.4, "alpha": 0.4}
        axes.hlines(rows, window[1], window[3], **line)
        axes.vlines(columns, window[0], window[2], **line)


def _mark(axes: Axes, assignment: Assignment, k: int, *, learnt: bool, many: bool) -> None:
    """Draw one object's box, outline and anchors."""
    box, outcome = assignment.annotations.boxes[k], assignment.outcome[k]
    if not np.isfinite(box).all():
        return
    thick = 0.8 if many else 1.6
    if outcome == "crowd":
        axes.add_patch(rectangle(box, style.CROWD, thick, hatch="/", alpha=0.5))
        return
    if outcome in LOST:
        axes.add_patch(rectangle(box, style.LOST, thick, linestyle="--"))
    elif learnt:
        axes.add_patch(rectangle(box, _colour(k), thick))
    else:
        axes.add_patch(rectangle(box, "white", thick, linestyle=":"))
    polygons = assignment.annotations.polygons
    for part in polygons[k] if polygons is not None else ():
        axes.plot(
            np.append(part[:, 1], part[:1, 1]), np.append(part[:, 0], part[:1, 0]), color="white",
            lw=0.9, alpha=0.9,
        )  # fmt: skip
    mine = np.flatnonzero((assignment.state == POSITIVE) & (assignment.object == k))
    centres = (assignment.boxes[mine, :2] + assignment.boxes[mine, 2:]) / 2
    size = 4 if many else 16
    axes.scatter(centres[:, 1], centres[:, 0], s=size, c=_colour(k), edgecolors="black", lw=0.5)


def _label(
    assignment: Assignment, k: int, names: Sequence[str], *, learnt: bool
) -> tuple[NDArray[Any], str, str, float]:
    """Return a label as `write_labels` takes it: what went wrong first, then the large."""
    box, outcome = assignment.annotations.boxes[k], assignment.outcome[k]
    name = class_name(names, int(assignment.annotations.labels[k]))
    area = float(np.prod(box[2:] - box[:2]))
    if outcome == "crowd":
        return box, f"{name}: crowd", style.CROWD, area
    if outcome in LOST:
        return box, f"#{k} {name}: lost, {outcome}", style.LOST, area + 1e12
    said = f"#{k} {name}: {assignment.positives[k]}"
    if not learnt:
        return box, f"{said}, no mask", "white", area + 1e9
    return box, said, _colour(k), area


def _headline(
    assignment: Assignment, learnt: NDArray[np.bool_], encoder: MaskEncoder, chosen: int | None,
    names: Sequence[str],
) -> str:  # fmt: skip
    if chosen is not None:
        name = class_name(names, int(assignment.annotations.labels[chosen]))
        mask = "" if learnt[chosen] else "; it has no mask"
        return f"object {chosen}, {name}: {assignment.why(chosen)}{mask}"
    owns = assignment.positives > 0
    rows, columns = encoder.cells
    return (
        f"{len(assignment)} objects, {len(assignment.lost)} lost; of {int(owns.sum())} that own "
        f"anchors {int((owns & learnt).sum())} teach a mask on {rows}x{columns} cells of stride "
        f"{encoder.stride}"
    )


def _legend(figure: Figure, hidden: int, *, padded: bool) -> None:
    handles: list[Any] = [
        Patch(color=_colour(0), alpha=0.6, label="cells of a mask"),
        Line2D([], [], color="#888888", lw=1.2, label="annotated outline (white)"),
        Line2D([], [], ls="", marker="o", ms=5, mfc=_colour(0), mec="black", label="its anchors"),
        Patch(fc="none", ec="#888888", ls=":", label="no mask"),
        Patch(fc="none", ec=style.LOST, ls="--", label="lost"),
    ]
    if padded:
        handles.append(padding_key())
    if hidden:
        handles.append(Line2D([], [], ls="", label=f"labels left out for room: {hidden}"))
    figure.legend(
        handles=handles, loc="upper left", fontsize=8, frameon=False, ncols=len(handles),
        bbox_to_anchor=(0, 1 - 24 / (figure.get_figheight() * style.DPI)), borderaxespad=0.2,
        handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip
