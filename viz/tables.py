"""Tables on a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ytrue.viz.numbers import Table, escape, numbers_table, tell
from ytrue.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from ytrue.auditing import Audit
    from ytrue.datasets.dataset import Dataset
    from ytrue.errors import Problem
    from ytrue.jointauditing import JointAudit
    from ytrue.pointauditing import PointAudit

_MOST_CLASSES = 15
_MOST_ROWS = 40
_LOSSES_SHOWN = 20


def print_dataset(dataset: Dataset, console: Console) -> None:
    """Print what a dataset holds: images, objects, splits, keypoints, classes, sizes."""
    tell(console, f"[bold]{escape(dataset.source)}[/] · {escape(dataset.format)}")
    tell(console, "  " + ", ".join(_contents(dataset)))
    for line in (*_splits(dataset), *_keypoints(dataset), *dataset.notes):
        tell(console, f"  {escape(line)}")
    if len(dataset):
        sizes = Counter(
            zip(dataset.images.width.tolist(), dataset.images.height.tolist(), strict=True)
        )
        common = ", ".join(f"{w}x{h} ({n:,})" for (w, h), n in sizes.most_common(3))
        tell(console, f"  sizes (width x height): {common}{' ...' if len(sizes) > 3 else ''}")
    counts = np.bincount(dataset.objects.label, minlength=dataset.num_classes)
    table = numbers_table("class", "id in file", "objects")
    for label in np.argsort(-counts, kind="stable")[:_MOST_CLASSES]:
        table.add_row(dataset.classes[label], dataset.class_ids[label], f"{counts[label]:,}")
    console.print(table)
    _tell_rest(console, dataset.num_classes - _MOST_CLASSES, "--json lists all")


def _contents(dataset: Dataset) -> Iterator[str]:
    objects = dataset.objects
    crowds = int(objects.crowd.sum())
    yield counted(len(dataset), "image")
    if crowds and crowds == len(objects):
        yield counted(crowds, "object") + ": all of them crowds, which teach nothing"
    else:
        yield counted(len(objects), "object") + (f" ({crowds:,} crowd)" if crowds else "")
    yield counted(dataset.num_classes, "class", "classes")
    if len(objects.parts) > 1:
        yield counted(len(objects.parts) - 1, "polygon part")
    if objects.rles:
        yield counted(len(objects.rles), "mask")
    if objects.keypoints is not None:
        yield counted(dataset.num_keypoints, "keypoint") + " an object"


def _splits(dataset: Dataset) -> Iterator[str]:
    counts = Counter(split for splits in dataset.images.splits for split in splits)
    if not counts:
        return
    said = ", ".join(f"{name} ({counted(counts[name], 'image')})" for name in dataset.splits)
    several = "; read as one dataset: --split reads one of them" if len(counts) > 1 else ""
    yield f"{'splits' if len(counts) > 1 else 'split'}: {said}{several}"


def _keypoints(dataset: Dataset) -> Iterator[str]:
    flips, names = dataset.keypoint_flips, dataset.keypoint_names
    if dataset.objects.keypoints is None:
        return
    if flips is None:
        yield "left and right: not known, so nothing is mirrored; --flip-pairs says it"
    elif not flips:
        yield "left and right: no keypoint has a side"
    else:
        pairs = (" and ".join(names[k] if names else str(k) for k in pair) for pair in flips)
        yield f"left and right: a flip swaps {', '.join(pairs)}"


def _tell_rest(console: Console, left_out: int, where: str) -> None:
    if left_out > 0:
        tell(console, f"  ... and {counted(left_out, 'more class', 'more classes')} ({where})")


def print_problems(dataset: Dataset, console: Console, *, examples: int = 2) -> None:
    """Print the problems by kind, with a few examples of each."""
    if not dataset.problems:
        tell(console, "[green]no problems found[/]")
        return
    tell(console, f"[bold]{counted(len(dataset.problems), 'problem')}[/]")
    by_kind: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in dataset.problems:
        by_kind[problem.kind, problem.action].append(problem)
    for (kind, action), found in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        tell(console, f"  [yellow]{len(found):,} x {kind}[/] ({action})")
        for problem in found[:examples]:
            tell(console, f"    {escape(problem.where)}: {escape(problem.detail)}")
        if len(found) > examples:
            tell(console, f"    ... and {len(found) - examples:,} more (--json lists all)")


def print_losses(lost: Sequence[Problem], console: Console) -> None:
    """Print what a conversion left out: each kind of thing once, counted, with a place."""
    by_detail: dict[str, list[Problem]] = defaultdict(list)
    for problem in lost:
        by_detail[problem.detail].append(problem)
    tell(console, f"[bold]not written, or not as it was: {counted(len(lost), 'problem')}[/]")
    for detail, found in list(by_detail.items())[:_LOSSES_SHOWN]:
        times = f"{len(found):,} x such as " if len(found) > 1 else ""
        tell(console, f"  {times}{escape(found[0].where)}: {escape(detail)}")
    if len(by_detail) > _LOSSES_SHOWN:
        tell(console, f"  ... and {len(by_detail) - _LOSSES_SHOWN:,} more (--json lists all)")


def print_audit(audit: Audit | PointAudit | JointAudit, console: Console) -> None:
    """Print an audit: outcomes, what objects or points own, tables, advice; part by part."""
    from ytrue.jointauditing import JointAudit
    from ytrue.pointauditing import PointAudit

    if isinstance(audit, JointAudit):
        for name, part in audit.parts.items():
            tell(console, f"[bold]{escape(name)}[/]")
            print_audit(part, console)
    elif isinstance(audit, PointAudit):
        _print_points(audit, console)
    else:
        _print_objects(audit, console)


def _print_objects(audit: Audit, console: Console) -> None:
    tell(
        console,
        f"[bold]{counted(audit.num_images, 'image')}, {counted(audit.num_objects, 'object')}[/] at "
        f"{audit.image_size[0]}x{audit.image_size[1]} ({audit.resize}), "
        f"{audit.positions:,} positions an image",
    )
    outcomes = ", ".join(f"{n:,} {name}" for name, n in audit.outcomes().items() if n)
    tell(console, f"  {outcomes or 'no objects'}")
    owned = ", ".join(f"{n:,} own {name}" for name, n in audit.owned().items())
    tell(console, f"  {owned}; {audit.ignored_share:.2%} of positions are ignored")
    console.print(_summary("size at input", audit.by_size(), audit))
    console.print(_summary("width : height", audit.by_ratio(), audit))
    console.print(_summary("level", audit.by_level(), audit))
    classes = sorted(audit.by_class().items(), key=lambda item: -item[1]["objects"])
    console.print(_summary("class", dict(classes[:_MOST_CLASSES]), audit))
    _tell_rest(console, len(classes) - _MOST_CLASSES, "--json, --html list all")
    worst = audit.worst_images(5)
    if worst:
        named = ", ".join(
            f"{escape(str(row['image_id']))} ({row['lost']} lost, {row['forced']} forced)"
            for row in worst
        )
        tell(console, f"[bold]look at[/] {named}")
    for sentence in audit.advice():
        tell(console, f"[yellow]•[/] {escape(sentence)}")


def _print_points(audit: PointAudit, console: Console) -> None:
    tell(
        console,
        f"[bold]{counted(audit.num_images, 'image')}, {counted(audit.num_points, 'point')}[/] at "
        f"{audit.image_size[0]}x{audit.image_size[1]} ({audit.resize}), {audit.slots:,} slots an "
        f"image, {audit.occupied_share:.2%} of them occupied",
    )
    outcomes = ", ".join(f"{n:,} {name}" for name, n in audit.outcomes().items() if n)
    tell(console, f"  {outcomes or 'no points'}")
    for name, rows in (("grid", audit.by_grid()), ("class", audit.by_class())):
        table = numbers_table(name, "points", "lost", "to collisions")
        for label, row in list(rows.items())[:_MOST_ROWS]:
            table.add_row(label, *(f"{row[key]:,}" for key in ("points", "lost", "taken")))
        console.print(table)
        if len(rows) > _MOST_ROWS:
            tell(console, f"  ... and {len(rows) - _MOST_ROWS} more")
    for sentence in audit.advice():
        tell(console, f"[yellow]•[/] {escape(sentence)}")


def _summary(name: str, rows: Mapping[str, Mapping[str, float]], audit: Audit) -> Table:
    quantiles = ("best IoU p10", "median", "p90") if audit.by_overlap else ()
    table = numbers_table(name, "objects", "lost", "forced", "positives", *quantiles)
    for label, row in rows.items():
        if not row["objects"]:
            continue
        ious = [row[f"best_iou_{one}"] for one in ("p10", "median", "p90") if audit.by_overlap]
        table.add_row(
            label, f"{row['objects']:,.0f}", f"{row['lost']:,.0f}", f"{row['forced']:,.0f}",
            f"{row['positives']:,.0f}", *("-" if iou != iou else f"{iou:.2f}" for iou in ious),
        )  # fmt: skip
    return table
