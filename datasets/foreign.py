"""What a file is that is not read: told from its first bytes, with words that help.

Also what it is where it is read: recognition counts what most files of a folder are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ytrue.datasets.plainfiles import open_plain
from ytrue.errors import DataError

_LOOKED_AT: Final = 2**16
_COCO: Final = "export it as COCO, Pascal VOC or YOLO"
_UNPACK: Final = "unpack it, and name the folder"


class Kind(NamedTuple):
    """What a file is.

    Attributes:
        name: in words.
        do: what helps, "" where it is read.
        format: the format of ours, "" where it is none.
    """

    name: str
    do: str = ""
    format: str = ""


OURS: Final = {
    "coco": Kind("COCO JSON", format="coco"),
    "labelme": Kind("LabelMe JSON", format="labelme"),
    "voc": Kind("Pascal VOC XML", format="voc"),
    "yolo": Kind("YOLO txt", format="yolo"),
}
JSON: Final = Kind("JSON of no known kind", "expected COCO or LabelMe JSON")
XML: Final = Kind("XML of no known kind", "expected Pascal VOC XML, whose top is <annotation>")
TEXT: Final = Kind("text")
UNKNOWN: Final = Kind("of no known kind")

_MAGIC: Final = (
    (0, b"\x1f\x8b", Kind("a gzip archive", _UNPACK)),
    (0, b"PK\x03\x04", Kind("a zip archive", _UNPACK)),
    (0, b"BZh", Kind("a bzip2 archive", _UNPACK)),
    (0, b"\xfd7zXZ", Kind("an xz archive", _UNPACK)),
    (0, b"7z\xbc\xaf", Kind("a 7z archive", _UNPACK)),
    (0, b"Rar!", Kind("a rar archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("a zstd archive", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
    (0, b"PAR1", Kind("a parquet table", "write its boxes as COCO JSON: see docs/formats.md")),
    (0, b"\x89HDF", Kind("an HDF5 file", "write its boxes as COCO JSON: see docs/formats.md")),
    (0, b"SQLite format 3", Kind("an SQLite database", _COCO)),
    (0, b"\x93NUMPY", Kind("a NumPy array", "write its boxes as COCO JSON: see docs/formats.md")),
    (
        0,
        b"\xff\xd8\xff",
        Kind("an image", "name the annotation file, or the folder of the dataset"),
    ),
    (0, b"\x89PNG", Kind("an image", "name the annotation file, or the folder of the dataset")),
    (0, b"%PDF", Kind("a PDF", "name the annotation file")),
)

# Where every word stands in a JSON file, and none of the others does.
_JSON: Final = (
    (("result", "data"), (), Kind("Label Studio's JSON",
     "export it from Label Studio as COCO or YOLO with images")),
    (("annotation_id", "lead_time"), (), Kind("Label Studio's JSON-MIN",
     "export it from Label Studio as COCO or YOLO with images")),
    (("label", "coordinates", "annotations"), ("bbox",), Kind("CreateML JSON",
     "export it as COCO: Roboflow and RectLabel convert CreateML")),
    (("shape_attributes",), (), Kind("VIA JSON (VGG Image Annotator)",
     "export it from VIA as COCO")),
    (("_via_img_metadata",), (), Kind("VIA JSON (VGG Image Annotator)", "export it from VIA as COCO")),
    (("classTitle",), (), Kind("Supervisely JSON", "export it from Supervisely as COCO")),
    (("points", "exterior"), (), Kind("Supervisely JSON", "export it from Supervisely as COCO")),
    (("dm_format_version",), (), Kind("Datumaro JSON", "datum convert -f coco writes COCO")),
    (("items", "infos", "categories"), (), Kind("Datumaro JSON",
     "datum convert -f coco writes COCO")),
    (("box2d",), ("bbox",), Kind("BDD100K or Scalabel JSON", "bdd100k.label.to_coco writes COCO")),
    (("data_row",), (), Kind("Labelbox JSON", "convert it to COCO, or export it as COCO")),
    (("asset", "regions"), (), Kind("VoTT JSON", "export it from VoTT as Pascal VOC")),
    (("source-ref",), (), Kind("an AWS manifest", _COCO)),
    (("caption", "image_id"), ("bbox", "segmentation"), Kind("COCO captions, without boxes",
     "name the instances_*.json file beside it")),
)  # fmt: skip

_TOP: Final = re.compile(rb"<\s*([A-Za-z_][\w.:-]*)")
_PROLOG: Final = re.compile(rb"<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def kind_of(path: Path) -> Kind:
    """Return what a file is.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    head, tail = _ends(path)
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if not head.strip():
        raise DataError("the file is empty", where=path, do="export the annotations again")
    suffix = path.suffix.lower()
    if suffix in (".tfrecord", ".record", ".tfrecords"):
        return Kind(
            "a TFRecord file", "name the folder that ytrue encode wrote; others: export COCO"
        )
    head, tail = _plain(head), _plain(tail)
    if suffix in (".csv", ".tsv"):
        return _table(head.decode("utf-8", "replace"))
    if head[:1] in (b"{", b"["):
        return _json(head, tail)
    if head[:1] == b"<":
        return _xml(head)
    return _text(head.decode("utf-8", "replace"), suffix)


