"""What grids of cells cost a dataset's keypoints, as a table and as plots."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np

from ytrue.tuning import OFFSET_BINS, KeypointChoice, KeypointTuning
from ytrue.viz import style
from ytrue.viz.numbers import escape, numbers_table, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

_MOST_PANELS: Final = 6
_FINEST: Final = 8  # pixels of a cell on the finest level of the bundled pyramid, P3
_BARS: Final = " ▁▂▃▄▅▆▇█"


def print_tuning(tuning: KeypointTuning, console: Console) -> None:
    """Print every candidate by rising output size, and the recommended one."""
    height, width = tuning.image_size
    aside = f", {tuning.not_taught:,} labelled but not taught" if tuning.not_taught else ""
    tell(
        console,
        f"[bold]{tuning.images:,} images, {tuning.points:,} points[/] at {height}x{width} "
        f"({tuning.resize}){aside}; slots {tuning.slots}, {tuning.num_classes} classes",
    )
    table = numbers_table(
        "grid", "points", "numbers", "lost", "share", "occupied", "offsets y", "offsets x"
    )
    for choice in tuning.choices:
        table.add_row(
            _name(choice), f"{choice.points_per_cell}", f"{choice.output_size:,}",
            f"{choice.lost:,}", f"{choice.lost_share:.2%}", f"{choice.occupied_cells:.2%}",
            _bars(choice.offset_y), _bars(choice.offset_x),
            style="bold green" if choice is tuning.recommended else "",
        )  # fmt: skip
    tell(
        console,
        "points: in a cell at most; numbers: in an image's target; lost: to others in their cell; "
        "occupied: cells with a point",
    )
    console.print(table)
    tell(console, escape(verdict(tuning)))


def verdict(tuning: KeypointTuning) -> str:
    """Say in a sentence which grid to take."""
    chosen = tuning.recommended
    if chosen is None:
        return (
            f"No candidate loses at most {tuning.max_lost:.2%} of the points: allow finer grids, "
            "more points in a cell or a larger share."
        )
    plural = "s" * (chosen.points_per_cell != 1)
    small = chosen.grid[0] > -(-tuning.image_size[0] // _FINEST)
    beyond = (
        f" The bundled network has no cells that small: to train it, tune with strides from {_FINEST} on."
        if small else ""
    )  # fmt: skip
    return (
        f"Recommended: {_name(chosen)} cells with {chosen.points_per_cell} point{plural} in a cell, "
        f"the smallest output that loses at most {tuning.max_lost:.2%} of the points "
        f"({chosen.lost_share:.2%}). Take it with --task keypoints {_settings(tuning, chosen)}."
        + beyond
    )


def _settings(tuning: KeypointTuning, chosen: KeypointChoice) -> str:
    """Return the choice as options of the verbs that take a task."""
    values = {"points_per_cell": chosen.points_per_cell} | {
        name: getattr(tuning, name) for name in ("slots", "classes", "hidden")
    }
    grid = "global" if chosen.grid == (1, 1) else _name(chosen)
    return " ".join(f"--set {name}={value}" for name, value in {"grid": grid, **values}.items())


def show_tuning(tuning: KeypointTuning) -> Figure:
    """Draw the share of lost points over output size, and where points lie inside their cells."""
    grids: dict[tuple[int, int], list[KeypointChoice]] = defaultdict(list)
    for choice in tuning.choices:
        grids[choice.grid].append(choice)
    finest_first = sorted(grids.values(), key=lambda row: -row[0].grid[0] * row[0].grid[1])
    figure = style.new_figure(1200, 560)
    places = figure.add_gridspec(
        2, 4, left=0.06, right=0.985, bottom=0.1, top=0.86, width_ratios=(4, 1, 1, 1),
        wspace=0.15, hspace=0.35,
    )  # fmt: skip
    _losses(figure.add_subplot(places[:, 0]), finest_first, tuning)
    panels = [figure.add_subplot(places[k // 3, 1 + k % 3]) for k in range(_MOST_PANELS)]
    _offsets(panels, finest_first)
    figure.suptitle(
        f"{tuning.images:,} images, {tuning.points:,} points at "
        f"{tuning.image_size[0]}x{tuning.image_size[1]}\n{verdict(tuning)}",
        fontsize=10.5,
    )
    return figure


def _losses(axes: Axes, grids: list[list[KeypointChoice]], tuning: KeypointTuning) -> None:
    from matplotlib.ticker import PercentFormatter

    for place, row in enumerate(grids):
        ordered = sorted(row, key=lambda choice: choice.points_per_cell)
        sizes = [choice.output_size for choice in ordered]
        colour = style.LEVELS[place % len(style.LEVELS)]
        shares = [choice.lost_share for choice in ordered]
        axes.plot(sizes, shares, "o-", ms=4, lw=1.2, color=colour, label=_name(ordered[0]))
        for choice in ordered:
            axes.annotate(
                str(choice.points_per_cell), (choice.output_size, choice.lost_share),
                xytext=(3, 3), textcoords="offset points", fontsize=7, color="#555555",
            )  # fmt: skip
    axes.axhline(tuning.max_lost, color=style.LOST, lw=1, ls="--", label="may be lost")
    chosen = tuning.recommended
    if chosen is not None:
        axes.plot(
            chosen.output_size, chosen.lost_share, "o", ms=13, mfc="none", mec="black",
            label="recommended", ls="",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("numbers in an image's target (at each dot: points in a cell)", fontsize=8.5)
    axes.legend(fontsize=8, framealpha=0.8)
    style.finish(axes, "points lost to others in their cell")


def _offsets(panels: list[Axes], grids: list[list[KeypointChoice]]) -> None:
    middle = (np.arange(OFFSET_BINS) + 0.5) / OFFSET_BINS
    for axes, row in zip(panels, grids, strict=False):
        for name, counts, shift in (("y", row[0].offset_y, -0.02), ("x", row[0].offset_x, 0.02)):
            share = np.array(counts) / max(1, sum(counts))
            colour = style.LEVELS[1] if name == "y" else style.LEVELS[5]
            axes.bar(middle + shift, share, width=0.04, color=colour, label=name)
        axes.axhline(1 / OFFSET_BINS, color="#555555", lw=0.8, ls=":")
        axes.set_yticks([])
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        style.finish(axes, f"offsets in {_name(row[0])}")
    panels[0].legend(fontsize=7, loc="lower left")
    for axes in panels[min(len(grids), _MOST_PANELS) :]:
        axes.set_axis_off()


def _bars(counts: tuple[int, ...]) -> str:
    """Return a histogram as characters, as high as its fullest bin."""
    fullest = max(*counts, 1)
    return "".join(_BARS[round(count / fullest * (len(_BARS) - 1))] for count in counts)


def _name(choice: KeypointChoice) -> str:
    return "global" if choice.grid == (1, 1) else f"{choice.grid[0]}x{choice.grid[1]}"
