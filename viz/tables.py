"""Tables on a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ytrue.auditing import Audit
from ytrue.datasets.dataset import Dataset
from ytrue.errors import Problem
from ytrue.jointauditing import JointAudit
from ytrue.pointauditing import PointAudit
from ytrue.viz.numbers import numbers_table

_MOST_CLASSES = 15
_MOST_ROWS = 40


def print_dataset(dataset: Dataset, console: Console) -> None:
    """Print what a dataset holds: images, objects, classes, sizes."""
    console.print(f"[bold]{escape(str(dataset.source))}[/] · {dataset.format}")
    crowd = int(dataset.objects.crowd.sum())
    kinds = [
        (f"{len(dataset):,}", "images"),
        (f"{dataset.num_objects:,}", f"objects ({crowd} crowd)" if crowd else "objects"),
        (f"{dataset.num_classes}", "classes"),
    ]
    if len(dataset.objects.parts) > 1:
        kinds.append((f"{len(dataset.objects.parts) - 1:,}", "polygon parts"))
    if dataset.objects.rles:
        kinds.append((f"{len(dataset.objects.rles):,}", "masks"))
    if dataset.objects.keypoints is not None:
        kinds.append((f"{dataset.objects.keypoints.shape[1]}", "keypoints an object"))
    console.print("  " + ", ".join(f"{number} {what}" for number, what in kinds))
    if len(dataset):
        sizes = Counter(
            zip(dataset.images.width.tolist(), dataset.images.height.tolist(), strict=True)
        )
        common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(3))
        console.print(f"  sizes (width x height): {common}{' ...' if len(sizes) > 3 else ''}")
    counts = np.bincount(dataset.objects.label, minlength=dataset.num_classes)
    table = Table("class", "id in file", "objects", box=None, header_style="bold")
    for label in np.argsort(-counts, kind="stable")[:_MOST_CLASSES]:
        table.add_row(
            escape(dataset.classes[label]),
            escape(str(dataset.class_ids[label])),
            f"{counts[label]:,}",
        )
    console.print(table)
    if dataset.num_classes > _MOST_CLASSES:
        console.print(f"  ... and {dataset.num_classes - _MOST_CLASSES} more classes")


def print_problems(dataset: Dataset, console: Console, *, examples: int = 2) -> None:
    """Print the problems by kind, with a few examples of each."""
    if not dataset.problems:
        console.print("[green]no problems found[/]")
        return
    console.print(f"[bold]{len(dataset.problems)} problems[/]")
    by_kind: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in dataset.problems:
        by_kind[problem.kind, problem.action].append(problem)
    for (kind, action), found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        console.print(f"  [yellow]{len(found)} x {kind}[/] ({action})")
        for problem in found[:examples]:
            console.print(f"    {escape(problem.where)}: {escape(problem.detail)}", highlight=False)
        if len(found) > examples:
            console.print(f"    ... and {len(found) - examples} more (--json lists all)")


def print_audit(audit: Audit | PointAudit | JointAudit, console: Console) -> None:
    """Print an audit: outcomes, what objects or points own, tables, advice; part by part."""
    if isinstance(audit, JointAudit):
        for name, part in audit.parts.items():
            console.print(f"[bold]{escape(name)}[/]")
            print_audit(part, console)
    elif isinstance(audit, PointAudit):
        _print_points(audit, console)
    else:
        _print_objects(audit, console)


def _print_objects(audit: Audit, console: Console) -> None:
    console.print(
        f"[bold]{audit.num_images:,} images, {audit.num_objects:,} objects[/] at "
        f"{audit.image_size[0]}x{audit.image_size[1]} ({audit.resize}), "
        f"{audit.positions:,} positions an image"
    )
    outcomes = ", ".join(f"{n:,} {name}" for name, n in audit.outcomes().items() if n)
    console.print(f"  {outcomes or 'no objects'}")
    owned = ", ".join(f"{n:,} own {name}" for name, n in audit.owned().items())
    console.print(f"  {owned}; {audit.ignored_share:.2%} of positions are ignored")
    word = audit.forced_word
    console.print(_summary("size at the input", audit.by_size(), audit))
    console.print(_summary("width : height", audit.by_ratio(), audit))
    console.print(_summary("level", audit.by_level(), audit))
    classes = sorted(audit.by_class().items(), key=lambda item: -item[1]["objects"])
    console.print(_summary("class", dict(classes[:_MOST_CLASSES]), audit))
    if len(classes) > _MOST_CLASSES:
        console.print(
            f"  ... and {len(classes) - _MOST_CLASSES} more classes (--json, --html list all)"
        )
    worst = audit.worst_images(5)
    if worst:
        named = ", ".join(
            f"{escape(str(row['image_id']))} ({row['lost']} lost, {row['forced']} {word})"
            for row in worst
        )
        console.print(f"[bold]look at[/] {named}", highlight=False)
    for sentence in audit.advice():
        console.print(f"[yellow]•[/] {escape(sentence)}", highlight=False)


def _print_points(audit: PointAudit, console: Console) -> None:
    console.print(
        f"[bold]{audit.num_images:,} images, {audit.num_points:,} points[/] at "
        f"{audit.image_size[0]}x{audit.image_size[1]} ({audit.resize}), {audit.slots:,} slots an "
        f"image, {audit.occupied_share:.2%} of them occupied"
    )
    outcomes = ", ".join(f"{n:,} {name}" for name, n in audit.outcomes().items() if n)
    console.print(f"  {outcomes or 'no points'}")
    for name, rows in (("grid", audit.by_grid()), ("class", audit.by_class())):
        table = numbers_table(name, "points", "lost", "to collisions")
        for label, row in list(rows.items())[:_MOST_ROWS]:
            table.add_row(escape(label), *(f"{row[key]:,}" for key in ("points", "lost", "taken")))
        console.print(table)
        if len(rows) > _MOST_ROWS:
            console.print(f"  ... and {len(rows) - _MOST_ROWS} more")
    for sentence in audit.advice():
        console.print(f"[yellow]•[/] {escape(sentence)}", highlight=False)


def _summary(name: str, rows: Mapping[str, Mapping[str, float]], audit: Audit) -> Table:
    quantiles = ("best IoU p10", "median", "p90") if audit.by_overlap else ()
    table = numbers_table(name, "objects", "lost", audit.forced_word, "positives", *quantiles)
    for label, row in rows.items():
        if not row["objects"]:
            continue
        ious = [row[f"best_iou_{one}"] for one in ("p10", "median", "p90") if audit.by_overlap]
        table.add_row(
            escape(label), f"{row['objects']:,.0f}", f"{row['lost']:,.0f}", f"{row['forced']:,.0f}",
            f"{row['positives']:,.0f}", *("-" if iou != iou else f"{iou:.2f}" for iou in ious),
        )  # fmt: skip
    return table