def _ends(path: Path) -> tuple[bytes, bytes]:
    with open_plain(path) as file:
        head = file.read(_LOOKED_AT)
        size = os.fstat(file.fileno()).st_size
        file.seek(max(len(head), size - _LOOKED_AT))
        return head, file.read(_LOOKED_AT)


def _plain(data: bytes) -> bytes:
    """Return bytes as ASCII reads them, whatever the encoding: marks and zero bytes left out."""
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        data = data.removeprefix(mark)
    return data.replace(b"\0", b"").strip()


def _json(head: bytes, tail: bytes) -> Kind:
    def has(word: str) -> bool:
        key = re.compile(rb'"' + word.encode() + rb'"\s*:')
        return bool(key.search(head) or key.search(tail))

    for words, others, kind in _JSON:
        if all(map(has, words)) and not any(map(has, others)):
            return kind
    if has("shapes") and any(map(has, ("imagePath", "imageData", "shape_type", "points"))):
        return OURS["labelme"]
    if any(map(has, ("annotations", "categories", "image_id", "file_name"))):
        return OURS["coco"]
    return JSON


def _xml(head: bytes) -> Kind:
    top = _TOP.search(_PROLOG.sub(b"", head))
    name = top[1].decode("ascii", "replace") if top else ""
    if name == "annotation":
        return OURS["voc"]
    if name == "annotations" and (b"<image" in head or b"<track" in head or b"<meta" in head):
        return Kind(
            "CVAT XML", "export it from CVAT as COCO 1.0, Pascal VOC 1.1 or Ultralytics YOLO"
        )
    if name == "dataset" and b"<images" in head:
        return Kind("dlib's imglab XML", _COCO)
    return Kind(f"XML whose top is <{name}>", XML.do) if name else XML


def _table(text: str) -> Kind:
    columns = [name.strip().strip('"') for name in re.split(r"[,;\t]", text.split("\n")[0])]
    if {"ImageID", "LabelName"} <= set(columns):
        return Kind("an OpenImages CSV", "fiftyone or datumaro convert OpenImages to COCO")
    listed = ", ".join(columns[:6])
    return Kind(f"a CSV table ({listed})", "write its boxes as COCO JSON: see docs/formats.md")


def _text(text: str, suffix: str) -> Kind:
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    rows = [line.split() for line in lines]
    if any(line.startswith(("imagesource:", "gsd:")) for line in lines) or _most(rows, _is_dota):
        return Kind("DOTA txt", "convert it: ultralytics.data.converter.convert_dota_to_yolo_obb")
    if _most(rows, _is_kitti):
        return Kind("KITTI txt", "datumaro converts KITTI to COCO")
    if _most([line.split(",") for line in lines], _is_mot):
        return Kind("MOT txt", "datumaro or CVAT converts MOT to COCO")
    if _most(rows, lambda row: len(row) >= 5 and all(map(_NUMBER.match, row))):
        return OURS["yolo"]
    return TEXT if suffix in (".txt", ".md", "") else UNKNOWN


def _most(rows: list[list[str]], is_one: Callable[[list[str]], object]) -> bool:
    return bool(rows) and 2 * sum(bool(is_one(row)) for row in rows) > len(rows)


def _is_kitti(row: list[str]) -> bool:
    return len(row) in (15, 16) and not _NUMBER.match(row[0]) and all(map(_NUMBER.match, row[1:]))


def _is_dota(row: list[str]) -> bool:
    return len(row) in (9, 10) and all(map(_NUMBER.match, row[:8])) and not _NUMBER.match(row[8])


def _is_mot(row: list[str]) -> bool:
    return len(row) in (9, 10) and all(_NUMBER.match(word.strip()) for word in row)
