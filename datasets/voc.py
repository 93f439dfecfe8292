"""Pascal VOC XML: one file for each image.

Corners are whole pixels there. VOC counts them from 1 and includes the last, so that a box covers
`x_min - 1` to `x_max` in continuous coordinates; many tools count from 0 instead. Which holds is
decided once for a dataset, by its sound boxes; the decision is noted in `Dataset.header["notes"]`.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets import losses
from ytrue.datasets.annotationfiles import Walk, report_overlaps, spread, walk
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.imagesets import ImageSets, is_list, write_lists
from ytrue.datasets.pairing import Claims, Pairing, image_ids
from ytrue.datasets.splits import folder_split
from ytrue.datasets.textfiles import read_bytes
from ytrue.errors import DataError, Problem

_FLAGS: Final = ("difficult", "truncated", "occluded", "pose")
_READ: Final = frozenset((*_FLAGS, "name", "bndbox", "polygon"))
_OF_IMAGE: Final = frozenset(
    ("folder", "filename", "path", "source", "owner", "size", "imagesize", "segmented", "object")
)
_LARGEST: Final = 2**31
_NOT_XML: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENCODING: Final = re.compile(rb"""^<\?xml[^>]*?\bencoding\s*=\s*["']([\w.:-]+)["']""")
_COUNTED_BY_EXPAT: Final = ("utf-8", "utf8", "us-ascii", "iso-8859-1", "utf-16")
_SHARE_OF_ZEROS: Final = 0.25
"""Corners count from 0 if at least so many of the boxes that begin at 0 or 1 begin at 0: a 1 is
possible in both, a 0 is a fault where corners count from 1."""


def recognises(source: Path) -> bool:
    """Return whether an XML file, or most of some XML files of a folder, are VOC annotations."""
    if not source.is_dir():
        return is_list(source) or (source.suffix.lower() == ".xml" and bool(_looks_right(source)))
    answers = [_looks_right(file) for file in spread(walk(source, (".xml",)).files)]
    told = [answer for answer in answers if answer is not None]
    return any(told) and 2 * sum(told) >= len(told)


def _looks_right(file: Path) -> bool | None:
    """Return whether a file is a VOC annotation, None where it tells nothing."""
    try:
        data = read_bytes(file)
    except DataError:
        return None
    return b"<annotation" in data[:8192].replace(b"\0", b"")


def read(
    source: str | Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
    difficult: str = "keep",
    one_based: bool | None = None,
) -> Dataset:
    """Read a folder of VOC XML files, or one file. Labels follow the sorted class names.

    Args:
        source: folder (also a VOCdevkit or VOC2012 folder), or one XML file.
        images: images folder; None: found nearby.
        strict: raise with the first problem.
        split: only the images of this list in ImageSets, or below a folder of this name.
        allow_outside: read images that file names lead to outside the images folder, too.
        difficult: "keep" objects so marked, or "ignore": make them crowd regions.
        one_based: whether corners count from 1; None: decided from the data.

    Raises:
        DataError: no XML file, or (one file only, or strict) an unreadable one; no such split.
        ValueError: `difficult` is neither.
    """
    if difficult not in ("keep", "ignore"):
        raise ValueError(f"difficult={difficult!r}, expected 'keep' or 'ignore'")
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    found = walk(folder, (".xml",)) if source.is_dir() else Walk([source])
    if not found.files or (source.is_file() and source.suffix.lower() != ".xml"):
        raise DataError(
            "no VOC XML file in it", where=source,
            do="name the folder of the XML files, and a list in ImageSets as the split",
        )  # fmt: skip
    parsed, faults = _parse_all(found.files)
    names = {image.file: image.file_name for image in parsed}
    pairing = Pairing(found.files, images, folder, names)
    builder = DatasetBuilder(
        source, format="voc", images=pairing.root, strict=strict, allow_outside=allow_outside
    )
    found.report(builder)
    for file, error in faults:
        builder.problem("annotation-invalid", str(error), "dropped", file=str(file))
    ids = image_ids([image.file for image in parsed])
    _report_faults(parsed, ids, builder)
    _report_unread(parsed, builder)
    counts_from_one, why = (
        _counting(parsed, builder) if one_based is None else (one_based, "as asked")
    )
    classes = sorted({o.name for image in parsed for o in image.objects})
    label_of = {name: label for label, name in enumerate(classes)}
    sets = ImageSets([image.file for image in parsed], folder, builder)
    pairing.report(builder)
    claims = Claims(builder)
    every = []
    for image in parsed:
        match = pairing.match(image.file, image.file_name)
        if not claims.claim(image.file, match, ids[image.file], said=image.file_name):
            continue
        splits = sets.of(image.file) or folder_split(image.file, folder)
        every.append(splits)
        row = builder.image(
            file=str(image.file), image_id=ids[image.file], file_name=match.name,
            height=image.height, width=image.width, splits=splits,
        )  # fmt: skip
        _add(builder, row, image, ids[image.file], label_of, difficult, counts_from_one)
    report_overlaps(every, builder)
    kind = "from 1, the last pixel included" if counts_from_one else "from 0"
    dataset = builder.finish(
        classes=classes, class_ids=classes, header={"notes": [f"pixel corners count {kind}: {why}"]}
    )
    return dataset if split is None else dataset.split(split)


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, float, float, float] | None  # x_min, y_min, x_max, y_max as in the file
    outline: NDArray[np.float64] | None  # (V, 2) y, x
    extra: Mapping[str, Any]
    unread: tuple[str, ...]  # what else the file says about it
    number: int  # position in the file


