"""Results that name images by file, as `ytrue predict photos/` writes them, for a dataset with ids."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ytrue.datasets.imagefiles import EXTENSIONS
from ytrue.errors import DataError

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset


def give_ids(records: Sequence[Any], dataset: Dataset, where: object) -> int:
    """Put the dataset's image ids into records that name images by file; return of how many images.

    A name stands for the image whose path ends in it, or whose path it ends in.

    Args:
        records: results; those whose "image_id" is an id of the dataset, or no name of an image
            file, stay as they are.
        dataset: whose ids they get.
        where: says where the records stand.

    Raises:
        DataError: a name of no image of the dataset, or of several.
    """
    ids, names = dataset.images.ids, dataset.images.file_names
    known = set(ids)
    of_name: dict[str, list[int]] = {}
    for row, path in enumerate(names):
        of_name.setdefault(PurePosixPath(path).name, []).append(row)
    found: dict[str, Any] = {}
    for record in records:
        if not isinstance(record, MutableMapping):
            continue
        name: Any = record.get("image_id")
        if not isinstance(name, str) or name in known or not _is_image(name):
            continue
        if name not in found:
            rows = of_name.get(PurePosixPath(name).name, [])
            rows = [row for row in rows if _one_path(name, names[row])]
            if len(rows) != 1:
                count = f"{len(rows)} images" if rows else "no image"
                raise DataError(
                    f"{name} is the name of {count} of {dataset.source}", where=where,
                    do="predict again with --ids, which writes the dataset's ids",
                )  # fmt: skip
            found[name] = ids[rows[0]]
        record["image_id"] = found[name]
    return len(found)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def _one_path(one: str, other: str) -> bool:
    """Return whether one of two paths ends in the other."""
    shorter, longer = sorted((PurePosixPath(one).parts, PurePosixPath(other).parts), key=len)
    return longer[-len(shorter) :] == shorter
