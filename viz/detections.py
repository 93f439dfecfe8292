"""Detections on their image, beside the truth where it is known; and a run's learning curve."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.boxes import has_area
from ytrue.viz import style
from ytrue.viz.drawing import class_name, image_axes, rectangle, say, write_labels

_LONG_SIDE: Final = 900
_HEAD: Final = 30


def show_detections(
    pixels: NDArray[np.uint8],
    found: Annotations,
    *,
    classes: Sequence[str] = (),
    truth: Annotations | None = None,
    score_threshold: float = 0.0,
    title: str = "",
) -> Figure:
    """Draw what was found in an image, by class; with `truth` its objects as dashed white boxes.

    Keypoints are dots, coloured by landmark; annotated ones are white crosses. Outlines and masks
    are shaded.

    Args:
        pixels: (H, W, 3) uint8.
        found: detections in the image's pixels, with scores.
        classes: names, in label order.
        truth: the annotated objects, in the image's pixels; crowds are violet.
        score_threshold: lowest score that is drawn.
        title: what the picture is headed with.
    """
    if found.scores is None:
        raise ValueError("found has no scores: draw annotations with show_example")
    height, width = pixels.shape[:2]
    scale = _LONG_SIDE / max(height, width)
    figure = style.new_figure(max(width * scale, 420), height * scale + _HEAD)
    axes = image_axes(figure, pixels, top=1 - _HEAD / (height * scale + _HEAD))
    if truth is not None:
        for box, crowd in zip(truth.boxes, truth.crowd, strict=True):
            colour = style.CROWD if crowd else "white"
            axes.add_patch(rectangle(box, colour, 1.0, linestyle="--"))
    drawn = np.flatnonzero(found.scores >= score_threshold)
    texts = []
    points = found.keypoints is not None
    if truth is not None and points:
        _points(axes, truth, np.arange(len(truth)), truth=True)
    if points:
        _points(axes, found, drawn)
    _outlines(axes, found, drawn)
    for k in drawn:
        label, score = int(found.labels[k]), float(found.scores[k])
        colour = style.LEVELS[label % len(style.LEVELS)]
        if points and not has_area(found.boxes[k]):
            continue  # a point by itself
        axes.add_patch(rectangle(found.boxes[k], colour, 1.7))
        texts.append((found.boxes[k], f"{class_name(classes, label)} {score:.2f}", colour, score))
    hidden = write_labels(axes, texts, 1 / scale)
    said = f"{len(drawn)} found" + ("" if truth is None else f", {len(truth)} annotated (dashed)")
    more = f", {hidden} labels left out" if hidden else ""
    say(figure, f"{title}: {said}{more}" if title else f"{said}{more}", 10.5)
    return figure


def _outlines(axes: Axes, found: Annotations, rows: NDArray[np.intp]) -> None:
    for k in rows:
        colour = style.LEVELS[int(found.labels[k]) % len(style.LEVELS)]
        for part in found.polygons[k] if found.polygons is not None else ():
            axes.add_patch(
                PathPatch(Path([*part[:, ::-1], part[0, ::-1]]), facecolor=colour, alpha=0.35, lw=0)
            )
        mask = found.masks[k] if found.masks is not None else None
        if mask is not None:
            shade = np.zeros((mask.height, mask.width, 4), np.float32)
            shade[mask.decode() > 0] = to_rgba(colour, 0.45)
            axes.imshow(shade, extent=(0, mask.width, mask.height, 0))


def _points(
    axes: Axes, annotations: Annotations, rows: NDArray[np.intp], *, truth: bool = False
) -> None:
    keypoints = annotations.keypoints
    if keypoints is None:
        return
    chosen = keypoints[rows]
    row, landmark = np.nonzero(chosen[..., 2] > 0)
    y, x = chosen[row, landmark, 0], chosen[row, landmark, 1]
    if truth:
        axes.scatter(x, y, s=34, c="white", marker="x", lw=1.1)
        return
    colours = [style.LEVELS[k % len(style.LEVELS)] for k in landmark]
    axes.scatter(x, y, s=20, c=colours, edgecolors="black", lw=0.6)


def show_history(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a run's losses and scores over its epochs, as `history.json` holds them."""
    figure = style.new_figure(900, 340)
    epochs = [entry["epoch"] for entry in history]
    losses = figure.add_subplot(1, 2, 1)
    colours = itertools.cycle(style.CURVES)
    for name in history[0]["losses"] if history else ():
        values = [entry["losses"][name] for entry in history]
        if any(values):
            losses.plot(epochs, values, color=next(colours), label=name, lw=1.4)
    losses.set_yscale("log")
    style.finish(losses, "training losses (means of an epoch)")
    scores = figure.add_subplot(1, 2, 2)
    measured = [entry for entry in history if entry["scores"]]
    colours = itertools.cycle(style.CURVES)
    for name in measured[0]["scores"] if measured else ():
        at = [entry["epoch"] for entry in measured]
        values = [entry["scores"][name] for entry in measured]
        scores.plot(at, values, color=next(colours), label=name, lw=1.6)
    scores.set_ylim(0, 1)
    style.finish(scores, "scores on the images held out")
    for axes in (losses, scores):
        axes.set_xlabel("epoch", fontsize=8.5)
        axes.grid(alpha=0.25)
        if axes.lines:  # without images held out there are no scores
            axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def picture(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure's pixels, (H, W, 3) uint8."""
    style.make_drawable(figure)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    return np.ascontiguousarray(pixels[..., :3])
