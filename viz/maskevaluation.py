"""An evaluation of masks as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ytrue.viz.evaluation import share
from ytrue.viz.numbers import numbers_table, tell

if TYPE_CHECKING:
    from rich.console import Console

    from ytrue.model.evaluatemasks import MaskEvaluation

_MOST_CLASSES: Final = 15


def print_mask_evaluation(report: MaskEvaluation, console: Console) -> None:
    """Print an evaluation of masks: COCO's twelve numbers, and those of each class."""
    tell(
        console,
        f"[bold]{report.num_detections:,} masks[/] against those of {report.num_objects:,} objects "
        f"in {report.num_images:,} images; mean of the objects' best IoUs "
        f"{share(report.mean_best_iou)}",
    )
    if not report.num_objects:
        tell(console, "[yellow]no object to find: averages are not defined[/]")
    numbers = numbers_table(
        "COCO, masks", "all", "IoU 0.50", "IoU 0.75", "small", "medium", "large"
    )
    numbers.add_row(
        "AP", *(share(report.coco[name]) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"))
    )
    console.print(numbers)
    classes = numbers_table("class", "objects", "detections", "AP", "AP50")
    for row in sorted(report.by_class, key=lambda row: -row.objects)[:_MOST_CLASSES]:
        classes.add_row(
            row.name, f"{row.objects:,}", f"{row.detections:,}", share(row.ap),
            share(row.ap50),
        )  # fmt: skip
    console.print(classes)
    left_out = len(report.by_class) - _MOST_CLASSES
    if left_out > 0:
        tell(console, f"  ... and {left_out} more classes (to_json lists all)")
