"""YOLO txt: one file for each image, a row for each object, coordinates normalised to [0, 1].

Rows: `class x_centre y_centre width height` (box), `class x1 y1 x2 y2 x3 y3 ...` (segment), or a
box followed by keypoints where the data.yaml says `kpt_shape`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets import losses
from ytrue.datasets.annotationfiles import report_overlaps
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.imagefiles import read_headers
from ytrue.datasets.outlines import differs_from_outline
from ytrue.datasets.pairing import Claims, Pairing, image_ids
from ytrue.datasets.splits import in_usual_order
from ytrue.datasets.yololayout import Layout, find_layout, has_labels
from ytrue.datasets.yolonames import Classes, classes_of
from ytrue.datasets.yolorows import Rows, looks_like_pose, read_rows
from ytrue.datasets.yolosplits import SplitsOfImages
from ytrue.datasets.yoloyaml import SPLITS, Facts, write_data_yaml
from ytrue.errors import DataError, Problem

TOLERANCE: Final = 0.01
"""Normalised numbers may leave [0, 1] by this much, as writers round."""


def recognises(source: Path) -> bool:
    """Return whether there is a data.yaml, or most of some text files hold classes and numbers."""
    return has_labels(source)


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
        split: only the images of this split of data.yaml, or below a folder of this name.
        allow_outside: read images that file names lead to outside the images folder, too.

    Raises:
        DataError: no label files, a data.yaml that cannot be read, no such split.
    """
    source = Path(source)
    layout = find_layout(source)
    texts = {file: read_rows(file) for file in layout.files}
    if not texts:
        raise _no_labels(source)
    pairing = Pairing([*texts], images, layout.folder)
    builder = DatasetBuilder(
        source, format="yolo", images=pairing.root, strict=strict, allow_outside=allow_outside
    )
    layout.report(builder)
    rows, lists = _labels(texts, layout, pairing, builder)
    if not rows:
        raise _no_labels(source)
    pairing.report(builder)
    facts = layout.facts
    classes = classes_of([f.parent for f in rows], layout.folder, facts, layout.inner, builder)
    classes = classes or _unnamed(rows, builder)
    _look_for_pixels(builder, rows)
    shape = facts.shape if facts else None
    refused = _rows_that_are_poses(rows, builder) if shape is None else frozenset[int]()
    splits = SplitsOfImages(layout, lists)
    ids = image_ids([*rows])
    claims = Claims(builder)
    matches = {file: pairing.match(file) for file in rows}
    taken = [f for f in rows if claims.claim(f, matches[f], ids[f]) and rows[f].readable]
    headers = read_headers([pairing.root / matches[file].name for file in taken])
    tagged = splits.of([pairing.root / matches[file].name for file in taken], taken)
    for file, header, names in zip(taken, headers, tagged, strict=True):
        size = (0, 0) if isinstance(header, DataError) else header.shown  # listed when located
        row = builder.image(
            file=str(file), image_id=ids[file], file_name=matches[file].name,
            height=size[0], width=size[1], splits=names,
        )  # fmt: skip
        place = _Place(row, file, ids[file], size, classes.labels[file.parent], shape, refused)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # numbers without bounds are listed later
            _add(builder, place, rows[file])
    every = [*tagged]
    if not source.is_file() or layout.facts:
        every += _add_unlabelled(builder, pairing, claims, ids, splits)
    splits.report(builder)
    report_overlaps(every, builder)
    dataset = builder.finish(
        classes=classes.names,
        class_ids=list(classes.ids),
        keypoint_names=_point_names(facts),
        keypoint_flips=facts.flips if facts else (),
    )
    return dataset if split is None else dataset.split(split)


def _no_labels(source: Path) -> DataError:
    return DataError("no YOLO label files in it", where=source, do="name the folder above labels/")


def _labels(
    texts: Mapping[Path, Rows], layout: Layout, pairing: Pairing, builder: DatasetBuilder
) -> tuple[dict[Path, Rows], list[Path]]:
    """Return the label files with their rows, and the lists of images; list what is neither.

    A text file without a single good row is a label file if it lies in a folder of labels or has
    an image.
    """
    rows, lists = {}, []
    for file, found in texts.items():
        if found.is_list:
            lists.append(file)
        elif found.error and len(texts) == 1:
            raise found.error
        elif found.good or layout.is_among_labels(file) or pairing.match(file).found:
            rows[file] = found
            found.report(file, builder)
        elif not found.empty:
            detail = "no row of a class number and at least 4 numbers: no label file"
            builder.problem("file-unread", detail, "dropped", file=str(file))
    return rows, lists


