"""What pictures of images share: axes over pixels, boxes, labels that leave each other room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ytrue.viz import style

MOST_LABELS: Final = 40


def image_axes(
    figure: Figure, pixels: NDArray[np.uint8], *, left: float = 0.0, bottom: float = 0.0,
    width: float = 1.0, top: float = 1.0,
) -> Axes:  # fmt: skip
    """Return axes over a part of the figure that show an image in its own pixels."""
    axes = figure.add_axes((left, bottom, width, top - bottom))
    show_pixels(axes, pixels)
    return axes


def show_pixels(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    """Show an image in axes of its own pixels."""
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()


def say(figure: Figure, text: str, size: float) -> None:
    """Write one line at the top of a figure."""
    height = figure.get_figheight() * style.DPI
    # Names may hold "$", which matplotlib would take for a formula.
    figure.text(
        0.008, 1 - 15 / height, text, fontsize=size, va="center", ha="left", parse_math=False
    )


def rectangle(box: NDArray[Any], colour: str, line: float, **more: Any) -> Rectangle:
    """Return the outline of a box `(y_min, x_min, y_max, x_max)`."""
    y_min, x_min, y_max, x_max = (float(edge) for edge in box)
    options: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": line} | more
    return Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, **options)


def class_name(classes: Sequence[str], label: int) -> str:
    """Return a label's name, or its number where it has none."""
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def write_labels(
    axes: Axes, texts: list[tuple[NDArray[Any], str, str, float]], pixel: float
) -> int:
    """Write labels at their boxes, the most important first; return how many found no room."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    taken: list[tuple[float, float, float, float]] = []
    hidden = 0
    for box, text, colour, _ in sorted(texts, key=lambda entry: -entry[3]):
        w, h = (6.1 * len(text) + 8) * pixel, 15 * pixel
        y_min, x_min, y_max, x_max = (float(edge) for edge in box)
        x = min(max(x_min, 0.0), max(width - w, 0.0))
        places = [(x, y_min - h), (x, y_max), (x, y_min), (min(x_max, width - w), y_min)]
        free = next(
            (
                (px, py, px + w, py + h)
                for px, py in places
                if py >= 0 and py + h <= height and px >= 0
                and not any(px < t[2] and px + w > t[0] and py < t[3] and py + h > t[1] for t in taken)
            ),
            None,
        )  # fmt: skip
        if free is None or len(taken) >= MOST_LABELS:
            hidden += 1
            continue
        taken.append(free)
        axes.text(
            free[0] + 3 * pixel, (free[1] + free[3]) / 2, text, fontsize=7.6, color=colour,
            va="center", ha="left", clip_on=True, parse_math=False,
            bbox={"facecolor": style.TEXT_BACK, "edgecolor": "none", "pad": 1.4},
        )  # fmt: skip
    return hidden
