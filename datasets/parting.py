"""What of a dataset with splits is learnt, and what it is validated on."""

from __future__ import annotations

from ytrue.datasets.dataset import Dataset

TRAIN, VAL = "train", "val"


def learnt_part(dataset: Dataset) -> tuple[Dataset, str]:
    """Return what is learnt: the split "train" where there is one, else all; and so in words."""
    if TRAIN in dataset.splits:
        part = dataset.split(TRAIN)
        few = len(part) < len(dataset)
        words = f"learns its split {TRAIN}, {len(part)} of {len(dataset)} images" if few else ""
    else:
        part, several = dataset, len(dataset.splits) > 1
        words = f"learns all of its splits {', '.join(dataset.splits)}" if several else ""
    return part, f"{dataset.source}: {words}" if words else ""


def validation_part(dataset: Dataset, validation: Dataset | None) -> tuple[Dataset | None, str]:
    """Return what is validated on, and so in words.

    Args:
        dataset: of which a part is learnt; its split "val" is validated on where there is one beside
            "train" and nothing else is given.
        validation: what is given; where it has a split "val", that alone.
    """
    whole = validation
    if whole is None and TRAIN in dataset.splits:
        whole = dataset
    if whole is None or VAL not in whole.splits:
        return validation, ""
    part = whole.split(VAL)
    few = len(part) < len(whole)
    words = f"{whole.source}: validates on its split {VAL}, {len(part)} of {len(whole)} images"
    return part, words if few else ""