def _unnamed(rows: Mapping[Path, Rows], builder: DatasetBuilder) -> Classes:
    used = sorted({int(row[0]) for found in rows.values() for _, row in found.good})
    builder.problem(
        "class-unnamed",
        f"no data.yaml or obj.names near: {len(used)} classes are named by number",
        "kept",
    )
    labels = {number: label for label, number in enumerate(used)}
    names = [f"class {number}" for number in used]
    return Classes(names, used, {file.parent: labels for file in rows})


def _point_names(facts: Facts | None) -> list[str]:
    if facts is None or facts.shape is None:
        return []
    return list(facts.point_names) or [f"point {k}" for k in range(facts.shape[0])]


def _add_unlabelled(
    builder: DatasetBuilder, pairing: Pairing, claims: Claims, ids: Mapping[Path, str],
    splits: SplitsOfImages,
) -> list[tuple[str, ...]]:  # fmt: skip
    """Add the images that no label file is of; return the splits of each."""
    names = pairing.unclaimed(claims.images)
    tagged = splits.of([pairing.root / name for name in names])
    taken = set(ids.values())
    for file_name, tags in zip(names, tagged, strict=True):
        path = Path(file_name)
        image_id = str(path.with_suffix("")) if path.stem in taken else path.stem
        taken.add(image_id)
        builder.image(file=str(builder.source), image_id=image_id, file_name=file_name, splits=tags)
        builder.problem(
            "image-unlabelled",
            f"{file_name!r} has no label file: an image without objects",
            "kept",
            image_id=image_id,
        )
    return tagged


def _look_for_pixels(builder: DatasetBuilder, rows: Mapping[Path, Rows]) -> None:
    every = [row for found in rows.values() for _, row in found.good]
    beyond = sum(bool((row[1:5] > 1 + TOLERANCE).any()) for row in every)
    if every and beyond / len(every) > 0.5:
        detail = f"{beyond} of {len(every)} rows have numbers above 1: pixels where numbers from 0 to 1 are due?"
        builder.problem("coordinates-look-like-pixels", detail, "kept")


def _rows_that_are_poses(rows: Mapping[Path, Rows], builder: DatasetBuilder) -> frozenset[int]:
    """Return the lengths of rows that can only be poses, though no `kpt_shape` says so.

    Poses without visibilities look like outlines; if all rows might be such poses, it is listed.
    """
    every = [row for found in rows.values() for _, row in found.good]
    lengths = frozenset(len(row) for row in every if looks_like_pose(row))
    longer = [row for row in every if len(row) > 5 and len(row) not in lengths]
    if len(longer) >= 3 and len({len(row) for row in longer}) == 1:
        count = (len(longer[0]) - 5) // 2
        inside = sum(_surrounds(row) for row in longer)
        if count >= 2 and inside >= 0.9 * len(longer):
            detail = (
                f"{inside} of {len(longer)} outlines of {count + 2} points are a box around {count} "
                f"keypoints as well: if they are poses, say kpt_shape: [{count}, 2] in data.yaml"
            )
            builder.problem("rows-look-like-poses", detail, "kept")
    return lengths


def _surrounds(row: NDArray[np.float64]) -> bool:
    """Return whether the row's first four numbers are a box with all others as points in it."""
    if len(row) % 2 == 0:
        return False
    centre, half, points = row[1:3], row[3:5] / 2, row[5:].reshape(-1, 2)
    inside = (np.abs(points - centre) <= half + TOLERANCE).all()
    around = (points.min(axis=0) < centre).all() and (points.max(axis=0) > centre).all()
    return bool(inside and around)


@dataclass(frozen=True)
class _Place:
    """What rows of one file need to become objects."""

    row: int
    file: Path
    image_id: str
    size: tuple[int, int]  # height, width
    label_of: Mapping[int, int]
    shape: tuple[int, int] | None
    poses: frozenset[int]  # lengths of rows that can only be poses


