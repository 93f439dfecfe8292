"""Evaluations of points and of keypoints as tables on a terminal, and as curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ytrue.viz import style
from ytrue.viz.evaluation import finish_curves, share
from ytrue.viz.numbers import Table, numbers_table, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

    from ytrue.model.evaluatepoints import KeypointEvaluation, PointEvaluation, PointScores

_MOST_ROWS: Final = 40
_MOST_CLASSES: Final = 15
_MOST_CURVES: Final = 8

# Tables.


def print_point_evaluation(report: PointEvaluation, console: Console) -> None:
    """Print an evaluation of points: PCK, errors and AP of all and of each landmark or class."""
    crowds = f" and {report.num_crowd_points:,} of crowds" if report.num_crowd_points else ""
    tell(
        console,
        f"[bold]{report.num_detections:,} detections[/] against {report.num_points:,} points"
        f"{crowds} in {report.num_images:,} images",
    )
    if not report.num_points:
        tell(console, "[yellow]no point to find: PCK and AP are not defined[/]")
    tell(
        console,
        f"a hit lies within {report.radius:g} of the {report.of}'s longer side; all but AP count "
        f"detections of a score of {report.score_threshold:g} or more",
    )
    table = numbers_table(report.by, "points", "detections", "PCK", "precision", "F1", "AP",
                   "mean error", "median", "nearest", "without")  # fmt: skip
    for row in (report.overall, *report.rows[:_MOST_ROWS]):
        _add_point_row(table, row)
    console.print(table)
    left_out = len(report.rows) - _MOST_ROWS
    if left_out > 0:
        tell(console, f"  ... and {left_out} more (to_json lists all)")
    tell(
        console,
        "  errors in pixels: of the hits; nearest: of every point to the nearest detection of its "
        f"{report.by}; without: points in whose image there is none",
    )
    if report.overall.excused:
        tell(console, f"  {report.overall.excused:,} more detections lie on points of crowds")


def _add_point_row(table: Table, row: PointScores) -> None:
    shares = (row.pck, row.precision, row.f1, row.ap)
    errors = (row.mean_error, row.median_error, row.nearest_error)
    table.add_row(
        row.name, f"{row.points:,}", f"{row.detections:,}", *map(share, shares),
        *("-" if error is None else f"{error:.1f}" for error in errors), f"{row.without:,}",
    )  # fmt: skip


def print_keypoint_evaluation(report: KeypointEvaluation, console: Console) -> None:
    """Print an evaluation of keypoints: COCO's ten numbers, and those of each class."""
    ignored = f" ({report.num_ignored:,} ignored)" if report.num_ignored else ""
    tell(
        console,
        f"[bold]{report.num_detections:,} detections[/] against {report.num_objects:,} objects "
        f"with keypoints{ignored} in {report.num_images:,} images",
    )
    if not report.num_objects:
        tell(console, "[yellow]no object to find: averages are not defined[/]")
    console.print(_coco_table(report))
    if report.detections_over_limit or report.objects_over_limit:
        tell(
            console,
            f"[yellow]COCO's numbers take 20 detections of a class in an image: "
            f"{report.detections_over_limit:,} detections are left out, "
            f"{report.objects_over_limit:,} objects cannot be found[/]",
        )
    table = numbers_table("class", "objects", "detections", "AP", "AP50", "AR")
    for row in sorted(report.by_class, key=lambda row: -row.objects)[:_MOST_CLASSES]:
        shares = map(share, (row.ap, row.ap50, row.ar))
        table.add_row(row.name, f"{row.objects:,}", f"{row.detections:,}", *shares)
    console.print(table)
    left_out = len(report.by_class) - _MOST_CLASSES
    if left_out > 0:
        tell(console, f"  ... and {left_out} more classes (to_json lists all)")


def _coco_table(report: KeypointEvaluation) -> Table:
    table = numbers_table("COCO", "all", "OKS 0.50", "OKS 0.75", "medium", "large")
    for name in ("AP", "AR"):
        numbers = (report.coco[name + which] for which in ("", "50", "75", "m", "l"))
        table.add_row(name, *map(share, numbers))
    return table


# Curves.


def show_point_evaluation(report: PointEvaluation) -> Figure:
    """Draw precision over recall of each landmark or class, and how far detections are off."""
    figure = style.new_figure(1100, 500)
    precision, errors = figure.subplots(1, 2)
    # Those with most points in colour.
    order = np.argsort([-row.points for row in report.rows], kind="stable")
    drawn = [int(row) for row in order if report.rows[row].points]
    _precision_curves(precision, report, drawn)
    _error_curves(errors, report, drawn)
    overall = report.overall
    figure.suptitle(
        f"{report.num_images:,} images, {report.num_points:,} points, "
        f"{report.num_detections:,} detections: PCK {share(overall.pck)}, AP {share(overall.ap)}",
        fontsize=12,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _precision_curves(axes: Axes, report: PointEvaluation, drawn: list[int]) -> None:
    for place, row in enumerate(drawn):
        recall, precision = report.curves[row]
        reached = np.maximum.accumulate(precision[::-1])[::-1]  # as AP takes it
        x, y = np.append(0.0, recall), np.append(np.append(reached, 0.0)[0], reached)
        axes.step(x, y, where="pre", **_line(report, row, place))
    rest = len(drawn) - _MOST_CURVES
    more = f" ({rest} more in grey)" if rest > 0 else ""
    side = f"{report.radius:g} of the {report.of}"
    finish_curves(axes, f"precision over recall by {report.by}, within {side}{more}")


def _error_curves(axes: Axes, report: PointEvaluation, drawn: list[int]) -> None:
    """Draw the share of points with a detection of theirs within so many pixels."""
    every = report.point_nearest[~np.isnan(report.point_nearest)]
    # Twice the 75th percentile: beyond it there is little but misses.
    most = max(1.0, 2 * float(np.percentile(every, 75))) if every.size else 1.0
    for place, row in enumerate(drawn):
        errors = report.point_nearest[report.point_row == row]
        near = np.sort(errors[errors <= most])
        shares = np.arange(len(near) + 1) / len(errors)
        x, y = np.concatenate(([0.0], near, [most])), np.append(shares, shares[-1])
        axes.step(x, y, where="post", **_line(report, row, place))
    axes.set(xlim=(0, most), ylim=(0, 1.02), ylabel="share of points")
    axes.set_xlabel(f"pixels to the nearest detection of their {report.by}")
    axes.grid(alpha=0.25)
    style.finish(axes, f"how near detections come, from a score of {report.score_threshold:g}")


def _line(report: PointEvaluation, row: int, place: int) -> dict[str, Any]:
    """Return how the curve of a landmark is drawn that comes at this place by its points."""
    if place >= _MOST_CURVES:
        return {"color": "#BBBBBB", "lw": 0.6, "zorder": 1}
    scores = report.rows[row]
    name = scores.name if len(scores.name) <= 18 else scores.name[:17] + "…"
    label = f"{name}: AP {share(scores.ap)}, PCK {share(scores.pck)}"
    return {"color": style.CURVES[place], "lw": 1.6, "zorder": 2, "label": label}
