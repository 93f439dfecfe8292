"""Colours, and figures as files. Nothing here touches matplotlib's global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind eyes as well.
LEVELS: Final = ("#56B4E9", "#0072B2", "#009E73", "#F0E442", "#CC79A7", "#E69F00", "#999999")
MATCHED: Final = "#00E08A"
FORCED: Final = "#FF9E1B"
LOST: Final = "#FF3B30"
CROWD: Final = "#C9B6FF"
IGNORED: Final = "#FFFFFF"
TEXT_BACK: Final = (0.05, 0.05, 0.08, 0.78)
BARS: Final = "#0072B2"
CURVES: Final = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6BB1",
)
"""As `LEVELS`, but all of them seen as thin lines on white."""

DPI: Final = 100
_LEAST_BRIGHTNESS: Final = 0.5


def level_colour(level: int, finest: int) -> str:
    """Return the colour of a pyramid level."""
    return LEVELS[(level - finest) % len(LEVELS)]


def on_dark(colour: str) -> str:
    """Return a colour for text on `TEXT_BACK`: itself, or as much lighter as it takes to read it.

    Brightness is that of Rec. 601, 0.299 R + 0.587 G + 0.114 B.
    """
    red, green, blue = to_rgb(colour)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    if brightness >= _LEAST_BRIGHTNESS:
        return colour
    white = (_LEAST_BRIGHTNESS - brightness) / (1 - brightness)
    rest = 1 - white
    return to_hex((red * rest + white, green * rest + white, blue * rest + white))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of (width, height) pixels with a canvas of its own."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def finish(axes: Axes, title: str) -> None:
    """Give a plot its title, and no frame above and to the right."""
    axes.set_title(title, fontsize=9.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def jpeg_bytes(figure: Figure) -> bytes:
    """Return a figure as JPEG bytes, a third of the PNG's where it shows a photograph."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 88, "subsampling": 0})
    return buffer.getvalue()


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG file and return its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(png_bytes(figure))
    return target
