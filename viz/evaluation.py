"""An evaluation as tables on a terminal, and as curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ytrue.viz import style
from ytrue.viz.numbers import Table, escape, numbers_table, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

    from ytrue.model.evaluate import ClassScores, Evaluation

_MOST_CLASSES: Final = 15
_MOST_CURVES: Final = 8
_MOST_MISTAKEN: Final = 5
_RECALL: Final = np.linspace(0, 1, 101)
_IOUS: Final = {0: "0.50", 5: "0.75", 8: "0.90"}
"""Places in `Evaluation.precision` of the IoUs that are drawn."""

# Tables.


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation: COCO's twelve numbers, VOC's AP, classes, and objects by size."""
    crowds = f" and {evaluation.num_crowds:,} crowds" if evaluation.num_crowds else ""
    tell(
        console,
        f"[bold]{evaluation.num_detections:,} detections[/] against {evaluation.num_objects:,} "
        f"objects{crowds} in {evaluation.num_images:,} images",
    )
    if not evaluation.num_objects:
        tell(console, "[yellow]no object to find: averages are not defined[/]")
    console.print(_coco_table(evaluation))
    tell(
        console,
        f"VOC's AP50: {share(evaluation.voc_ap50)} (area under the curve), "
        f"{share(evaluation.voc_ap50_11)} (11 points of VOC2007)",
    )
    _print_limit(evaluation, console)
    console.print(_class_table(evaluation))
    left_out = len(evaluation.by_class) - _MOST_CLASSES
    if left_out > 0:
        tell(console, f"  ... and {left_out} more classes (--json lists all)")
    tell(
        console,
        f"[bold]objects and detections of a score of {evaluation.score_threshold:g} or more[/], "
        "at IoU 0.5",
    )
    console.print(_size_table(evaluation))
    _print_mistaken(evaluation, console)


