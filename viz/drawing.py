"""What pictures of images share: axes over pixels, boxes, labels that leave each other room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.viz import style
from ytrue.words import printable

MOST_LABELS: Final = 40
LONG_SIDE: Final = 1180
_HEAD, _LINE, _LEGEND = 34, 18, 220
_LEAST = (820, 380)
_BEYOND: Final = "#26262b"
_SMALLEST_TEXT: Final = 6.5


class Sheet(NamedTuple):
    """A figure with an image to the left, room for a legend to the right and a line above."""

    figure: Figure
    axes: Axes
    scale: float  # pixels of the picture in a pixel of the image
    left: float  # of the legend, as a share of the figure's width
    top: float  # of both, as a share of its height


def new_sheet(
    pixels: NDArray[np.uint8], *, window: tuple[float, float, float, float] | None = None,
    long_side: float = LONG_SIDE, lines: int = 1,
) -> Sheet:  # fmt: skip
    """Return a sheet that shows an image.

    Args:
        pixels: (H, W, 3) uint8.
        window: `(y_min, x_min, y_max, x_max)` of the image to show, which may reach beyond it;
            None: all of it.
        long_side: of what is shown, pixels of the picture.
        lines: how many the head has room for.
    """
    y_min, x_min, y_max, x_max = window or (0.0, 0.0, *map(float, pixels.shape[:2]))
    height, width = y_max - y_min, x_max - x_min
    scale = long_side / max(height, width)
    head = _HEAD + _LINE * (lines - 1)
    total_width = max(width * scale + _LEGEND, _LEAST[0])
    total_height = max(height * scale + head, _LEAST[1])
    figure = style.new_figure(total_width, total_height)
    left, top = width * scale / total_width, 1 - head / total_height
    axes = image_axes(
        figure, pixels, bottom=top - height * scale / total_height, width=left, top=top
    )
    if window is not None:
        axes.set(xlim=(x_min, x_max), ylim=(y_max, y_min))
        axes.add_patch(rectangle(np.array(window), "none", 0, fc=_BEYOND, fill=True, zorder=-1))
    return Sheet(figure, axes, scale, left, top)


def write_legend(
    sheet: Sheet, handles: Sequence[Line2D | Patch], note: str, hidden: int = 0
) -> None:
    """Write the legend of a sheet, and below it a note and how many labels were left out."""
    legend = sheet.figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(sheet.left, sheet.top), fontsize=8.6,
        frameon=False, borderaxespad=0.4,
    )  # fmt: skip
    legend.set_in_layout(False)
    if hidden:
        note += f"\n{hidden} label{'s' * (hidden != 1)} left out for room"
    sheet.figure.text(sheet.left + 0.008, 0.012, note, fontsize=7.4, color="#555555", va="bottom")


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


def say(figure: Figure, text: str, size: float, *, line: int = 0) -> None:
    """Write a line of a figure's head, counted from 0, smaller where it would not fit."""
    height = figure.get_figheight() * style.DPI
    # Names may hold "$", which matplotlib would take for a formula.
    said = figure.text(
        0.008,
        1 - (15 + _LINE * line) / height,
        text,
        fontsize=size,
        va="center",
        ha="left",
        parse_math=False,
        fontfamily=style.families(),
    )
    room = 0.984 * figure.bbox.width / max(said.get_window_extent().width, 1)
    said.set_fontsize(max(_SMALLEST_TEXT, size * min(1, room)))


def view_of(annotations: Annotations, frame: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of a frame worth showing: the content and a strip of padding."""
    height, width = frame
    if annotations.content is None:
        return height, width
    _, _, y_max, x_max = annotations.content
    return min(height, int(y_max + 0.05 * height)), min(width, int(x_max + 0.05 * width))


def shade_padding(axes: Axes, annotations: Annotations, frame: tuple[int, int]) -> None:
    """Shade what lies in the frame beside the image."""
    if annotations.content is None:
        return
    y_min, x_min, y_max, x_max = annotations.content
    height, width = frame
    for box in ((0, 0, height, x_min), (0, x_max, height, width),
                (0, x_min, y_min, x_max), (y_max, x_min, height, x_max)):  # fmt: skip
        if box[2] > box[0] and box[3] > box[1]:
            shade = {"fill": True, "facecolor": "#3a3a40", "hatch": "..", "alpha": 0.85}
            axes.add_patch(rectangle(np.array(box), "#55555c", 0, **shade))


def padding_key() -> Patch:
    """Return the legend's entry for `shade_padding`."""
    return Patch(facecolor="#3a3a40", hatch="..", edgecolor="#55555c", label="padding")


def box_key(colour: str, label: str, **more: Any) -> Patch:
    """Return the legend's entry for a box."""
    return Patch(facecolor="none", edgecolor=colour, label=label, **more)


def dot_key(colour: str, label: str, *, edge: str = "black", size: float = 6) -> Line2D:
    """Return the legend's entry for a dot."""
    return Line2D(
        [], [], linestyle="", marker="o", markersize=size, markerfacecolor=colour,
        markeredgecolor=edge, markeredgewidth=1.4 if edge != "black" else 0.5, label=label,
    )  # fmt: skip


def check_object(index: int | None, count: int) -> None:
    """Raise ValueError if an object is asked for that an image does not have."""
    if index is not None and not 0 <= index < count:
        raise ValueError(f"object={index}: the image has {count} objects, from 0")


def rectangle(box: NDArray[Any], colour: str, line: float, **more: Any) -> Rectangle:
    """Return the outline of a box `(y_min, x_min, y_max, x_max)`."""
    y_min, x_min, y_max, x_max = (float(edge) for edge in box)
    options: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": line} | more
    return Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, **options)


def class_name(classes: Sequence[str], label: int) -> str:
    """Return a label's name, or its number where it has none that can be drawn."""
    if not 0 <= label < len(classes):
        return f"class {label}"
    name = printable(classes[label])
    return name if style.drawable(name) == name else f"class {label}"


def write_labels(
    axes: Axes, texts: list[tuple[NDArray[Any], str, str, float]], pixel: float
) -> int:
    """Write labels at their boxes, the most important first; return how many found no room."""
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    taken: list[tuple[float, float, float, float]] = []
    hidden = 0
    for box, text, colour, _ in sorted(texts, key=lambda entry: -entry[3]):
        w, h, room = (6.1 * len(text) + 8) * pixel, 15 * pixel, width / pixel - 8
        if w > width:  # wider than the image: as much of it as surely fits
            text, w = f"{text[: max(1, int(room / 8) - 1)]}…", width
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
            free[0] + 3 * pixel, (free[1] + free[3]) / 2, text, fontsize=7.6,
            color=style.on_dark(colour),
            va="center", ha="left", clip_on=True, parse_math=False,
            bbox={"facecolor": style.TEXT_BACK, "edgecolor": "none", "pad": 1.4},
        )  # fmt: skip
    return hidden
