"""COCO JSON: instances and person_keypoints.

A million annotations are never in memory as objects: the file is read in blocks (`cocojson`), each
block's annotations are decoded, appended to flat columns and forgotten (`cococolumns`). Here the
file's ids become rows and labels, and everything is vetted.
"""

from __future__ import annotations

import gc
import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets.building import numbers, raise_first, tight_box, vetted
from ytrue.datasets.cococolumns import Columns
from ytrue.datasets.cocojson import blocks_of, read_annotations, top_keys
from ytrue.datasets.cocowriting import write as write
from ytrue.datasets.dataset import Dataset, Id, Images, Objects, select_objects
from ytrue.datasets.imagefiles import Folder, choose_folder, folders_around
from ytrue.datasets.skeletons import Flips, flips_of_record, unknown_flips
from ytrue.datasets.values import as_id, as_number, known_id, short
from ytrue.datasets.vetting import Names, vet_shapes
from ytrue.errors import Action, DataError, Problem
from ytrue.limits import MAX_COORDINATE
from ytrue.rle import RLE

LARGE: Final = 64 * 2**20
"""Files above so many bytes are worth loading compiled code for."""

MAX_KEYPOINTS: Final = 1000
"""An object's landmarks; memory is taken for as many of every object."""

_KEYS: Final = ("annotations", "images", "categories")
_URLS: Final = ("coco_url", "flickr_url", "url")


# Recognising and reading.


def recognises(source: Path) -> bool:
    """Return whether a file, or some of the JSON files of a folder, look like COCO."""
    if source.is_dir():
        from ytrue.datasets.cocofolder import annotation_files

        return bool(annotation_files(source))
    return source.suffix.lower() == ".json" and (_holds_results(source) or holds_coco(source))


def _holds_results(path: Path) -> bool:
    """Return whether a file holds results, which are recognised so that `read` can say so."""
    with path.open("rb") as file:
        head = file.read(4096)
    return head.lstrip().startswith(b"[") and b'"image_id"' in head


def holds_coco(path: Path) -> bool:
    """Return whether a file is a JSON object with a key of COCO's at its top, wherever that is."""
    with path.open("rb") as file:
        for key, _ in top_keys(blocks_of(file)):
            if key in _KEYS:
                return True
            if key in ("shapes", "imagePath"):  # LabelMe
                return False
    return False


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
    locate: bool = True,
) -> Dataset:
    """Read a COCO JSON file, or those of a folder; `locate`: look for the image files.

    A folder may hold one file, or one for each split.

    Raises:
        DataError: not JSON, not COCO, files to choose from; with `strict` any problem.
    """
    if source.is_dir():
        from ytrue.datasets.cocofolder import read_folder

        return read_folder(
            source, images=images, strict=strict, split=split, allow_outside=allow_outside
        )
    columns = Columns(source, strict, source.stat().st_size > LARGE)
    collecting = gc.isenabled()
    gc.disable()  # a block of annotations is many small lists; collecting them costs a third
    try:
        rest = read_annotations(source, columns)
        return _dataset(columns, rest, images, locate, allow_outside)
    finally:
        if collecting:
            gc.enable()


