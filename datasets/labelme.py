"""LabelMe JSON, also as X-AnyLabeling and labelme's own successors write it: one file an image.

Shapes that are objects: polygon, rectangle (two corners, or four), rotation and oriented_rectangle
(four corners, a polygon), circle (centre and a point on it, drawn as a polygon of 36 vertices) and
mask. Shapes of one `group_id` and label are one object: polygons its parts, points its keypoints, in
the order of their labels. A point without a group is listed and dropped, as it has no extent; so are
lines and whatever else. `datasets/labelmeshapes.py` reads one shape; here they become a dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.annotationfiles import Walk, spread, walk
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.imagefiles import Folder, leaves_folder, read_header
from ytrue.datasets.labelmeshapes import Shape, embedded_size, read_mask, read_shape, sides_of
from ytrue.datasets.labelmewriting import write
from ytrue.datasets.pairing import Pairing, image_ids
from ytrue.datasets.skeletons import flips_of_names
from ytrue.datasets.splits import is_split_name, split_name
from ytrue.datasets.textfiles import read_bytes, read_json
from ytrue.errors import DataError
from ytrue.rle import RLE

__all__ = ["read", "recognises", "write"]

_KNOWN: Final = frozenset(
    ("version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", "lineColor",
     "fillColor")
)  # fmt: skip


def recognises(source: Path) -> bool:
    """Return whether a JSON file, or most of some JSON files of a folder, are LabelMe's."""
    if not source.is_dir():
        return source.suffix.lower() == ".json" and bool(_looks_right(source))
    told = [_looks_right(file) for file in spread(walk(source, (".json",)).files)]
    return any(told) and 2 * sum(map(bool, told)) >= sum(answer is not None for answer in told)


def _looks_right(file: Path) -> bool | None:
    """Return whether a file is LabelMe's, None where it cannot be read."""
    try:
        data = read_bytes(file)
    except DataError:
        return None
    return b'"shapes"' in data and any(
        key in data for key in (b'"imagePath"', b'"imageData"', b'"shape_type"', b'"points"')
    )


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """Read a folder of LabelMe files, to any depth, or one file. Labels follow the sorted names.

    Raises:
        DataError: no LabelMe file, or (one file only, or strict) an unreadable one.
    """
    del split
    found = walk(source, (".json",)) if source.is_dir() else Walk([source])
    files, faults = _parse_all(found.files, alone=not source.is_dir())
    if not files:
        first = f" ({faults[0].what})" if faults else ""
        raise DataError(
            f"no LabelMe JSON in it{first}", where=source, do="name the folder of the JSON files"
        )
    places = _images_of(files, images, allow_outside)
    root = Path(os.path.commonpath([Path(place.path).parent for place in places]))
    builder = DatasetBuilder(
        source, format="labelme", images=root, strict=strict, allow_outside=allow_outside
    )
    found.report(builder)
    for fault in faults:
        builder.problem(fault.kind, fault.what, fault.action, file=str(fault.file))
    objects = [_objects(file, builder) for file in files]
    every = [thing for things in objects for thing in things]
    classes = sorted({thing.label for thing in every})
    points = sorted({shape.label for thing in every for shape in thing.points})
    label_of = {name: label for label, name in enumerate(classes)}
    claimed: dict[str, Path] = {}
    for file, place, things in zip(files, places, objects, strict=True):
        if place.found and place.path in claimed:
            detail = (
                f"{place.path!r} is the image of {claimed[place.path]}, too: this file is not read"
            )
            builder.problem("image-claimed-twice", detail, "dropped", **file.where)
            continue
        claimed[place.path] = file.path
        row, size = _add_image(builder, file, place, os.path.relpath(place.path, root), source)
        for thing in things:
            _add_object(builder, row, size, file, thing, label_of[thing.label], points)
    return builder.finish(
        classes=classes, class_ids=classes, keypoint_names=points,
        keypoint_flips=flips_of_names(points),
    )  # fmt: skip


@dataclass(frozen=True)
class _File:
    """One LabelMe file, without the pixels in it."""

    path: Path
    content: Mapping[str, Any]
    embedded: bool  # whether it holds the image itself
    image_id: str = ""

    @property
    def where(self) -> dict[str, str]:
        return {"file": str(self.path), "image_id": self.image_id}

    @property
    def named(self) -> str:
        """The image that it names, "" where it names none."""
        name = self.content.get("imagePath")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class _Fault:
    file: Path
    kind: str
    what: str
    action: Any


