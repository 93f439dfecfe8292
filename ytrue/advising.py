"""Advice in words, from an audit's numbers. Each rule says its numbers; silence is good news."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from ytrue.contract import OUTCOMES
from ytrue.words import counted

if TYPE_CHECKING:
    from ytrue.auditing import Audit

    Rules = tuple[Callable[[Audit], Iterator[str]], ...]

TINY_PIXELS: Final = 12.0
MANY: Final = 0.15  # a share that is worth a sentence
FEW_OBJECTS: Final = 10
IMBALANCE: Final = 100.0
POOR_IOU: Final = 0.4  # of an object and an anchor on one centre


def advise(audit: Audit) -> list[str]:
    """Return the sentences of every rule that has something to say, the gravest first."""
    if audit.num_objects == 0:
        return ["No object in the dataset: a network would learn background only."]
    rules = _CENTRE_RULES
    if audit.by_overlap:
        rules = _CELL_RULES if audit.by_cell else _ANCHOR_RULES
    return [
        sentence for rule in (_lost, *rules, _classes, _ignored, _empty) for sentence in rule(audit)
    ]


def _lost(audit: Audit) -> Iterator[str]:
    lost = int(audit.lost.sum())
    if lost == 0:
        return
    reasons = np.bincount(audit.rows.outcome[audit.lost], minlength=len(OUTCOMES))
    words = ", ".join(f"{n} {name}" for name, n in zip(OUTCOMES, reasons, strict=True) if n)
    yield f"{lost} of {int(audit.matchable.sum())} objects own no position and teach nothing ({words})."
    low = int(reasons[OUTCOMES.index("low-iou")] + reasons[OUTCOMES.index("taken")])
    if low and audit.by_cell:
        yield f"{low} of them found no free anchor in their cells: {_more_places(audit)} would hold them."
    elif low and audit.box_encoder.get("force", "greedy") != "greedy":
        yield (
            f"{low} of them would own a position under the preset ytrue, which reserves one for "
            "every object that overlaps any."
        )
    pointless = int(reasons[OUTCOMES.index("no-point")])
    if pointless and audit.by_overlap:
        yield (
            f"{pointless} of them have no anchor near their centre that is centred in them and "
            "overlaps them enough: finer levels (--set min_level) would give them some, "
            'force="greedy" reserves one for every object.'
        )
    elif pointless:
        yield (
            f"{pointless} of them hold no point on a level of their size: a larger input, tiles or "
            "a finer stride would give them some."
        )


def _tiny(audit: Audit) -> Iterator[str]:
    finest = min((int(level[1:]) for level in audit.by_level()), default=3)
    yield from _too_small(
        audit, f"min_level {max(finest - 1, 1)} would give them anchors of their size"
    )


def _too_small(audit: Audit, remedy: str) -> Iterator[str]:
    sizes = audit.size[audit.matchable]
    share = float((sizes < TINY_PIXELS).mean()) if sizes.size else 0.0
    if share >= MANY:
        yield (
            f"{_percent(share)} of your objects are under {TINY_PIXELS:g} px at "
            f"{audit.image_size[0]}x{audit.image_size[1]}: a larger input, tiles, or {remedy}."
        )


def _huge(audit: Audit) -> Iterator[str]:
    share = audit.forced_share
    if share < MANY:
        return
    forced = audit.rows.outcome == OUTCOMES.index("forced")
    median = float(np.median(audit.rows.best_iou[forced]))
    ratios = audit.ratio[forced]
    thin = float(((ratios > 3) | (ratios < 1 / 3)).mean())
    hint = (
        f"{_percent(thin)} of those are thinner than 1:3: add aspect_ratios such as 4.0 and 0.25"
        if thin > 0.4
        else "anchors closer to your objects' sizes (anchor_scale, num_scales, min_level) would help"
    )
    yield (
        f"{_percent(share)} of your objects own only a forced position below the threshold (median best "
        f"IoU {median:.2f}): {hint}."
    )


def _thin(audit: Audit) -> Iterator[str]:
    ratios = audit.ratio[audit.matchable]
    thin = ratios[np.isfinite(ratios)]
    share = float(((thin > 3) | (thin < 1 / 3)).mean()) if thin.size else 0.0
    if share >= MANY and audit.forced_share < MANY:
        yield f"{_percent(share)} of your objects are thinner than 1:3: consider aspect_ratios 4.0 and 0.25."


def _small_for_centres(audit: Audit) -> Iterator[str]:
    yield from _too_small(audit, "a smaller stride (--set stride) would give them more cells")


def _small_for_cells(audit: Audit) -> Iterator[str]:
    stride, _ = _stride_and_anchors(audit)
    yield from _too_small(audit, f"a stride below {stride:g} (--set stride) would keep them apart")


def _forced_places(audit: Audit) -> Iterator[str]:
    if audit.forced_share < MANY:
        return
    forced = audit.rows.outcome == OUTCOMES.index("forced")
    refused = int((audit.rows.stolen[forced] > 0).sum())
    others = int(forced.sum()) - refused
    yield f"{_percent(audit.forced_share)} of your objects own only forced places, those they did not ask for first."
    if refused:
        yield (
            f"{refused} of these asked for a place that went to another object: {_more_places(audit)} would "
            "part them."
        )
    if others:
        yield (
            f"{others} of these are of no anchor's shape: {_more_anchors(audit)}, or a larger ratio than "
            f"{audit.box_encoder['ratio']:g}."
        )


def _shapes(audit: Audit) -> Iterator[str]:
    best = audit.rows.best_iou[audit.matchable & ~audit.lost]
    share = float((best < POOR_IOU).mean()) if best.size else 0.0
    if share >= MANY:
        yield (
            f"{_percent(share)} of your objects have an IoU below {POOR_IOU:g} with every anchor put on "
            f"their centre (median of all {float(np.median(best)):.2f}): {_more_anchors(audit)}."
        )


def _more_places(audit: Audit) -> str:
    stride, anchors = _stride_and_anchors(audit)
    return (
        f"a stride below {stride:g}, more levels or more anchors than {anchors} a cell (--set stride, "
        "--set anchors)"
    )


def _more_anchors(audit: Audit) -> str:
    _, anchors = _stride_and_anchors(audit)
    return (
        f"more anchors than {anchors} a cell, fitted to your objects (--set anchors, or "
        "ytrue.anchortuning.fit_anchors)"
    )


def _stride_and_anchors(audit: Audit) -> tuple[float, int]:
    """Return the height of the finest cells in pixels, and how many anchors a cell has."""
    boxes = audit.box_encoder
    return audit.image_size[0] / max(rows for rows, _ in boxes["grid"]), len(boxes["anchors"][0])


def _classes(audit: Audit) -> Iterator[str]:
    counts = np.bincount(audit.rows.label[audit.matchable], minlength=len(audit.classes))
    absent = [name for name, n in zip(audit.classes, counts, strict=True) if n == 0]
    few = [
        f"{name} ({n})"
        for name, n in zip(audit.classes, counts, strict=True)
        if 0 < n < FEW_OBJECTS
    ]
    if absent:
        have = "has" if len(absent) == 1 else "have"
        of = counted(len(audit.classes), "class", "classes")
        yield f"{len(absent)} of {of} {have} no object: {_some(absent)}."
    if few:
        have = counted(len(few), "class has", "classes have")
        yield f"{have} fewer than {FEW_OBJECTS} objects: {_some(few)}."
    positives = {
        name: row["positives"] for name, row in audit.by_class().items() if row["positives"]
    }
    if len(positives) > 1:
        most, least = (
            max(positives, key=positives.__getitem__),
            min(positives, key=positives.__getitem__),
        )
        factor = positives[most] / positives[least]
        if factor >= IMBALANCE:
            yield (
                f"Class {most} has {factor:.0f} times the positive positions of class {least}: "
                "expect the loss to be about the former."
            )


def _ignored(audit: Audit) -> Iterator[str]:
    if audit.ignored_share > MANY:
        why = "crowds, or anchors above ignore_iou," if audit.by_cell else "crowds or padding"
        yield f"{_percent(audit.ignored_share)} of all positions are ignored: {why} cover much."


def _empty(audit: Audit) -> Iterator[str]:
    share = float((audit.image_positives == 0).mean()) if audit.num_images else 0.0
    if share > 0.5:
        yield f"{_percent(share)} of the images have no positive position: they teach background only."


def _percent(share: float) -> str:
    """Return whole percents; 100% is said of all only, and 0% of none."""
    if 0.995 <= share < 1:
        return "over 99%"
    return "under 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


_ANCHOR_RULES: Final[Rules] = (_tiny, _huge, _thin)
_CELL_RULES: Final[Rules] = (_small_for_cells, _forced_places, _shapes)
_CENTRE_RULES: Final[Rules] = (_small_for_centres,)