def _dataset(
    columns: Columns, rest: dict[str, Any], folder: Path | None, locate: bool, allow_outside: bool
) -> Dataset:
    """Return the dataset: ids resolved, images located, everything vetted."""
    if columns.halves:
        detail = "texts hold halves of characters (\\ud800 and the like): read as \ufffd"
        columns.report("text-invalid", detail, "kept")
    columns.number()
    classes, class_ids, keypoint_names, flips = _categories(columns, rest)
    images = _images(columns, rest)
    row_of = {image_id: row for row, image_id in enumerate(images.ids)}
    label_of = {class_id: label for label, class_id in enumerate(class_ids)}
    image = _resolved(columns, columns.image_ids, row_of, "image")
    label = _resolved(columns, columns.category_ids, label_of, "category")
    if classes == ():
        classes, class_ids, label = _unnamed(columns.category_ids)
    _report_unknown(columns, image < 0, "unknown-image", "image", columns.image_ids)
    unknown = (label < 0) & (image >= 0)
    _report_unknown(columns, unknown, "unknown-category", "category", columns.category_ids)
    _report_duplicate_ids(columns, image)
    known = (image >= 0) & (label >= 0)
    objects = Objects(
        ids=columns.ids,
        image=image,
        label=label.astype(np.int32),
        crowd=numbers(columns.crowd, "i1").astype(bool),
        xywh=numbers(columns.xywh, "f8", (-1, 4)),
        area=numbers(columns.area, "f8"),
        points=numbers(columns.points, "f8", (-1, 2)),
        parts=numbers(columns.parts, "i8"),
        first_part=numbers(columns.first_part, "i8"),
        keypoints=_keypoints(columns, keypoint_names),
        rles=columns.rles,
        extra=columns.extra,
    )
    objects = select_objects(objects, known)
    position = np.cumsum(known) - 1
    no_box = {int(position[row]): said for row, said in columns.no_box.items() if known[row]}
    objects = _boxed(columns, objects, no_box, images)
    if locate and folder is None:
        names = [
            name or _url(fields)
            for name, fields in zip(images.file_names, images.records, strict=True)
        ]
        folder = choose_folder(folders_around(columns.path), names) or columns.path.parent
    found = Folder(folder, allow_outside=allow_outside) if locate and folder else None
    images = _named_by_urls(columns, images, found)
    flips, said = _flips(columns, keypoint_names, flips, objects)
    columns.problems += said  # no fault of the file: `strict` does not raise it
    dataset = Dataset(
        source=columns.path,
        format="coco",
        classes=classes,
        class_ids=class_ids,
        images=images,
        objects=objects,
        problems=tuple(columns.problems),
        keypoint_names=keypoint_names,
        keypoint_flips=flips,
        header={k: v for k, v in rest.items() if k not in ("images", "annotations")},
    )
    return vetted(dataset, found, Names(str(columns.path)), strict=columns.strict)


# From the file's ids to rows and labels.


def _categories(
    columns: Columns, rest: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[Id, ...], tuple[str, ...], Flips | None]:
    """Return the classes' names and ids, by id, and the landmarks' names and flips."""
    records = rest.get("categories") or []
    if not isinstance(records, list) or not all(isinstance(r, dict) and "id" in r for r in records):
        raise DataError(
            "categories is not a list of records with an id", where=columns.path, do="mend it"
        )
    by_id: dict[Id, str] = {}
    taken, nameless = set[str](), 0
    for record in records:
        try:
            class_id = as_id(record["id"])
        except TypeError as error:
            raise DataError(
                f"a category's id: {error}", where=columns.path, do="give it a whole number"
            ) from None
        given = record.get("name")
        nameless += given in (None, "")
        name = str(class_id if given in (None, "") else given)
        if class_id in by_id or name in taken:
            detail = f"category id {class_id!r}, name {name!r} is listed more than once"
            action: Action = "dropped" if class_id in by_id else "kept"
            columns.report("duplicate-category", detail, action)
        by_id.setdefault(class_id, name)
        taken.add(name)
    if not by_id and columns.ids:
        said = "no categories are listed: classes are named by their ids"
        columns.report("category-unnamed", said, "kept")
    elif nameless:
        said = f"{nameless} categories have no name: named by their ids"
        columns.report("category-unnamed", said, "kept")
    ids = _in_order(by_id)
    return tuple(by_id[i] for i in ids), ids, *_landmarks(columns, records)


