"""Advice in words, from an audit's numbers. Each rule says its numbers; silence is good news."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from ytrue.contract import OUTCOMES

if TYPE_CHECKING:
    from ytrue.auditing import Audit

TINY_PIXELS: Final = 12.0
MANY: Final = 0.15  # a share that is worth a sentence
FEW_OBJECTS: Final = 10
IMBALANCE: Final = 100.0


def advise(audit: Audit) -> list[str]:
    """Return the sentences of every rule that has something to say, the gravest first."""
    if audit.num_objects == 0:
        return ["No object in the dataset: a network would learn background only."]
    return [sentence for rule in _RULES for sentence in rule(audit)]


def _lost(audit: Audit) -> Iterator[str]:
    lost = int(audit.lost.sum())
    if lost == 0:
        return
    reasons = np.bincount(audit.rows.outcome[audit.lost], minlength=len(OUTCOMES))
    words = ", ".join(f"{n} {name}" for name, n in zip(OUTCOMES, reasons, strict=True) if n)
    yield f"{lost} of {int(audit.matchable.sum())} objects own no position and teach nothing ({words})."
    low = int(reasons[OUTCOMES.index("low-iou")] + reasons[OUTCOMES.index("taken")])
    if low and audit.encoder.get("force", "greedy") != "greedy":
        yield (
            f"{low} of them would own a position under the preset ytrue, which reserves one for "
            "every object that overlaps any."
        )


def _tiny(audit: Audit) -> Iterator[str]:
    sizes = audit.size[audit.matchable]
    share = float((sizes < TINY_PIXELS).mean()) if sizes.size else 0.0
    if share < MANY:
        return
    finest = min((int(level[1:]) for level in audit.by_level()), default=3)
    yield (
        f"{share:.0%} of your objects are under {TINY_PIXELS:g} px at "
        f"{audit.image_size[0]}x{audit.image_size[1]}: a larger input, tiles, or min_level "
        f"{max(finest - 1, 1)} would give them anchors of their size."
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
        f"{thin:.0%} of those are thinner than 1:3: add aspect_ratios such as 4.0 and 0.25"
        if thin > 0.4
        else "anchors closer to your objects' sizes (anchor_scale, num_scales, min_level) would help"
    )
    yield (
        f"{share:.0%} of your objects own only a reserved position below the threshold (median best "
        f"IoU {median:.2f}): {hint}."
    )


def _thin(audit: Audit) -> Iterator[str]:
    ratios = audit.ratio[audit.matchable]
    thin = ratios[np.isfinite(ratios)]
    share = float(((thin > 3) | (thin < 1 / 3)).mean()) if thin.size else 0.0
    if share >= MANY and audit.forced_share < MANY:
        yield f"{share:.0%} of your objects are thinner than 1:3: consider aspect_ratios 4.0 and 0.25."


def _classes(audit: Audit) -> Iterator[str]:
    counts = np.bincount(audit.rows.label[audit.matchable], minlength=len(audit.classes))
    absent = [name for name, n in zip(audit.classes, counts, strict=True) if n == 0]
    few = [
        f"{name} ({n})"
        for name, n in zip(audit.classes, counts, strict=True)
        if 0 < n < FEW_OBJECTS
    ]
    if absent:
        yield f"{len(absent)} of {len(audit.classes)} classes have no object: {_some(absent)}."
    if few:
        yield f"{len(few)} classes have fewer than {FEW_OBJECTS} objects: {_some(few)}."
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
        yield f"{audit.ignored_share:.0%} of all positions are ignored: crowds or padding cover much."


def _empty(audit: Audit) -> Iterator[str]:
    share = float((audit.image_positives == 0).mean()) if audit.num_images else 0.0
    if share > 0.5:
        yield f"{share:.0%} of the images have no positive position: they teach background only."


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


_RULES: Final[tuple[Callable[[Audit], Iterator[str]], ...]] = (
    _lost, _tiny, _huge, _thin, _classes, _ignored, _empty,
)  # fmt: skip