@dataclass(frozen=True)
class _Image:
    file: Path
    file_name: str
    height: int
    width: int
    objects: list[_Object]
    faults: list[tuple[str, int | None]]  # what is wrong, with which object
    unread: tuple[str, ...]


def _parse_all(files: Sequence[Path]) -> tuple[list[_Image], list[tuple[Path, DataError]]]:
    """Return what the files hold, and those that cannot be read; one alone must be readable."""
    parsed, faults = [], []
    for file in files:
        try:
            parsed.append(_parse(file))
        except DataError as error:
            if len(files) == 1:
                raise
            faults.append((file, error))
    return parsed, faults


def _report_faults(
    images: Sequence[_Image], ids: Mapping[Path, str], builder: DatasetBuilder
) -> None:
    for image in images:
        for fault, number in image.faults:
            builder.problem(
                "annotation-invalid", fault, "kept" if number is None else "dropped",
                file=str(image.file), image_id=ids[image.file],
                annotation_id=None if number is None else f"{ids[image.file]}#{number}",
            )  # fmt: skip


def _parse(file: Path) -> _Image:
    root = _root(read_bytes(file, as_stored=True), file)
    if root.tag != "annotation":
        raise DataError(
            f"the top is <{root.tag}>, expected <annotation>", where=file, do="remove it"
        )
    objects: list[_Object] = []
    faults: list[tuple[str, int | None]] = []
    for number, element in enumerate(root.findall("object")):
        try:
            objects.append(_parse_object(element, number))
        except ValueError as error:
            faults.append((f"object {number}: {error}", number))
    height, width = 0, 0
    try:
        height, width = _size(root)
    except ValueError as error:
        faults.append((f"{error}: the image file's size is taken", None))
    name = (root.findtext("filename") or "").strip()
    unread = tuple(sorted({child.tag for child in root if len(child)} - _OF_IMAGE))
    return _Image(file, name, height, width, objects, faults, unread)


def _root(data: bytes, file: Path) -> ET.Element:
    """Return the top element of XML in any encoding that it declares and Python knows.

    Raises:
        DataError: not XML, or with a document type.
    """
    declared = _ENCODING.match(data[:256])
    text: bytes | str = data
    try:
        if declared and declared[1].decode().lower() not in _COUNTED_BY_EXPAT:
            text = data.decode(declared[1].decode())  # the parser itself knows few
    except (LookupError, ValueError) as error:
        raise DataError(
            f"not text in its encoding ({error})", where=file, do="save it as UTF-8"
        ) from None
    # Without its zero bytes UTF-16 (which no mark needs to announce) reads as ASCII here.
    plain = text.encode(errors="replace") if isinstance(text, str) else data.replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise DataError("XML with a document type is refused", where=file, do="remove its DOCTYPE")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"not valid XML ({error})", where=file, do="export it again") from None