def _landmarks(
    columns: Columns, records: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, ...], Flips | None]:
    """Return the landmarks' names and flips, which the first category that has any tells."""
    having = [r for r in records if isinstance(r.get("keypoints"), list) and r["keypoints"]]
    if not having:
        return (), None if columns.keypoints else ()
    first = having[0]
    names = tuple(str(name) for name in first["keypoints"])
    others = [r for r in having if r["keypoints"] != first["keypoints"]]
    if others:
        detail = (
            f"{len(others)} categories, such as {others[0].get('name')!r}, list other keypoints "
            f"than {first.get('name')!r}: those of the first count"
        )
        columns.report("keypoints-differ", detail, "kept")
    if len(names) > MAX_KEYPOINTS:
        detail = f"a category lists {len(names):,} keypoints, more than {MAX_KEYPOINTS:,}"
        columns.report("keypoints-invalid", detail, "dropped")
        columns.keypoints.clear()
        return (), ()
    try:
        return names, flips_of_record(first, names)
    except ValueError as error:
        columns.report("keypoints-invalid", str(error), "dropped")
        return names, None


def _flips(
    columns: Columns, names: Sequence[str], flips: Flips | None, objects: Objects
) -> tuple[Flips | None, list[Problem]]:
    """Return the flips, and what to say where they are not known but asked for."""
    if flips is not None or objects.keypoints is None:
        return flips, []
    if objects.keypoints.shape[1] == 1 and not names:
        return (), []
    return None, [unknown_flips(names, str(columns.path))]


def _in_order(ids: Mapping[Id, str] | set[Id]) -> tuple[Id, ...]:
    return tuple(sorted(ids, key=lambda i: (isinstance(i, str), i)))


def _unnamed(
    category_ids: Sequence[Id],
) -> tuple[tuple[str, ...], tuple[Id, ...], NDArray[np.int64]]:
    ids = _in_order(set(category_ids))
    labels = _rows(category_ids, {class_id: i for i, class_id in enumerate(ids)})
    return tuple(str(class_id) for class_id in ids), ids, labels


def _images(columns: Columns, rest: Mapping[str, Any]) -> Images:
    records = rest.get("images")
    if not isinstance(records, list):
        raise DataError("no list of images in the file", where=columns.path, do="export it again")
    ids: list[Id] = []
    names, sizes, kept, seen = [], [], [], set()
    for position, record in enumerate(records):
        fields = record if isinstance(record, dict) else {}
        image_id = known_id(fields.get("id"))
        name = fields.get("file_name")
        named = (isinstance(name, str) and name != "") or bool(_url(fields))
        if image_id is None or not named:
            lacking = "a usable id" if image_id is None else "a file_name"
            detail = f"image {position} of the list lacks {lacking}: {short(record)}"
            columns.report("image-invalid", detail, "dropped", image_id)
            continue
        if image_id in seen:
            detail = f"image id {image_id!r} is listed more than once, here for {name!r}"
            columns.report("duplicate-image-id", detail, "dropped", image_id)
            continue
        seen.add(image_id)
        ids.append(image_id)
        names.append(name or "")
        sizes.append([_side(columns, fields, key, image_id) for key in ("height", "width")])
        kept.append(fields)
    size = np.array(sizes, np.int32).reshape(-1, 2)
    return Images(ids, names, [], size[:, 0].copy(), size[:, 1].copy(), kept)


def _side(columns: Columns, fields: Mapping[str, Any], key: str, image_id: Id) -> int:
    """Return an image's height or width, 0 where the file does not tell it."""
    given = fields.get(key)
    if type(given) is int and 0 <= given < 2**31:
        return given
    number = as_number(given)
    if number != number and not isinstance(given, (str, list, dict, bool)):
        return 0  # not there, null, or the NaN of a table
    if 0 <= number < 2**31 and number.is_integer():
        return int(number)
    detail = f"its {key} is {short(given)}, expected whole pixels: taken from the image file"
    columns.report("image-size-invalid", detail, "kept", image_id)
    return 0


def _url(fields: Mapping[str, Any] | None) -> str:
    """Return the address of an image record without a file name, as LVIS has it; "" without."""
    if not fields or fields.get("file_name"):
        return ""
    found = (fields.get(key) for key in _URLS)
    return next((url for url in found if isinstance(url, str) and url), "")


