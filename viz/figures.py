"""A dataset at a glance, and an audit as plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from ytrue.auditing import Audit
from ytrue.datasets.pixels import pad_to, place_pixels, read_image
from ytrue.errors import DataError
from ytrue.resizing import place
from ytrue.viz import style

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

_TILE: Final = (240, 320)
_MOST_CLASSES: Final = 20


def show_dataset(dataset: Dataset, count: int = 12) -> Figure:
    """Draw a contact sheet: images spread over the dataset, with their boxes."""
    chosen = np.unique(
        np.linspace(0, max(len(dataset) - 1, 0), min(count, len(dataset))).astype(int)
    )
    columns = min(4, max(1, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    figure = style.new_figure(columns * _TILE[1], rows * (_TILE[0] + 22))
    for place_, index in enumerate(chosen):
        axes = figure.add_subplot(rows, columns, place_ + 1)
        _tile(axes, dataset, int(index))
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.93 if rows == 1 else 0.965, 0.02, 0.12)
    return figure


def _tile(axes: Axes, dataset: Dataset, index: int) -> None:
    example = dataset[index]
    placement = place((example.height, example.width), _TILE, "letterbox")
    try:
        pixels = place_pixels(
            lambda shrink: read_image(example.path, shrink=shrink), placement,
            pad=(255, 255, 255), where=str(example.path),
        )  # fmt: skip
    except DataError:
        pixels = pad_to(np.full((1, 1, 3), 220, np.uint8), _TILE, (220, 220, 220))
    axes.imshow(pixels)
    placed = placement.apply(example.annotations.replace(polygons=None, masks=None))
    for box, crowd in zip(placed.boxes, placed.crowd, strict=True):
        corner, sides = (box[1], box[0]), (box[3] - box[1], box[2] - box[0])
        colour = style.CROWD if crowd else style.MATCHED
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=1.1))
    axes.set_xlim(0, _TILE[1])
    axes.set_ylim(_TILE[0], 0)
    axes.set_axis_off()
    said = f"{str(example.image_id)[:28]}: {len(placed)} objects"
    axes.set_title(said, fontsize=8, pad=2, parse_math=False)


def show_audit(audit: Audit) -> Figure:
    """Draw an audit's plots: what objects own, best IoU by size, sizes, levels, ratios, classes."""
    figure = style.new_figure(1280, 760)
    axes = figure.subplots(2, 3).ravel()
    _bars(axes[0], audit.owned(), "objects by positions they own")
    _best_iou(axes[1], audit)
    _sizes(axes[2], audit)
    _stacked(axes[3], audit.by_level(), f"objects by level of their {audit.level_word}")
    _stacked(axes[4], audit.by_ratio(), "objects by width : height")
    classes = sorted(audit.by_class().items(), key=lambda item: -item[1]["objects"])
    _stacked(axes[5], dict(classes[:_MOST_CLASSES]), "objects by class" + _rest(classes))
    figure.suptitle(
        f"{audit.num_images:,} images, {audit.num_objects:,} objects at "
        f"{audit.image_size[0]}x{audit.image_size[1]}: {audit.lost_share:.1%} lost, "
        f"{audit.forced_share:.1%} only forced, {audit.ignored_share:.2%} of positions ignored",
        fontsize=12,
    )
    keys = axes[4].get_legend_handles_labels()  # those of all three plots above it
    figure.legend(*keys, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.03, 1, 0.97))
    return figure


def _rest(classes: Sequence[Any]) -> str:
    return f" (largest {_MOST_CLASSES} of {len(classes)})" if len(classes) > _MOST_CLASSES else ""


def _bars(axes: Axes, counts: dict[str, int], title: str) -> None:
    colours = [style.LOST if name == "0" else style.BARS for name in counts]
    bars = axes.bar(list(counts), list(counts.values()), color=colours)
    axes.bar_label(bars, fontsize=8)
    style.finish(axes, title)


def _best_iou(axes: Axes, audit: Audit) -> None:
    if not audit.by_overlap:
        _stacked(axes, audit.by_size(), "objects by size")
        return
    best = audit.rows.best_iou[audit.matchable]
    axes.hist(best, bins=np.linspace(0, 1, 41).tolist(), color=style.BARS)
    thresholds = []
    encoder = audit.box_encoder
    if encoder.get("matcher", "iou") == "iou":
        names = ("negative_iou", "positive_iou")
        thresholds = [encoder[name] for name in names if name in encoder]
    for threshold in thresholds:
        axes.axvline(threshold, color=style.LOST, lw=1, ls="--")
    dashed = " (dashed: thresholds)" if thresholds else ""
    shapes = " with an anchor on its centre" if audit.by_cell else ""
    style.finish(axes, f"best IoU of each object{shapes}{dashed}")


def _sizes(axes: Axes, audit: Audit) -> None:
    size = audit.size[audit.matchable & (audit.size > 0)]
    if size.size:
        axes.hist(
            size,
            bins=np.geomspace(
                max(size.min(), 1), max(size.max(), 2 * max(size.min(), 1)), 41
            ).tolist(),
            color=style.BARS,
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())
    style.finish(axes, "object size at the network's input, px")


def _stacked(axes: Axes, rows: dict[str, dict[str, float]], title: str) -> None:
    names = [name if len(name) <= 18 else name[:17] + "…" for name in rows]
    lost = np.array([row["lost"] for row in rows.values()], float)
    forced = np.array([row["forced"] for row in rows.values()], float)
    matched = np.array([row["objects"] for row in rows.values()], float) - lost - forced
    y = np.arange(len(names))
    axes.barh(y, matched, color=style.BARS, label="matched")
    axes.barh(y, forced, left=matched, color=style.FORCED, label="only forced")
    axes.barh(y, lost, left=matched + forced, color=style.LOST, label="lost")
    axes.set_yticks(y, names, fontsize=7 if len(names) > 8 else 8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.invert_yaxis()
    style.finish(axes, title)
