"""data.yaml of a YOLO dataset (or Darknet's obj.data): what it says, checked where it enters.

Scalars are taken as they are written: a class called `no` or `007` keeps its name, and dates, tags and
aliases are never built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ytrue.datasets.dataset import Dataset
from ytrue.datasets.skeletons import flips_of_names
from ytrue.datasets.splits import is_split_name, split_name
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError

EXTENSIONS: Final = (".yaml", ".yml", ".data")
SPLITS: Final = ("train", "val", "test")
"""Splits that data.yaml has keys for."""
_LARGEST_FILE: Final = 2**24  # bytes
_MOST_KEYPOINTS: Final = 10_000
_MOST_DIGITS: Final = 9  # whole numbers below 2**31


@dataclass(frozen=True)
class Facts:
    """What one data.yaml says.

    Attributes:
        file: the file.
        names: class number -> name; empty where the file has none.
        root: the folder that splits are relative to.
        splits: split -> folders and lists, as written.
        shape: (keypoints, numbers of each), None where rows are no poses.
        flips: pairs of keypoints that a flip swaps, None where it does not say.
        point_names: names of the keypoints, empty where it has none.
        nc: the number of classes that it says, None if none.
    """

    file: Path
    names: Mapping[int, str]
    root: Path
    splits: Mapping[str, Sequence[str]]
    shape: tuple[int, int] | None = None
    flips: Sequence[tuple[int, int]] | None = None
    point_names: Sequence[str] = ()
    nc: str = ""

    def places(self) -> tuple[dict[str, list[Path]], list[str]]:
        """Return split -> the folders and lists that are there, and what is not."""
        found: dict[str, list[Path]] = {}
        missing = []
        for split, entries in self.splits.items():
            for entry in entries:
                place = self._place(entry)
                if place is None:
                    missing.append(f"{split}: {entry}")
                else:
                    found.setdefault(split, []).append(place)
        return found, missing

    def _place(self, entry: str) -> Path | None:
        """Return where an entry leads: beside the file first, as Roboflow's `../train/images`."""
        text = entry.replace("\\", "/")
        inner = text
        while inner.startswith(("../", "./")):
            inner = inner.partition("/")[2]
        for base, name in (
            (self.root, inner), (self.file.parent, inner), (self.root, text), (self.file.parent, text),
        ):  # fmt: skip
            place = Path(os.path.normpath(base / name))
            if name and _is_there(place):
                return place
        return None


def is_data_yaml(file: Path) -> bool:
    """Return whether the top level of a YAML file says that it describes a YOLO dataset.

    Raises:
        DataError: it says "names" somewhere, but is no YAML.
    """
    try:
        text = read_text(file)
    except DataError:
        return False
    if file.suffix.lower() == ".data":
        return _darknet(text).keys() >= {"names", "train"}
    if "names" not in text and "nc" not in text:
        return False
    top = _top(text, file)
    named = isinstance(top.get("names"), (list, dict))
    return named or ("nc" in top and any(is_split_name(key) for key in top))


def read_facts(file: Path) -> Facts:
    """Return what a data.yaml says.

    Raises:
        DataError: it cannot be read, or says what no dataset has; the message names the file.
    """
    text = read_text(file)
    top: Mapping[str, Any] = _darknet(text) if file.suffix.lower() == ".data" else _top(text, file)
    shape = _shape(top.get("kpt_shape"), file)
    count = shape[0] if shape else 0
    point_names = _point_names(top.get("kpt_names"), count)
    return Facts(
        file=file,
        names=_names(top.get("names"), file),
        root=_root(_text(top.get("path")), file.parent),
        splits=_splits(top, file),
        shape=shape,
        flips=_flips(top.get("flip_idx"), point_names, count, file) if shape else (),
        point_names=point_names,
        nc=_text(top.get("nc")),
    )


def _top(text: str, file: Path) -> dict[str, Any]:
    import yaml

    if len(text) > _LARGEST_FILE:
        raise DataError("too large for a data.yaml", where=file, do="name the right file")
    try:
        top = yaml.load(text, Loader=yaml.BaseLoader)  # builds text, lists and dicts only
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        said = str(error).replace("\n", " ")
        raise DataError(f"not valid YAML ({said})", where=file, do="mend it") from None
    except RecursionError:
        raise DataError("not valid YAML (nested too deeply)", where=file, do="mend it") from None
    if not isinstance(top, dict):
        raise DataError("the YAML holds no keys", where=file, do="expected names: and train:")
    return {key: value for key, value in top.items() if isinstance(key, str)}


def _darknet(text: str) -> dict[str, str]:
    """Return the keys of Darknet's obj.data: `train = data/train.txt`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _text(value: object) -> str:
    """Return a scalar's text, "" for nothing and for whatever is no scalar."""
    return value if isinstance(value, str) and value not in ("null", "~") else ""


def _said(value: object) -> str:
    """Return a value in few words: aliases make a few bytes endless."""
    if isinstance(value, list):
        items = [item if isinstance(item, str) else "..." for item in value[:6]]
        return f"[{', '.join(items)}{', ...' if len(value) > 6 else ''}]"[:80]
    return "a mapping" if isinstance(value, dict) else str(value)[:80]