def _coco_table(evaluation: Evaluation) -> Table:
    table = numbers_table("COCO", "all", "IoU 0.50", "IoU 0.75", "small", "medium", "large")
    numbers = {name: share(value) for name, value in evaluation.coco.items()}
    precision = (numbers[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"))
    table.add_row("AP", *precision)
    sizes = (numbers[name] for name in ("ARs", "ARm", "ARl"))
    table.add_row("AR, 100 detections", numbers["AR100"], "", "", *sizes)
    table.add_row("AR, 10 detections", numbers["AR10"])
    table.add_row("AR, 1 detection", numbers["AR1"])
    return table


def _print_limit(evaluation: Evaluation, console: Console) -> None:
    if evaluation.detections_over_limit or evaluation.objects_over_limit:
        tell(
            console,
            f"[yellow]COCO's numbers take 100 detections of a class in an image: "
            f"{evaluation.detections_over_limit:,} detections are left out, "
            f"{evaluation.objects_over_limit:,} objects cannot be found[/]",
        )


def _by_objects(evaluation: Evaluation) -> list[ClassScores]:
    return sorted(evaluation.by_class, key=lambda row: -row.objects)


def _class_table(evaluation: Evaluation) -> Table:
    table = numbers_table(
        "class", "objects", "detections", "AP", "AP50", "AR100", "VOC AP50", "11 points"
    )
    for row in _by_objects(evaluation)[:_MOST_CLASSES]:
        shares = (row.ap, row.ap50, row.ar100, row.voc_ap50, row.voc_ap50_11)
        table.add_row(row.name, f"{row.objects:,}", f"{row.detections:,}", *map(share, shares))
    return table


def _size_table(evaluation: Evaluation) -> Table:
    table = numbers_table("size", "objects", "found", "of a wrong class", "missed", "false alarms")
    for part in evaluation.confusion:
        counts = (part.objects, part.found, part.wrong_class, part.missed, part.false_alarms)
        table.add_row(part.size, *(f"{count:,}" for count in counts))
    return table


def _print_mistaken(evaluation: Evaluation, console: Console) -> None:
    names = [escape(row.name) for row in evaluation.by_class]
    for part in evaluation.confusion:
        cells = part.mistaken(_MOST_MISTAKEN)
        if cells:
            said = ", ".join(f"{names[a]} as {names[b]} ({times})" for a, b, times in cells)
            tell(console, f"  {part.size}: {said}")


def share(value: float | None) -> str:
    """Return a share in three decimals, "-" where it is not defined."""
    return "-" if value is None else f"{value:.3f}"


# Curves.


def show_evaluation(evaluation: Evaluation) -> Figure:
    """Draw precision over recall of the classes and of their mean, and objects by size."""
    figure = style.new_figure(1440, 500)
    classes, mean, sizes = figure.subplots(1, 3, width_ratios=(1.15, 1, 0.85))
    _class_curves(classes, evaluation)
    _mean_curves(mean, evaluation)
    _size_bars(sizes, evaluation)
    figure.suptitle(
        f"{evaluation.num_images:,} images, {evaluation.num_objects:,} objects, "
        f"{evaluation.num_detections:,} detections: AP {share(evaluation.ap)}, "
        f"AP50 {share(evaluation.ap50)}",
        fontsize=12,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _class_curves(axes: Axes, evaluation: Evaluation) -> None:
    """Draw every class's curve at IoU 0.5, those with most objects in colour."""
    order = np.argsort([-row.objects for row in evaluation.by_class], kind="stable")
    drawn = [label for label in order if evaluation.by_class[label].ap50 is not None]
    for label in drawn[_MOST_CURVES:]:
        axes.plot(_RECALL, evaluation.precision[0, :, label], color="#BBBBBB", lw=0.6, zorder=1)
    for place, label in enumerate(drawn[:_MOST_CURVES]):
        row = evaluation.by_class[label]
        name = row.name if len(row.name) <= 18 else row.name[:17] + "…"
        axes.plot(
            _RECALL, evaluation.precision[0, :, label], lw=1.6, color=style.CURVES[place],
            label=f"{name}: AP {share(row.ap50)}",
        )  # fmt: skip
    rest = len(drawn) - _MOST_CURVES
    more = f" ({rest} more in grey)" if rest > 0 else ""
    finish_curves(axes, f"precision over recall by class, IoU 0.5{more}")


def _mean_curves(axes: Axes, evaluation: Evaluation) -> None:
    """Draw the mean over the classes at several IoUs; the area under each is COCO's AP there."""
    defined = ~np.isnan(evaluation.precision).any(axis=(0, 1))
    if defined.any():
        for place, (k, name) in enumerate(_IOUS.items()):
            mean = evaluation.precision[k][:, defined].mean(axis=1)
            axes.plot(
                _RECALL, mean, lw=1.8, color=style.CURVES[place],
                label=f"IoU {name}: AP {mean.mean():.3f}",
            )  # fmt: skip
    finish_curves(axes, "mean of the classes")


def finish_curves(axes: Axes, title: str) -> None:
    """Give curves of precision over recall their axes, legend and title."""
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[1]:
        legend = axes.legend(fontsize=8, loc="best", framealpha=0.8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        axes.text(0.5, 0.5, "nothing to find", ha="center", color="#777777")
    style.finish(axes, title)


def _size_bars(axes: Axes, evaluation: Evaluation) -> None:
    """Draw the share of the objects of each size that was found, mistaken or missed."""
    parts = evaluation.confusion
    total = np.maximum([part.objects for part in parts], 1)
    bottom = np.zeros(len(parts))
    for name, counts, colour in (
        ("found", [part.found for part in parts], style.BARS),
        ("of a wrong class", [part.wrong_class for part in parts], style.FORCED),
        ("missed", [part.missed for part in parts], style.LOST),
    ):
        shares = counts / total
        axes.bar(range(len(parts)), shares, bottom=bottom, color=colour, label=name)
        bottom += shares
    named = [f"{part.size}\n{part.objects:,} objects" for part in parts]
    axes.set_xticks(range(len(parts)), named)
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    style.finish(axes, f"objects at a score of {evaluation.score_threshold:g} and IoU 0.5")