def _named_by_urls(columns: Columns, images: Images, folder: Folder | None) -> Images:
    """Return the images with names for those that have an address only."""
    rows = [row for row, name in enumerate(images.file_names) if not name]
    if not rows:
        return images
    names = list(images.file_names)
    for row in rows:
        url = _url(images.records[row]).partition("?")[0]
        found = folder.find(url).name if folder else ""
        names[row] = found or "/".join(url.split("/")[-2:])  # val2017/000000397133.jpg
    detail = f"{len(rows)} image records have no file_name: named by their address, as {names[rows[0]]!r}"
    columns.report("image-unnamed", detail, "kept")
    return replace(images, file_names=names)


def _resolved(
    columns: Columns, ids: Sequence[Id], row_of: Mapping[Id, int], noun: str
) -> NDArray[np.int64]:
    """Return the row of each id, -1 where it is unknown.

    An id that nothing has, but that something has as another JSON type (1 and "1"), is that one's.
    """
    rows = _rows(ids, row_of)
    examples = []
    for row in np.flatnonzero(rows < 0).tolist() if row_of else ():
        found = row_of.get(twin) if (twin := _twin(ids[row])) is not None else None
        if found is not None:
            rows[row] = found
            examples.append((ids[row], twin))
    if examples:
        detail = (
            f"{len(examples)} annotations have a {noun}_id of another type than the {noun} itself, "
            f"such as {examples[0][0]!r} for {examples[0][1]!r}: taken for the same"
        )
        columns.report("id-retyped", detail, "kept")
    return rows


def _twin(value: Id) -> Id | None:
    """Return the id that reads the same but is a number where this is a text, or reverse."""
    if isinstance(value, int):
        return str(value)
    return int(value) if re.fullmatch(r"-?(0|[1-9][0-9]{0,400})", value) else None


def _rows(ids: Sequence[Id], row_of: Mapping[Id, int]) -> NDArray[np.int64]:
    """Return the row of each id, -1 where it is unknown."""
    if row_of and len(ids) > 1000 and isinstance(ids, array):
        known = [i for i in row_of if isinstance(i, int) and -(2**63) <= i < 2**63]
        if known and max(known) - min(known) < 8 * len(ids):
            return _rows_by_table(numbers(ids, "i8"), known, row_of)
    return np.fromiter(map(row_of.get, ids, repeat(-1)), np.int64, len(ids))


def _rows_by_table(
    wanted: NDArray[np.int64], known: Sequence[int], row_of: Mapping[Id, int]
) -> NDArray[np.int64]:
    """Look a million ids up in an array: a dictionary costs five times as much."""
    low, high = min(known), max(known)
    table = np.full(high - low + 2, -1, np.int64)  # the last stands for what is unknown
    for one in known:
        table[one - low] = row_of[one]
    return table[np.where((wanted >= low) & (wanted <= high), wanted - low, -1)]


def _report_unknown(
    columns: Columns, where: NDArray[np.bool_], kind: str, noun: str, ids: Sequence[Id]
) -> None:
    for row in np.flatnonzero(where).tolist():
        detail = f"{noun} {short(ids[row])} is not in the file's list"
        columns.report_row(kind, detail, "dropped", row)


def _report_duplicate_ids(columns: Columns, image: NDArray[np.int64]) -> None:
    ids = columns.ids
    if isinstance(ids, array):
        ordered = np.sort(numbers(ids, "i8"))
        if not (ordered[1:] == ordered[:-1]).any():
            return
    elif len(set(ids)) == len(ids):
        return
    seen: set[Id] = set()
    for row, annotation_id in enumerate(ids):
        if annotation_id in seen and image[row] >= 0:
            detail = f"annotation id {annotation_id!r} is used more than once"
            columns.report_row("duplicate-annotation-id", detail, "kept", row)
        seen.add(annotation_id)


# Shapes.


