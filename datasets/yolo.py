"""YOLO txt: one file for each image, a row for each object, coordinates normalised to [0, 1].

Rows: `class x_centre y_centre width height` (box), `class x1 y1 x2 y2 x3 y3 ...` (segment), or a
box followed by keypoints where the data.yaml says `kpt_shape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.imagefiles import Header, read_header
from ytrue.datasets.outlines import differs_from_outline
from ytrue.datasets.pairing import Pairing, image_ids
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError, Problem

TOLERANCE: Final = 0.01
"""Normalised numbers may leave [0, 1] by this much, as writers round."""
_NAME_FILES: Final = ("obj.names", "classes.txt", "names.txt", "_darknet.labels")
_NOT_LABELS: Final = frozenset((*_NAME_FILES, "train.txt", "val.txt", "test.txt", "readme.txt"))


def recognises(source: Path) -> bool:
    """Return whether there are label files whose first row is a class and numbers."""
    try:
        files = _label_files(source, _yaml(source))
    except DataError:
        return source.suffix.lower() in (".yaml", ".yml")
    for file in files[:20]:
        text = file.read_text(encoding="utf-8", errors="replace").strip()
        if text:
            row = _row(text.splitlines()[0])
            return row is not None and len(row) >= 5
    return bool(files)


def _yaml(source: Path) -> Path | None:
    if source.suffix.lower() in (".yaml", ".yml"):
        return source
    if not source.is_dir():
        return None
    for folder in (source, source.parent):
        found = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
        found.sort(key=lambda path: path.stem not in ("data", "dataset"))
        named = [path for path in found if "names" in read_text(path, may_be_empty=True)]
        if named:
            return named[0]
    return None


def _label_files(source: Path, config: Path | None) -> list[Path]:
    """Return the label files of all splits."""
    if source.suffix.lower() == ".txt":
        return [source]
    root = source if source.is_dir() else source.parent
    patterns = (
        "labels/*.txt",
        "labels/*/*.txt",
        "*/labels/*.txt",
        "*/labels/*/*.txt",
        "*.txt",
        "*/*.txt",
    )
    for pattern in patterns:
        found = [
            path for path in sorted(root.glob(pattern)) if path.name.lower() not in _NOT_LABELS
        ]
        if found:
            return found
    del config
    return []


def read(
    source: str | Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """Read a YOLO dataset: its data.yaml, its folder, or a folder of label files.

    Args:
        source: data.yaml, or a folder with `labels/` (and `images/`) in it or one of the two.
        images: images folder; None: found nearby.
        strict: raise with the first problem.
        split: only label files under a folder of this name ("train", "val2017", ...).

    Raises:
        DataError: no label files, or a data.yaml that cannot be read.
    """
    del allow_outside
    source = Path(source)
    config = _yaml(source)
    files = [f for f in _label_files(source, config) if split is None or split in f.parts]
    if not files:
        raise DataError(
            "no YOLO label files in it", where=source, do="name the folder above labels/"
        )
    facts = _facts(config) if config else {}
    pairing = Pairing(files, images)
    builder = DatasetBuilder(source, format="yolo", images=pairing.root, strict=strict)
    names = _names(facts, files, config)
    rows = {file: _rows(file, builder) for file in files}
    if not names:
        used = sorted({int(row[0]) for found in rows.values() for row in found})
        names = {number: f"class {number}" for number in used}
        builder.problem(
            "class-unnamed",
            f"no data.yaml or obj.names near: {len(names)} classes are named by number",
            "kept",
        )
    label_of = {number: label for label, number in enumerate(sorted(names))}
    _look_for_pixels(builder, rows)
    shape, flips = _skeleton(facts, config)
    ids = image_ids(files)
    claimed = []
    for file in files:
        file_name, _ = pairing.find(file)
        claimed.append(file_name)
        _add(builder, file, ids[file], file_name, pairing.root, rows[file], label_of, shape)
    one_file = source.is_file() and source.suffix.lower() == ".txt"
    taken = set(ids.values())
    for file_name in () if one_file else pairing.unclaimed(claimed):
        path = Path(file_name)
        image_id = str(path.with_suffix("")) if path.stem in taken else path.stem
        taken.add(image_id)
        builder.image(file=str(source), image_id=image_id, file_name=file_name)
        builder.problem(
            "image-unlabelled",
            f"{file_name!r} has no label file: an image without objects",
            "kept",
            image_id=image_id,
        )
    count = shape[0] if shape else 0
    return builder.finish(
        classes=[names[number] for number in sorted(names)],
        class_ids=sorted(names),
        keypoint_names=[f"point {k}" for k in range(count)],
        keypoint_flips=flips,
    )


def _facts(config: Path) -> dict[str, Any]:
    import yaml

    try:
        facts = yaml.safe_load(read_text(config))
    except yaml.YAMLError as error:
        said = str(error).replace("\n", " ")
        raise DataError(f"not valid YAML ({said})", where=config, do="mend it") from None
    if not isinstance(facts, dict):
        raise DataError("the YAML holds no keys", where=config, do="expected names: and train:")
    return facts


def _skeleton(
    facts: Mapping[str, Any], config: Path | None
) -> tuple[tuple[int, int] | None, list[tuple[int, int]]]:
    """Return (keypoints, numbers of each) or None, and the pairs that a flip swaps."""
    given, order = facts.get("kpt_shape"), facts.get("flip_idx")
    if given is None:
        return None, []
    if not (
        isinstance(given, list)
        and len(given) == 2
        and all(type(side) is int for side in given)
        and given[0] > 0
        and given[1] in (2, 3)
    ):
        raise DataError(
            f"kpt_shape is {given!r}", where=config or "", do="expected [keypoints, 2 or 3]"
        )
    count = given[0]
    if order is None:
        return (count, given[1]), []
    swapped = isinstance(order, list) and all(type(k) is int and 0 <= k < count for k in order)
    if not (swapped and len(order) == count and all(order[order[k]] == k for k in range(count))):
        raise DataError(
            f"flip_idx is {order!r}",
            where=config or "",
            do=f"expected {count} indices, each pointing back from where it points",
        )
    return (count, given[1]), [(k, other) for k, other in enumerate(order) if k < other]


def _names(facts: Mapping[str, Any], files: Sequence[Path], config: Path | None) -> dict[int, str]:
    given = facts.get("names")
    if isinstance(given, list):
        return {number: str(name) for number, name in enumerate(given)}
    if isinstance(given, dict):
        try:
            return {int(number): str(name) for number, name in given.items()}
        except (TypeError, ValueError):
            raise DataError(
                "names has keys that are no numbers", where=config or "", do="mend it"
            ) from None
    for folder in (files[0].parent, files[0].parent.parent, files[0].parent.parent.parent):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                lines = read_text(folder / name).splitlines()
                return {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    return {}


def _row(line: str) -> NDArray[np.float64] | None:
    try:
        return np.array(line.split(), np.float64)
    except ValueError:
        return None


def _rows(file: Path, builder: DatasetBuilder) -> list[NDArray[np.float64]]:
    out = []
    for number, line in enumerate(read_text(file, may_be_empty=True).splitlines(), 1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None or len(row) < 5 or row[0] != int(row[0] if np.isfinite(row[0]) else 0.5):
            detail = f"line {number}: {line.strip()[:60]!r}, expected a class number and at least 4 numbers"
            builder.problem("annotation-invalid", detail, "dropped", file=str(file))
            continue
        out.append(row)
    return out


def _look_for_pixels(
    builder: DatasetBuilder, rows: Mapping[Path, list[NDArray[np.float64]]]
) -> None:
    every = [row for found in rows.values() for row in found]
    beyond = sum(bool((row[1:5] > 1 + TOLERANCE).any()) for row in every)
    if every and beyond / len(every) > 0.5:
        detail = f"{beyond} of {len(every)} rows have numbers above 1: pixels where numbers from 0 to 1 are due?"
        builder.problem("coordinates-look-like-pixels", detail, "kept")


def _add(
    builder: DatasetBuilder, file: Path, image_id: str, file_name: str, root: Path,
    rows: Sequence[NDArray[np.float64]], label_of: Mapping[int, int], shape: tuple[int, int] | None,
) -> None:  # fmt: skip
    header = _header(root / file_name)
    row_of_image = builder.image(
        file=str(file), image_id=image_id, file_name=file_name, height=header[0], width=header[1]
    )
    height, width = header
    if rows and height == 0:
        builder.problem(
            "image-missing", "its size is not known, so normalised numbers mean nothing",
            "dropped", file=str(file), image_id=image_id,
        )  # fmt: skip
        return
    for number, row in enumerate(rows, 1):
        place = {"file": str(file), "image_id": image_id, "annotation_id": f"{image_id}#{number}"}
        if int(row[0]) not in label_of:
            detail = f"class {int(row[0])} is not among {len(label_of)} names"
            builder.problem("unknown-category", detail, "dropped", **place)
            continue
        points = None if shape is None else _pose(row, shape, height, width)
        if len(row) == 5 or points is not None:
            builder.object(
                row_of_image, label=label_of[int(row[0])],
                box=boxes.from_cxcywh(row[1:5], height, width).tolist(), keypoints=points,
                annotation_id=place["annotation_id"],
            )  # fmt: skip
        elif len(row) % 2 == 1 and len(row) >= 7:
            outline = boxes.points_from_xy(row[1:].reshape(-1, 2)) * (height, width)
            builder.object(
                row_of_image, label=label_of[int(row[0])], polygons=[outline],
                annotation_id=place["annotation_id"],
            )  # fmt: skip
        else:
            detail = f"{len(row)} numbers: neither a box (5), a segment (7, 9, ...) nor a pose"
            builder.problem("annotation-invalid", detail, "dropped", **place)


def _header(path: Path) -> tuple[int, int]:
    try:
        header: Header = read_header(path)
    except DataError:
        return 0, 0  # listed once images are located
    return header.shown


def _pose(
    row: NDArray[np.float64], shape: tuple[int, int], height: int, width: int
) -> NDArray[np.float64] | None:
    count, numbers = shape
    if len(row) != 5 + count * numbers:
        return None
    points = row[5:].reshape(count, numbers)
    visible = points[:, 2] if numbers == 3 else np.where((points > 0).any(axis=1), 2, 0)
    return np.column_stack((points[:, 1] * height, points[:, 0] * width, visible))


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write labels/*.txt and data.yaml; returns what YOLO cannot hold.

    Objects with one polygon part are written as segments if every object of the dataset has
    one, since a YOLO dataset holds one kind of row; else boxes are written.
    """
    import yaml

    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    objects = dataset.objects
    posed = objects.keypoints is not None
    segments = not posed and len(objects) > 0 and bool((np.diff(objects.first_part) == 1).all())
    lost: list[Problem] = []
    for index in range(len(dataset)):
        example = dataset[index]
        lines = []
        for row, box in zip(dataset.rows_of(index), example.annotations.boxes, strict=True):
            lost += _lost(dataset, int(row), segments, example.image_id)
            if segments:
                numbers = (objects.polygon(int(row))[0] / (example.width, example.height)).ravel()
            else:
                numbers = boxes.to_cxcywh(box.astype(np.float64), example.height, example.width)
            if posed:
                points = np.nan_to_num(objects.keypoints[row])  # type: ignore[index]
                numbers = np.concatenate(
                    (numbers, (points / (example.width, example.height, 1)).ravel())
                )
            lines.append(
                " ".join([str(objects.label[row]), *(f"{number:.8g}" for number in numbers)])
            )
        stem = Path(dataset.images.file_names[index]).stem
        (labels / f"{stem}.txt").write_text(
            "".join(line + "\n" for line in lines), encoding="utf-8"
        )
    facts: dict[str, Any] = {
        "path": ".",
        "train": "images",
        "names": dict(enumerate(dataset.classes)),
    }
    if objects.keypoints is not None:
        facts["kpt_shape"] = [objects.keypoints.shape[1], 3]
        order = list(range(objects.keypoints.shape[1]))
        for left, right in dataset.keypoint_flips:
            order[left], order[right] = right, left
        facts["flip_idx"] = order
    (folder / "data.yaml").write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    return lost


def _lost(dataset: Dataset, row: int, segments: bool, image_id: int | str) -> list[Problem]:
    objects = dataset.objects
    what = []
    has_parts = objects.first_part[row + 1] > objects.first_part[row]
    if row in objects.rles or (has_parts and not segments):
        what.append("outline beside boxes")
    if objects.crowd[row]:
        what.append("crowd flag")
    if segments and differs_from_outline(objects, row):
        what.append("box apart from the outline")
    if objects.extra.get(row):
        what.append("extra fields")
    return [
        Problem(
            "field-lost",
            f"YOLO holds no {name}",
            "dropped",
            str(dataset.source),
            image_id,
            objects.ids[row],
        )
        for name in what
    ]
