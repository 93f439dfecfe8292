"""Pascal VOC XML: one file for each image.

Corners are whole pixels there. VOC counts them from 1 and includes the last, so that a box covers
`x_min - 1` to `x_max` in continuous coordinates; many tools count from 0 instead. Which holds is
decided once for a dataset: from 0 if any coordinate is 0, else from 1. The decision is noted in
`Dataset.header["notes"]`.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ytrue import boxes
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.dataset import Dataset
from ytrue.datasets.pairing import Pairing, image_ids
from ytrue.datasets.textfiles import read_bytes
from ytrue.errors import DataError, Problem

_PLACES = ("*.xml", "Annotations/*.xml", "annotations/*.xml", "*/*.xml", "*/Annotations/*.xml",
           "*/*/Annotations/*.xml")  # fmt: skip
_FLAGS = ("difficult", "truncated", "occluded", "pose")


def recognises(source: Path) -> bool:
    """Return whether a file, or the first XML file of a folder, is a VOC annotation."""
    files = _files(source)
    return bool(files) and b"<annotation" in files[0].read_bytes()[:4096]


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source] if source.suffix.lower() == ".xml" else []
    for pattern in _PLACES:
        found = sorted(source.glob(pattern))
        if found:
            return found
    return []


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
        difficult: "keep" objects so marked, or "ignore": make them crowd regions.
        one_based: whether corners count from 1; None: decided from the data.

    Raises:
        DataError: no XML file, or (one file only, or strict) an unreadable one.
        ValueError: `difficult` is neither.
    """
    del split, allow_outside
    if difficult not in ("keep", "ignore"):
        raise ValueError(f"difficult={difficult!r}, expected 'keep' or 'ignore'")
    source = Path(source)
    files = _files(source)
    if not files:
        raise DataError(
            "no VOC XML file in it", where=source, do="name the folder of the XML files"
        )
    pairing = Pairing(files, images)
    builder = DatasetBuilder(source, format="voc", images=pairing.root, strict=strict)
    parsed = []
    for file in files:
        try:
            parsed.append(_parse(file))
        except DataError as error:
            if len(files) == 1:
                raise
            builder.problem("annotation-invalid", str(error), "dropped", file=str(file))
    classes = sorted({o.name for image in parsed for o in image.objects})
    counts_from_one, why = _counting(parsed) if one_based is None else (one_based, "as asked")
    ids = image_ids([image.file for image in parsed])
    for image in parsed:
        _add(builder, pairing, image, ids[image.file], classes, difficult, counts_from_one)
    kind = "from 1, the last pixel included" if counts_from_one else "from 0"
    return builder.finish(
        classes=classes, class_ids=classes, header={"notes": [f"pixel corners count {kind}: {why}"]}
    )


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max as in the file
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class _Image:
    file: Path
    file_name: str
    height: int
    width: int
    objects: list[_Object]


def _parse(file: Path) -> _Image:
    data = read_bytes(file)
    # Without its zero bytes UTF-16 (which no mark needs to announce) reads as ASCII here.
    plain = data.replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise DataError("XML with a document type is refused", where=file, do="remove its DOCTYPE")
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise DataError(f"not valid XML ({error})", where=file, do="export it again") from None
    if root.tag != "annotation":
        raise DataError(
            f"the top is <{root.tag}>, expected <annotation>", where=file, do="remove it"
        )
    size = root.find("size")
    height, width = (_number(size, name, file, 0.0) for name in ("height", "width"))
    if not (math.isfinite(height) and math.isfinite(width)):
        raise DataError(
            f"<size> is {width:g} x {height:g}, expected numbers", where=file, do="mend its size"
        )
    return _Image(
        file,
        (root.findtext("filename") or "").strip(),
        int(height),
        int(width),
        [_parse_object(element, file) for element in root.findall("object")],
    )


def _parse_object(element: ET.Element, file: Path) -> _Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError("an object without a name", where=file, do="name its class")
    box = element.find("bndbox")
    x_min, y_min, x_max, y_max = (
        _number(box, side, file) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    texts = {flag: (element.findtext(flag) or "").strip() for flag in _FLAGS}
    extra = {
        flag: int(t) if t.isdigit() else t
        for flag, t in texts.items()
        if t not in ("", "0", "Unspecified")
    }
    return _Object(name, (x_min, y_min, x_max, y_max), extra)


def _number(
    parent: ET.Element | None, name: str, file: Path, default: float | None = None
) -> float:
    text = parent.findtext(name) if parent is not None else None
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError:
        raise DataError(
            f"<{name}> is {text!r}, expected a number", where=file, do="mend or remove the file"
        ) from None


def _counting(images: list[_Image]) -> tuple[bool, str]:
    """Return whether corners count from 1, and why."""
    zeros = sum(0 in o.corners for image in images for o in image.objects)
    edges = sum(
        o.corners[2] == image.width or o.corners[3] == image.height
        for image in images
        for o in image.objects
    )
    if zeros:
        return False, f"{zeros} boxes have a coordinate of 0"
    return True, f"no coordinate is 0, {edges} boxes end exactly at the image's edge"


def _add(
    builder: DatasetBuilder, pairing: Pairing, image: _Image, image_id: str, classes: list[str],
    difficult: str, one_based: bool,
) -> None:  # fmt: skip
    file_name, renamed = pairing.find(image.file, image.file_name)
    row = builder.image(
        file=str(image.file), image_id=image_id, file_name=file_name,
        height=image.height, width=image.width,
    )  # fmt: skip
    if renamed:
        detail = f"the file names {image.file_name!r}, {file_name!r} is used"
        builder.problem("image-renamed", detail, "kept", file=str(image.file), image_id=image_id)
    for k, found in enumerate(image.objects):
        corners = np.array(found.corners)
        # A box of equal corners is a slip of the mouse, not a pixel: it stays empty and is listed.
        if one_based and corners[2] > corners[0] and corners[3] > corners[1]:
            corners -= (1, 1, 0, 0)
        builder.object(
            row,
            label=classes.index(found.name),
            box=boxes.from_xyxy(corners).tolist(),
            crowd=difficult == "ignore" and bool(found.extra.get("difficult")),
            annotation_id=f"{image_id}#{k}",
            extra=found.extra,
        )


def write(dataset: Dataset, folder: Path) -> list[Problem]:
    """Write one XML for each image, corners whole pixels from 1; returns what VOC cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    lost = []
    objects = dataset.objects
    for index in range(len(dataset)):
        example = dataset[index]
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = Path(dataset.images.file_names[index]).name
        size = ET.SubElement(root, "size")
        for name, value in (("width", example.width), ("height", example.height), ("depth", 3)):
            ET.SubElement(size, name).text = str(value)
        for row, box in zip(dataset.rows_of(index), example.annotations.boxes, strict=True):
            lost += _lost(dataset, int(row), example.image_id)
            element = ET.SubElement(root, "object")
            ET.SubElement(element, "name").text = dataset.classes[objects.label[row]]
            for flag in _FLAGS:
                if flag in objects.extra.get(int(row), {}):
                    ET.SubElement(element, flag).text = str(objects.extra[int(row)][flag])
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
        stem = Path(dataset.images.file_names[index]).stem
        ET.ElementTree(root).write(folder / f"{stem}.xml", encoding="utf-8")
    return lost


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
