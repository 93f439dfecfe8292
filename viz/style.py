"""Colours, fonts, and figures as files. Nothing here leaves matplotlib's settings changed."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ytrue.files import MARK, picture_format, replace_file
from ytrue.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
_WORLDLY: Final = (
    "Arial Unicode MS", "Droid Sans Fallback", "Hiragino Sans", "IPAGothic", "Malgun Gothic",
    "Microsoft YaHei", "MS Gothic", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans KR",
    "Noto Sans SC", "PingFang SC", "SimHei", "Source Han Sans SC", "Unifont", "WenQuanYi Zen Hei",
)  # fmt: skip
"""Fonts that hold Chinese, Japanese or Korean, of the usual systems."""
_LEAST_BRIGHTNESS: Final = 0.5
_MARKED: Final[dict[str, dict[str, Any]]] = {
    "png": {"metadata": {"Software": MARK}},
    "jpeg": {"pil_kwargs": {"quality": 88, "subsampling": 0, "comment": MARK}},
    "svg": {"metadata": {"Creator": MARK}},
    "pdf": {"metadata": {"Creator": MARK}},
}
"""Format -> how it is written, with our mark in it."""


def level_colour(level: int, finest: int) -> str:
    """Return the colour of a pyramid level."""
    return LEVELS[(level - finest) % len(LEVELS)]


def on_dark(colour: str) -> str:
    """Return a colour for text on `TEXT_BACK`: itself, or as much lighter as it takes to read it.

    Brightness is that of Rec. 601, 0.299 R + 0.587 G + 0.114 B.
    """
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(colour)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    if brightness >= _LEAST_BRIGHTNESS:
        return colour
    white = (_LEAST_BRIGHTNESS - brightness) / (1 - brightness)
    rest = 1 - white
    return to_hex((red * rest + white, green * rest + white, blue * rest + white))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of (width, height) pixels with a canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def finish(axes: Axes, title: str) -> None:
    """Give a plot its title, and no frame above and to the right."""
    axes.set_title(title, fontsize=9.5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


@cache
def families() -> list[str]:
    """Return the fonts to draw with: matplotlib's own, then those that hold the world's characters."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *sorted(there & set(_WORLDLY))]


def drawable(text: str) -> str:
    """Return foreign text as it can be drawn: a "?" for what no font here holds."""
    return "\n".join(
        "".join(one if _is_held(one) else "?" for one in printable(line))
        for line in text.split("\n")
    )


@cache
def _is_held(character: str) -> bool:
    from matplotlib import font_manager

    paths = (font_manager.findfont(family) for family in families())
    return any(font_manager.get_font(path).get_char_index(ord(character)) for path in paths)


def make_drawable(figure: Figure) -> None:
    """Draw all texts of a figure in fonts that hold them, and replace what no font holds."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(drawable(text.get_text()))
        text.set_fontfamily(families())


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    return _bytes(figure, "png")


def jpeg_bytes(figure: Figure) -> bytes:
    """Return a figure as JPEG bytes, a third of the PNG's where it shows a photograph."""
    return _bytes(figure, "jpeg")


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    make_drawable(figure)
    figure.savefig(buffer, format=kind, **_MARKED[kind])
    return buffer.getvalue()


def save_picture(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a file of the format that its extension names, and return its path.

    Raises:
        ValueError: no .png, .jpg, .jpeg, .svg or .pdf.
    """
    target = Path(path)
    content = _bytes(figure, picture_format(target))
    replace_file(target, lambda file: file.write(content))
    return target


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG file and return its path.

    Raises:
        ValueError: the name is another format's.
    """
    if picture_format(Path(path)) != "png":
        raise ValueError(f"{path}: expected a name in .png; save_picture writes other formats")
    return save_picture(figure, path)