def _keypoints(columns: Columns, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return (N, K, 3) x, y, visibility, nan where an object has none."""
    if not columns.keypoints:
        return None
    # Without names as many as most have: one long list must not ask memory for every object.
    lengths = Counter(len(flat) // 3 for flat in columns.keypoints.values())
    likely = (count for count, _ in lengths.most_common() if 0 < count <= MAX_KEYPOINTS)
    count = len(names) or next(likely, 1)
    out = np.full((len(columns.ids), count, 3), np.nan)
    for row, flat in columns.keypoints.items():
        said = _keypoint_problem(flat, count)
        if said:
            columns.report_row("keypoints-invalid", said, "dropped", row)
            continue
        points = np.array(flat).reshape(count, 3)
        out[row] = np.where(points[:, 2:] == 0, np.nan_to_num(points, posinf=0, neginf=0), points)
    return out


def _keypoint_problem(flat: Sequence[float], count: int) -> str:
    """Return what is wrong with an object's keypoints; where one is unlabelled is of no interest."""
    if len(flat) != 3 * count:
        return f"{len(flat)} keypoint numbers, expected 3 for each of {count} keypoints"
    points = np.array(flat).reshape(count, 3)
    odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(odd):
        return f"a visibility of {odd[0]:g}, expected 0, 1 or 2"
    labelled = points[points[:, 2] > 0, :2]
    beyond = labelled[~(np.abs(labelled) <= MAX_COORDINATE).all(axis=1)]
    if len(beyond):
        return f"a keypoint at x {beyond[0, 0]:g}, y {beyond[0, 1]:g}"
    return ""


def _boxed(
    columns: Columns, objects: Objects, no_box: Mapping[int, str], images: Images
) -> Objects:
    """Check shapes, and give objects without a box the one around theirs."""
    if columns.texts:
        detail = (
            f"{columns.texts} annotations have boxes of numbers written as text: read as numbers"
        )
        columns.report("number-text", detail, "kept")
    objects = replace(objects, rles=_sound_masks(columns, objects, images))
    objects, problems = vet_shapes(images, objects, Names(str(columns.path)))
    columns.problems += problems
    raise_first(problems, columns.strict)
    if not no_box:
        return objects
    xywh, kept = objects.xywh.copy(), np.ones(len(objects), bool)
    for row, said in no_box.items():
        where = images.ids[objects.image[row]], objects.ids[row]
        box = _box_around(objects, row)
        if box is None:
            kept[row] = False
            nothing = "neither a box nor a usable shape (polygon, mask or labelled keypoints)"
            kind = "box-invalid" if said else "shape-missing"
            columns.report(kind, said or nothing, "dropped", *where)
            continue
        xywh[row] = box
        kind = "box-invalid" if said else "box-missing"
        detail = f"{said or 'no bbox'}: taken tight around its shape"
        columns.report(kind, detail, "kept", *where)
    return select_objects(replace(objects, xywh=xywh), kept)


def _box_around(objects: Objects, row: int) -> NDArray[np.float64] | None:
    """Return x, y, width, height around an object's shape, None where it has none."""
    parts = [boxes.points_from_xy(part) for part in objects.polygon(row)]
    mask = RLE.from_coco(*objects.rles[row]) if row in objects.rles else None
    points = None
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        points = boxes.points_from_xy(objects.keypoints[row])
    box = np.array(tight_box(parts, mask, points))
    return None if np.isnan(box).any() else boxes.to_xywh(box)


def _sound_masks(
    columns: Columns, objects: Objects, images: Images
) -> dict[int, tuple[Sequence[int], Any]]:
    rles = dict(objects.rles)
    for row, (size, counts) in objects.rles.items():
        problem = _mask_problem(size, counts, images, int(objects.image[row]))
        if problem:
            del rles[row]
            where = images.ids[objects.image[row]], objects.ids[row]
            columns.report("mask-invalid", problem, "dropped", *where)
    return rles


def _mask_problem(size: Any, counts: Any, images: Images, image: int) -> str:
    annotated = (int(images.height[image]), int(images.width[image]))
    try:
        mask = RLE.from_coco(size, counts)
    except DataError as error:
        return f"the mask cannot be decoded: {error}"
    if 0 not in annotated and (mask.height, mask.width) != annotated:
        return (
            f"the mask is {mask.height}x{mask.width}, the image {annotated[0]}x{annotated[1]} "
            "(height x width)"
        )
    return ""