def _add(builder: DatasetBuilder, place: _Place, rows: Rows) -> None:
    if rows.good and place.size[0] == 0:
        builder.problem(
            "image-missing", "its size is not known, so normalised numbers mean nothing",
            "dropped", file=str(place.file), image_id=place.image_id,
        )  # fmt: skip
        return
    for number, row in rows.good:
        annotation_id = f"{place.image_id}#{number}"
        where = {
            "file": str(place.file),
            "image_id": place.image_id,
            "annotation_id": annotation_id,
        }
        label = place.label_of.get(int(row[0]))
        if label is None:
            detail = f"class {int(row[0])} is not among {len(place.label_of)} names"
            builder.problem("unknown-category", detail, "dropped", **where)
            continue
        wrong = _misfit(row, place)
        if wrong:
            builder.problem("annotation-invalid", wrong, "dropped", **where)
        elif len(row) == 5 or place.shape:
            if place.shape and len(row) == 5:
                detail = f"a box without the {place.shape[0]} keypoints of kpt_shape"
                builder.problem("keypoints-invalid", detail, "kept", **where)
            builder.object(
                place.row, label=label, box=boxes.from_cxcywh(row[1:5], *place.size).tolist(),
                keypoints=_pose(row, place), annotation_id=annotation_id,
            )  # fmt: skip
        else:
            outline = boxes.points_from_xy(row[1:].reshape(-1, 2)) * place.size
            builder.object(place.row, label=label, polygons=[outline], annotation_id=annotation_id)


def _misfit(row: NDArray[np.float64], place: _Place) -> str:
    """Return why a row cannot be read, "" if it can."""
    if len(row) == 5:
        return ""
    if place.shape is not None:
        count, numbers = place.shape
        wanted = 5 + count * numbers
        return (
            ""
            if len(row) == wanted
            else f"{len(row)} numbers, but kpt_shape [{count}, {numbers}] asks for {wanted}"
        )
    if len(row) in place.poses and looks_like_pose(row, certain=False):
        return (
            f"{len(row)} numbers: a pose; say kpt_shape: [{(len(row) - 5) // 3}, 3] in data.yaml to "
            "have it read"
        )
    if len(row) % 2 == 1 and len(row) >= 7:
        return ""
    if len(row) == 6:
        return "6 numbers: a box and a score? Expected 5 for a box: results are no annotations"
    return f"{len(row)} numbers: neither a box (5), a segment (7, 9, ...) nor a pose"


def _pose(row: NDArray[np.float64], place: _Place) -> NDArray[np.float64] | None:
    """Return keypoints (K, 3) y, x, visibility. Where none is given, 0, 0 is no point."""
    if place.shape is None or len(row) == 5:
        return None
    count, numbers = place.shape
    points = row[5:].reshape(count, numbers)
    labelled = (points >= 0).all(axis=1) & (points > 0).any(axis=1)
    visible = points[:, 2] if numbers == 3 else np.where(labelled, 2.0, 0.0)
    pose = np.column_stack((points[:, 1] * place.size[0], points[:, 0] * place.size[1], visible))
    # Nothing but nan would say that there are no keypoints; these are given, and wrong.
    return np.full_like(pose, np.inf) if np.isnan(pose).all() else pose


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write labels/*.txt and data.yaml; returns what YOLO cannot hold.

    Objects with one polygon part are written as segments if every object of the dataset has
    one, since a YOLO dataset holds one kind of row; else boxes are written. Where the dataset has
    splits, labels lie in labels/train and so on, as `image_names` says for the images.
    """
    objects = dataset.objects
    posed = objects.keypoints is not None
    segments = not posed and len(objects) > 0 and bool((np.diff(objects.first_part) == 1).all())
    lost = [*losses.image_fields(dataset, "YOLO"), *_lost_of_whole(dataset)]
    for index, name in enumerate(image_names(dataset)):
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
        file = (folder / "labels" / name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    write_data_yaml(dataset, folder, image_names(dataset))
    return lost


def image_names(dataset: Dataset) -> list[str]:
    """Return where in `images/` each image belongs: in the folder of its first split, if any."""
    splits = dataset.images.splits or [()] * len(dataset)
    names = (Path(name).name for name in dataset.images.file_names)
    return [
        f"{next((split for split in in_usual_order(found) if split in SPLITS), '')}/{name}".lstrip(
            "/"
        )
        for found, name in zip(splits, names, strict=True)
    ]


def _lost_of_whole(dataset: Dataset) -> Iterator[Problem]:
    ids = [k for k in dataset.class_ids if isinstance(k, int)]
    if ids and ids != list(range(len(ids))):
        numbers = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        yield losses.lost(dataset, f"YOLO holds no ids of classes: {numbers} are numbered from 0")
    for split in dataset.splits:
        if split not in SPLITS:
            yield losses.lost(dataset, f"YOLO holds no split {split!r}: only {', '.join(SPLITS)}")


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
