"""What writers of one format after the other cannot hold of a dataset as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ytrue.datasets.dataset import Dataset
from ytrue.errors import Problem

_HELD: Final = {"id", "file_name", "height", "width"}


def image_fields(dataset: Dataset, format: str) -> Iterator[Problem]:
    """Yield one problem where images have fields beyond name and size."""
    fields = sorted({key for record in dataset.images.records for key in record or ()} - _HELD)
    if fields:
        yield lost(dataset, f"{format} holds no further fields of images: {', '.join(fields[:5])}")


def unused_classes(dataset: Dataset, format: str) -> Iterator[Problem]:
    """Yield one problem where classes have no object, for formats that list no classes."""
    counts = np.bincount(dataset.objects.label, minlength=dataset.num_classes)
    names = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if names:
        said = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        detail = f"{format} holds no classes without objects: {len(names)} ({said}); labels are renumbered"
        yield lost(dataset, detail)


def lost(dataset: Dataset, detail: str) -> Problem:
    """Return a problem about what a format cannot hold."""
    return Problem("field-lost", detail, "dropped", str(dataset.source))