def _whole(text: object) -> int | None:
    """Return a whole number from 0 to below 10**9, None if it is none."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    return None


def _names(given: object, file: Path) -> dict[int, str]:
    if isinstance(given, dict):
        numbers = {key: _whole(key) for key in given}
        bad = next((key for key, number in numbers.items() if number is None), None)
        if bad is not None:
            detail = f"names has keys that are no numbers, such as {_said(bad)}"
            raise DataError(detail, where=file, do="mend it")
        found = {number: given[key] for key, number in numbers.items() if number is not None}
    elif isinstance(given, list):
        found = dict(enumerate(given))
    else:
        return _names_elsewhere(_text(given), file)
    for number, name in found.items():
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"the name of class {number} is no text", where=file, do="mend names")
    return {number: name.strip() for number, name in found.items()}


def _names_elsewhere(text: str, file: Path) -> dict[int, str]:
    """Return the names of the file that `names` leads to, as Darknet's obj.data has it."""
    if not text:
        return {}
    inside = Path(*Path(text).parts[1:]) if len(Path(text).parts) > 1 else Path(text)
    for place in (file.parent / text, file.parent / inside):
        if _is_there(place):
            return read_name_list(place)
    raise DataError(f"names is {_said(text)}", where=file, do="expected a list of class names")


def read_name_list(file: Path) -> dict[int, str]:
    """Return line number, from 0 -> name, of a file with a class name in each line."""
    lines = read_text(file, may_be_empty=True).splitlines()
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _root(path: str, folder: Path) -> Path:
    """Return the folder that `path` names, where Ultralytics looks for it; else the file's own."""
    text = path.replace("\\", "/")
    bases = (folder, Path(), Path("datasets"), folder / "datasets", folder.parent / "datasets")
    places = [Path(os.path.normpath(base / text)) for base in bases] if text else []
    return next((place for place in places if _is_there(place)), folder)


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _splits(top: Mapping[str, Any], file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in filter(is_split_name, top):
        entries = top[key] if isinstance(top[key], list) else [_text(top[key])]
        if isinstance(top[key], dict) or not all(isinstance(entry, str) for entry in entries):
            raise DataError(
                f"{key} is {_said(top[key])}", where=file, do="expected folders or lists"
            )
        found.setdefault(split_name(key), []).extend(entry for entry in entries if entry)
    return found


def _shape(given: object, file: Path) -> tuple[int, int] | None:
    if given is None or given in ("", "null", "~"):
        return None
    sides = [_whole(side) for side in given] if isinstance(given, list) else []
    if len(sides) == 2:
        count, numbers = sides
        if count and count <= _MOST_KEYPOINTS and numbers in (2, 3):
            return count, numbers
    raise DataError(
        f"kpt_shape is {_said(given)}", where=file,
        do=f"expected [keypoints, 2 or 3], with at most {_MOST_KEYPOINTS} keypoints",
    )  # fmt: skip


def _flips(
    given: object, names: Sequence[str], count: int, file: Path
) -> Sequence[tuple[int, int]] | None:
    """Return the pairs of `flip_idx`, else those that the keypoints' names tell; None: neither."""
    if given is None or given in ("", "null", "~"):
        return flips_of_names(names) if names or count == 1 else None
    order = [_whole(k) for k in given] if isinstance(given, list) else []
    known = [k for k in order if k is not None and k < count]
    if (
        len(order) != count
        or len(known) != count
        or any(known[known[k]] != k for k in range(count))
    ):
        raise DataError(
            f"flip_idx is {_said(given)}", where=file,
            do=f"expected {count} indices, each pointing back from where it points",
        )  # fmt: skip
    return [(k, other) for k, other in enumerate(known) if k < other]


def _point_names(given: object, count: int) -> list[str]:
    """Return the keypoints' names (`kpt_names`, for each class the same), [] where there are none."""
    lists = list(given.values()) if isinstance(given, dict) else [given]
    first = lists[0] if lists else None
    if not isinstance(first, list) or len(first) != count or any(other != first for other in lists):
        return []
    return first if all(isinstance(name, str) for name in first) else []


def write_data_yaml(dataset: Dataset, folder: Path, images: Sequence[str]) -> None:
    """Write data.yaml, and a list of images for each split that is not a folder of its own.

    Args:
        dataset: what is written.
        folder: where.
        images: where in `images/` each image belongs.
    """
    import yaml

    facts: dict[str, Any] = {"path": "."}
    known = [split for split in dataset.splits if split in SPLITS]
    for split in known:
        names = [n for n, of in zip(images, dataset.images.splits, strict=True) if split in of]
        if sorted(names) == sorted(name for name in images if name.startswith(f"{split}/")):
            facts[split] = f"images/{split}"
        else:  # some image is in two splits, and lies in the folder of the first
            facts[split] = f"{split}.txt"
            lines = "".join(f"./images/{name}\n" for name in names)
            (folder / f"{split}.txt").write_text(lines, encoding="utf-8")
    if not known:
        facts["train"] = "images"
    facts["names"] = dict(enumerate(dataset.classes))
    if dataset.objects.keypoints is not None:
        count = dataset.num_keypoints
        facts["kpt_shape"] = [count, 3]
        if dataset.keypoint_flips is not None:  # else nobody knows what a flip swaps
            order = list(range(count))
            for left, right in dataset.keypoint_flips:
                order[left], order[right] = right, left
            facts["flip_idx"] = order
        if len(dataset.keypoint_names) == count:
            own = list(dataset.keypoint_names)
            facts["kpt_names"] = {label: list(own) for label in range(dataset.num_classes)}
    (folder / "data.yaml").write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