def _parse_all(paths: Sequence[Path], *, alone: bool) -> tuple[list[_File], list[_Fault]]:
    """Return the LabelMe files, and what is wrong with the others; a file that is alone raises."""
    files: list[_File] = []
    faults: list[_Fault] = []
    for path in paths:
        try:
            content = read_json(path)
        except DataError as error:
            if alone:
                raise
            faults.append(_Fault(path, "annotation-invalid", error.what, "dropped"))
            continue
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            embedded = content.pop("imageData", None)
            files.append(_File(path, content, isinstance(embedded, str) and bool(embedded)))
        elif isinstance(content, dict) and "shapes" in content:
            faults.append(_Fault(path, "annotation-invalid", "its shapes are no list", "dropped"))
        else:
            faults.append(_Fault(path, "file-unread", "no LabelMe file: not read", "ignored"))
    ids = image_ids([file.path for file in files])
    return [replace(file, image_id=ids[file.path]) for file in files], faults


# The image of each file.


@dataclass(frozen=True)
class _Place:
    path: str  # absolute
    found: bool
    renamed: str = ""  # why it is not the file that is named, "" where it is


def _images_of(files: Sequence[_File], images: Path | None, allow_outside: bool) -> list[_Place]:
    """Return the image of each file, existing or not.

    LabelMe names it relative to its own folder, with either slash. Where there is none, or the
    images folder is given, it is looked for by name and stem, as for other formats.
    """
    folders: dict[str, Folder] = {}
    pairing = Pairing([file.path for file in files], images)
    places = []
    for file in files:
        place = None if images else _as_named(file, folders, allow_outside)
        if place is None:
            name, renamed = pairing.find(file.path, PureWindowsPath(file.named).name)
            path = pairing.root.absolute() / name
            why = f"the file names {file.named!r}, {name!r} is used" if renamed else ""
            place = _Place(os.path.normpath(path), path.is_file(), why)
        places.append(place)
    return places


def _as_named(file: _File, folders: dict[str, Folder], allow_outside: bool) -> _Place | None:
    """Return the image that a file names relative to its own folder.

    One of the file's own stem beside it is preferred to another that is named: files are renamed
    more often than what is written in them.
    """
    relative = not leaves_folder(file.named.lstrip("./\\")) and file.named[:1] not in ("/", "\\")
    if not file.named or not (relative or allow_outside):
        return None
    target = file.path.parent.absolute() / file.named.replace("\\", "/")
    folder, base = os.path.split(os.path.normpath(target))
    there = folders.setdefault(folder, Folder(Path(folder)))
    found = there.find(base)
    own = there.find(f"{file.path.stem}{Path(base).suffix}")
    if own.name and own.name != found.name:
        beside = f"; {found.name!r} is there, too" if found.name else ""
        why = f"the file names {file.named!r}, {own.name!r} is of its own name{beside}"
        return _Place(own.path, Path(own.path).is_file(), why)
    if not found.name:
        return None
    why = "" if found.named else f"{file.named!r} is not there, {found.name!r} is used"
    return _Place(found.path, Path(found.path).is_file(), why)


def _add_image(
    builder: DatasetBuilder, file: _File, place: _Place, name: str, source: Path
) -> tuple[int, tuple[int, int]]:
    """Add a file's image; return its row and (height, width), zeros where nothing tells."""
    height, width = sides_of(file.content)
    if not (height and width) and any(file.content.get(k) for k in ("imageHeight", "imageWidth")):
        said = f"imageHeight {_short(file, 'imageHeight')}, imageWidth {_short(file, 'imageWidth')}"
        detail = f"{said}: no size of an image, the image's own is taken"
        builder.problem("annotation-invalid", detail, "kept", **file.where)
    if file.embedded and not place.found:
        detail = "the pixels are embedded in the file and lie nowhere else: save them as an image to train on it"
        builder.problem("image-embedded", detail, "kept", **file.where)
    if not (height and width) and (place.found or file.embedded):
        try:
            height, width = _own_size(file, place)
        except DataError as error:
            if not place.found:  # else it is said where all images are looked at
                builder.problem("image-unreadable", str(error), "kept", **file.where)
    if place.renamed:
        builder.problem("image-renamed", place.renamed, "kept", **file.where)
    inside = file.path.relative_to(source).parts[:-1] if source.is_dir() else ()
    extra = {
        k: v for k, v in file.content.items() if k not in _KNOWN and v not in ("", None, {}, [])
    }
    row = builder.image(
        **file.where, file_name=name, height=height, width=width, extra=extra or None,
        splits=tuple(split_name(part) for part in inside if is_split_name(part))[:1],
    )  # fmt: skip
    return row, (height, width)