def _size(root: ET.Element) -> tuple[int, int]:
    """Return (height, width), 0 where the file has none.

    Raises:
        ValueError: sides that no image has.
    """
    size = root.find("size")
    height, width = (_number(size, name, 0.0) for name in ("height", "width"))
    if not (0 <= height < _LARGEST and 0 <= width < _LARGEST):
        raise ValueError(f"<size> is {width:g} x {height:g}, expected numbers of pixels")
    return int(height), int(width)


def _parse_object(element: ET.Element, number: int) -> _Object:
    """Return an object.

    Raises:
        ValueError: no name, or neither a box nor an outline.
    """
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object without a name")
    box, outline = element.find("bndbox"), _outline(element.find("polygon"))
    corners = None
    if box is not None or outline is None:
        x_min, y_min, x_max, y_max = (
            _number(box, side) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        corners = x_min, y_min, x_max, y_max
    texts = {flag: (element.findtext(flag) or "").strip() for flag in _FLAGS}
    extra = {
        flag: int(t) if t.isascii() and t.isdigit() and len(t) < 10 else t
        for flag, t in texts.items()
        if t not in ("", "0", "Unspecified")
    }
    unread = tuple(sorted({child.tag for child in element if _says(child)} - _READ))
    return _Object(name, corners, outline, extra, unread, number)


def _says(element: ET.Element) -> bool:
    return len(element) > 0 or bool((element.text or "").strip())


def _outline(polygon: ET.Element | None) -> NDArray[np.float64] | None:
    """Return the vertices (V, 2) y, x of `<x1>, <y1>, <x2>, ...` or of `<pt><x><y>`.

    Raises:
        ValueError: a vertex that is no number.
    """
    if polygon is None:
        return None
    points = [(_number(pt, "y"), _number(pt, "x")) for pt in polygon.findall("pt")]
    while not polygon.findall("pt") and polygon.find(f"x{len(points) + 1}") is not None:
        k = len(points) + 1
        points.append((_number(polygon, f"y{k}"), _number(polygon, f"x{k}")))
    return np.array(points, np.float64) if len(points) >= 3 else None


def _number(parent: ET.Element | None, name: str, default: float | None = None) -> float:
    text = parent.findtext(name) if parent is not None else None
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError:
        said = None if text is None else text[:40]
        raise ValueError(f"<{name}> is {said!r}, expected a number") from None


def _report_unread(images: Sequence[_Image], builder: DatasetBuilder) -> None:
    """List once for each kind of element what objects (and images) have and is not read."""
    counts = Counter(tag for image in images for o in image.objects for tag in o.unread)
    first = {
        tag: image.file for image in reversed(images) for o in image.objects for tag in o.unread
    }
    for tag, count in sorted(counts.items()):
        detail = f"<{tag}> of {count} objects is not read"
        builder.problem("field-unread", detail, "dropped", file=str(first[tag]))
    counts = Counter(tag for image in images for tag in image.unread)
    first = {tag: image.file for image in reversed(images) for tag in image.unread}
    for tag, count in sorted(counts.items()):
        detail = f"<{tag}> of {count} images is not read"
        builder.problem("field-unread", detail, "dropped", file=str(first[tag]))


def _counting(images: Sequence[_Image], builder: DatasetBuilder) -> tuple[bool, str]:
    """Return whether corners count from 1, and why, as the sound boxes tell."""
    zeros = ones = edges = 0
    for image, corners in _sound(images):
        first = min(corners[:2])
        zeros += first == 0
        ones += first == 1
        edges += corners[2] == image.width or corners[3] == image.height
    if zeros and zeros >= _SHARE_OF_ZEROS * (zeros + ones):
        return False, f"{zeros} boxes have a coordinate of 0"
    why = f"{edges} boxes end exactly at the image's edge"
    if not zeros:
        return True, f"no coordinate is 0, {why}"
    why = f"{ones} boxes begin at 1 and {zeros} at 0, {why}"
    builder.problem("corners-doubtful", f"pixel corners are counted from 1: {why}", "kept")
    return True, why


def _sound(images: Sequence[_Image]) -> Iterator[tuple[_Image, tuple[float, float, float, float]]]:
    """Yield the boxes that have an area and lie in their image."""
    for image in images:
        for found in image.objects:
            corners = found.corners
            if corners is None or not all(map(math.isfinite, corners)):
                continue
            x_min, y_min, x_max, y_max = corners
            beyond = image.width and (x_max > image.width or y_max > image.height)
            if 0 <= x_min < x_max and 0 <= y_min < y_max and not beyond:
                yield image, corners


def _add(
    builder: DatasetBuilder, row: int, image: _Image, image_id: str, label_of: Mapping[str, int],
    difficult: str, one_based: bool,
) -> None:  # fmt: skip
    for found in image.objects:
        box = None
        if found.corners is not None:
            corners = np.array(found.corners)
            # A box of equal corners is a slip of the mouse, not a pixel: it stays empty, is listed.
            if one_based and corners[2] > corners[0] and corners[3] > corners[1]:
                corners -= (1, 1, 0, 0)
            box = boxes.from_xyxy(corners).tolist()
        builder.object(
            row,
            label=label_of[found.name],
            box=box,
            polygons=[] if found.outline is None else [found.outline],
            crowd=difficult == "ignore" and bool(found.extra.get("difficult")),
            annotation_id=f"{image_id}#{found.number}",
            extra=found.extra,
        )


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write one XML for each image, corners whole pixels from 1; returns what VOC cannot hold.

    Splits are written as lists in `ImageSets/Main`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [*losses.image_fields(dataset, "VOC"), *losses.unused_classes(dataset, "VOC")]
    names = [_class_name(label, name) for label, name in enumerate(dataset.classes)]
    for name, written in zip(dataset.classes, names, strict=True):
        if name != written:
            detail = f"VOC holds no class {name!r}: XML has no such text; written as {written!r}"
            found.append(losses.lost(dataset, detail))
    objects = dataset.objects
    for index in range(len(dataset)):
        example = dataset[index]
        root = ET.Element("annotation")
        file_name = Path(dataset.images.file_names[index])
        ET.SubElement(root, "filename").text = _xml_text(file_name.name)
        size = ET.SubElement(root, "size")
        for name, value in (("width", example.width), ("height", example.height), ("depth", 3)):
            ET.SubElement(size, name).text = str(value)
        for row, box in zip(dataset.rows_of(index), example.annotations.boxes, strict=True):
            found += _lost(dataset, int(row), example.image_id)
            element = ET.SubElement(root, "object")
            ET.SubElement(element, "name").text = names[objects.label[row]]
            for flag in _FLAGS:
                if flag in objects.extra.get(int(row), {}):
                    said = str(objects.extra[int(row)][flag])
                    ET.SubElement(element, flag).text = _xml_text(said)
            bounds = ET.SubElement(element, "bndbox")
            x_min, y_min, x_max, y_max = boxes.to_xyxy(box)
            for name, edge in (
                ("xmin", x_min + 1),
                ("ymin", y_min + 1),
                ("xmax", x_max),
                ("ymax", y_max),
            ):
                ET.SubElement(bounds, name).text = _corner(float(edge))
        ET.indent(root)
        ET.ElementTree(root).write(folder / f"{file_name.stem}.xml", encoding="utf-8")
    return found + write_lists(dataset, folder)


def _xml_text(text: str) -> str:
    """Return text with the characters that XML cannot hold written as Python escapes them."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _class_name(label: int, name: str) -> str:
    """Return a class name as XML gives it back: without outer spaces, and not empty."""
    return _xml_text(name).strip() or f"class {label}"


def _corner(edge: float) -> str:
    # A corner written as 0 would tell every reader that this dataset counts from 0.
    text = f"{edge:.3f}".rstrip("0").rstrip(".")
    return "0.001" if text in ("0", "-0") else text


def _lost(dataset: Dataset, row: int, image_id: int | str) -> list[Problem]:
    objects = dataset.objects
    what = []
    if objects.first_part[row + 1] > objects.first_part[row] or row in objects.rles:
        what.append("outline")
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        what.append("keypoints")
    if objects.crowd[row]:
        what.append("crowd flag")
    if objects.xywh[row, 2:].min() <= 1:
        what.append("box of one pixel or less: readers take its equal corners for an empty box")
    if objects.extra.get(row, {}).keys() - set(_FLAGS):
        what.append("extra fields")
    return [
        Problem(
            "field-lost",
            f"VOC holds no {name}",
            "dropped",
            str(dataset.source),
            image_id,
            objects.ids[row],
        )
        for name in what
    ]
