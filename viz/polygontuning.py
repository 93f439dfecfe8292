"""What bins cost a dataset's outlines, as a table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ytrue.polygontuning import PolygonTuning
from ytrue.viz.numbers import numbers_table, tell

if TYPE_CHECKING:
    from rich.console import Console


def print_polygon_tuning(tuning: PolygonTuning, console: Console) -> None:
    """Print the mean IoU of each number of bins, by size, and what is recommended."""
    height, width = tuning.image_size
    tell(
        console,
        f"[bold]{tuning.images:,} images, {tuning.objects:,} outlines[/] at {height}x{width} "
        f"({tuning.resize}); {tuning.several_parts:,} with parts that do not count, "
        f"{tuning.without_outline:,} objects without outline",
    )
    sizes = [name for name, count in tuning.sizes.items() if count]
    table = numbers_table("bins", "mean IoU", "1 in 20 below", *(f"{s} ({tuning.sizes[s]:,})" for s in sizes),
                  "vertices kept")  # fmt: skip
    for choice in (*tuning.choices, tuning.limit):
        table.add_row(
            str(choice.bins) if choice.bins else "all vertices",
            f"{choice.mean_iou:.3f}", f"{choice.worst_iou:.3f}",
            *(f"{choice.by_size[name]:.3f}" for name in sizes), f"{choice.kept_share:.1%}",
        )  # fmt: skip
    console.print(table)
    chosen = tuning.recommended
    tell(
        console,
        f"Recommended: {chosen.bins} bins, the fewest within {tuning.max_loss:g} of the best mean IoU. "
        f"Take them with --task polygon --set bins={chosen.bins} --set part_rule={tuning.part_rule} "
        f"--set points={tuning.points}.",
    )