def _short(file: _File, key: str) -> str:
    return repr(file.content.get(key))[:40]


def _own_size(file: _File, place: _Place) -> tuple[int, int]:
    if place.found:
        return read_header(place.path).shown
    return embedded_size(read_json(file.path)["imageData"], file.path)


# The objects of each file.


@dataclass
class _Object:
    """The shapes of one object: outlines or masks, and points."""

    outlines: list[Shape] = field(default_factory=list)
    points: list[Shape] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.outlines[0].label


def _objects(file: _File, builder: DatasetBuilder) -> list[_Object]:
    """Return a file's objects in the order of their first shapes, and list the shapes of none.

    A group of outlines with several labels is several objects; its points go to the first.
    """
    objects: dict[Any, _Object] = {}
    owners: dict[Any, _Object] = {}
    shapes = list(_shapes(file, builder))
    for shape in shapes:
        if shape.kind != "point":
            key = ("alone", shape.number) if shape.group is None else (shape.group, shape.label)
            objects.setdefault(key, _Object()).outlines.append(shape)
            owners.setdefault(shape.group, objects[key])
    for shape in shapes:
        if shape.kind == "point":
            fault = _point_fault(shape, None if shape.group is None else owners.get(shape.group))
            if fault:
                _report(builder, file, shape.number, "shape-unsupported", fault)
            else:
                owners[shape.group].points.append(shape)
    return list(objects.values())


def _point_fault(point: Shape, owner: _Object | None) -> str:
    if point.group is None:
        return f"a point {point.label!r}: of no group, it has no extent"
    if owner is None:
        return f"a point {point.label!r}: its group {point.group!r} has no outline or box"
    if any(other.label == point.label for other in owner.points):
        return f"a point {point.label!r}: group {point.group!r} has two of that name"
    return ""


def _shapes(file: _File, builder: DatasetBuilder) -> Iterable[Shape]:
    for number, given in enumerate(file.content["shapes"]):
        try:
            yield read_shape(given, number)
        except ValueError as error:
            _report(builder, file, number, "shape-unsupported", str(error))


def _report(
    builder: DatasetBuilder, file: _File, number: int, kind: str, what: str, action: Any = "dropped"
) -> None:
    builder.problem(
        kind, f"shape {number}, {what}", action, annotation_id=_id(file, number), **file.where
    )


def _id(file: _File, number: int) -> str:
    return f"{file.image_id}#{number}"


def _add_object(
    builder: DatasetBuilder, row: int, size: tuple[int, int], file: _File, thing: _Object, label: int,
    points: Sequence[str],
) -> None:  # fmt: skip
    keypoints = np.zeros((len(points), 3)) if points else None
    for shape in thing.points:
        assert keypoints is not None
        keypoints[points.index(shape.label)] = (*shape.outline[0], 2)
    masks = [found for s in thing.outlines if (found := _mask(builder, file, s, size)) is not None]
    outlines = [shape.outline for shape in thing.outlines if shape.kind == "polygon"]
    if masks and outlines:
        detail = "a mask: its group has outlines, too; the mask alone is kept"
        _report(builder, file, thing.outlines[0].number, "shape-unsupported", detail, "kept")
    every = np.concatenate([shape.outline for shape in thing.outlines])
    builder.object(
        row,
        label=label,
        box=None if len(masks) == len(thing.outlines) else (*every.min(axis=0), *every.max(axis=0)),
        polygons=[] if masks else _parts(thing.outlines),
        keypoints=keypoints,
        mask=RLE.from_mask(np.logical_or.reduce(masks)) if masks else None,
        annotation_id=_id(file, thing.outlines[0].number),
        extra=thing.outlines[0].extra,
    )


def _parts(outlines: Sequence[Shape]) -> list[NDArray[np.float64]]:
    """Return the parts of an outline; boxes alone are none."""
    if all(shape.kind != "polygon" for shape in outlines):
        return []
    return [shape.outline for shape in outlines]


def _mask(
    builder: DatasetBuilder, file: _File, shape: Shape, size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Return a mask shape's mask; list one that cannot be read, whose corners are a box."""
    if shape.kind != "mask":
        return None
    try:
        return read_mask(shape, size)
    except ValueError as error:
        what = f"a mask: {error}; its corners are kept"
        _report(builder, file, shape.number, "mask-invalid", what, "kept")
        return None
