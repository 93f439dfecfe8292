"""COCO JSON: instances and person_keypoints.

A million annotations are never in memory as objects: the file is read in blocks, each block's
annotations are decoded, appended to flat columns and forgotten.
"""

from __future__ import annotations

import gc
import re
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.datasets.building import numbers, raise_first, tight_box, vetted
from ytrue.datasets.dataset import Dataset, Id, Images, Objects, select_objects
from ytrue.datasets.imagefiles import Folder, choose_folder, folders_around
from ytrue.datasets.textfiles import BETWEEN, check_start, read_bytes, read_text
from ytrue.datasets.vetting import Names
from ytrue.errors import Action, DataError, Problem
from ytrue.files import replace_file
from ytrue.rle import RLE

if TYPE_CHECKING:
    from ytrue.datasets.cocotext import Parsed

BLOCK: Final = 2**20
_START: Final = re.compile(rb'"annotations"\s*:\s*\[')
_FIRST_KEY: Final = re.compile(rb'\s*\{\s*("(?:[^"\\]|\\.)*")\s*:')
_END: Final = re.compile(rb"\}\s*\]")
_KNOWN: Final = frozenset(
    ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints",
     "num_keypoints")
)  # fmt: skip


class _RLE(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    size: list[int]
    counts: list[int] | str


class _Annotation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: int | str
    image_id: int | str
    category_id: int | str
    bbox: list[float]
    area: float | None = None
    iscrowd: int | None = 0
    segmentation: list[list[float]] | _RLE | None = None
    keypoints: list[float] | None = None
    num_keypoints: int | None = None


_ANNOTATIONS: Final = msgspec.json.Decoder(list[_Annotation])
_RLES: Final = msgspec.json.Decoder(_RLE)
LARGE: Final = 64 * 2**20
"""Files above so many bytes are worth loading compiled code for."""


_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# Recognising and reading.


def recognises(source: Path) -> bool:
    """Return whether a file, or exactly the JSON files of a folder, look like COCO."""
    if source.is_dir():
        return bool(annotation_files(source))
    if source.suffix.lower() != ".json":
        return False
    with source.open("rb") as file:
        head = file.read(4096)
    # Results are recognised so that `read` can say what they are.
    results = head.lstrip().startswith(b"[") and b'"image_id"' in head
    return results or _looks_like_coco(source)


def annotation_files(folder: Path) -> list[Path]:
    """Return the COCO files of a dataset's folder, its own or in the usual places below."""
    for pattern in ("*.json", "annotations/*.json", "*/annotations/*.json", "*/*.json"):
        found = [path for path in sorted(folder.glob(pattern)) if _looks_like_coco(path)]
        if found:
            return found
    return []


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2**16)
        if b'"shapes"' in head and b'"imagePath"' in head:
            return False
        if b'"annotations"' in head or b'"categories"' in head:
            return True
        # In a large file the list of images may come first, and be long.
        return b'"images"' in head and b'"file_name"' in head


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    split: str | None = None,
    allow_outside: bool = False,
    locate: bool = True,
) -> Dataset:
    """Read a COCO JSON file, or the only one of a folder; `locate`: look for the image files.

    Raises:
        DataError: not JSON, not COCO, several files to choose from; with `strict` any problem.
    """
    del split
    path = _single(source) if source.is_dir() else source
    raw = _Columns(path, strict, path.stat().st_size > LARGE)
    collecting = gc.isenabled()
    gc.disable()  # a block of annotations is many small lists; collecting them costs a third
    try:
        return raw.dataset(_read_annotations(path, raw), images, locate, allow_outside)
    finally:
        if collecting:
            gc.enable()


def _single(folder: Path) -> Path:
    found = annotation_files(folder)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
    raise DataError(
        f"the folder holds {len(found)} COCO files ({listed})",
        where=folder,
        do="name one of them" if found else "name the annotation file",
    )


def _read_annotations(path: Path, raw: _Columns) -> dict[str, Any]:
    """Feed every annotation to `raw` and return the rest of the file."""
    with path.open("rb") as file:
        before, buffer = _until_annotations(file, path)
        after = _feed(file, buffer, raw)
    if after is None:
        raise _broken(path)
    try:
        behind = msgspec.json.decode(b'{"annotations":[]' + after, type=dict[str, Any])
    except _BROKEN:
        raise _broken(path) from None
    if behind["annotations"] != []:
        raise DataError("annotations are listed twice", where=path, do="export it again")
    return {**before, **behind}


def _until_annotations(file: BinaryIO, path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the fields before the annotations, and the beginning of the annotations' text.

    A list of that name inside another record is not theirs: what stands before it, closed, is no
    whole object.
    """
    head = check_start(file.read(BLOCK), path)
    searched = 0
    while True:
        for match in _START.finditer(head, searched):
            try:
                before = msgspec.json.decode(head[: match.start()] + b'"annotations":[]}')
            except _BROKEN:
                searched = match.end()
                continue
            return before, head[match.end() :]
        more = file.read(max(BLOCK, len(head)))
        if not more:
            raise _whole(head, path)
        searched = max(searched, len(head) - 64)
        head += more


def _feed(file: BinaryIO, buffer: bytes, raw: _Columns) -> bytes | None:
    """Decode block after block; return what follows the annotations, None where they never end."""
    empty = re.match(rb"\s*\]", buffer)
    if empty:
        return buffer[empty.end() :] + file.read()
    ended = False
    while True:
        cut = _decode_front(buffer, raw)
        if cut is not None:
            taken, done = cut
            buffer = buffer[taken:]
            if done:
                return buffer + file.read()
            if len(buffer) > BLOCK:
                continue
        elif ended:
            return None
        more = file.read(BLOCK if cut else max(BLOCK, len(buffer)))
        ended = not more
        buffer += more


def _decode_front(buffer: bytes, raw: _Columns) -> tuple[int, bool] | None:
    """Decode as many whole annotations as the buffer begins with.

    A cut is right exactly when what stands before it decodes as a list: a candidate inside a
    string or a nested object leaves something open. Returns how many bytes were taken and whether
    the list ended there, None where no cut was found.
    """
    end = _END.search(buffer)
    if end and raw.take(b"[" + buffer[: end.start() + 1] + b"]"):
        return end.end(), True
    tail = max(0, len(buffer) - 2**16)
    for between in _betweens(buffer):
        for match in reversed(list(between.finditer(buffer, tail))[-20:]):
            if raw.take(b"[" + buffer[: match.start() + 1] + b"]"):
                return match.end(), False
    for match in _END.finditer(buffer, end.end() if end else 0):
        if raw.take(b"[" + buffer[: match.start() + 1] + b"]"):
            return match.end(), True
    return None


def _betweens(buffer: bytes) -> Iterator[re.Pattern[bytes]]:
    """Yield what may stand between two annotations, the likeliest first.

    Writers begin every annotation with the same key, which tells annotations from the records
    within them.
    """
    first = _FIRST_KEY.match(buffer)
    if first:
        yield re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(first[1]) + rb"\s*:)")
    yield BETWEEN


def _whole(data: bytes, path: Path) -> DataError:
    """Return what is wrong with a file in which no annotations begin."""
    try:
        rest = msgspec.json.decode(data)
    except _BROKEN:
        return _broken(path)
    return _foreign(path, rest)


def _broken(path: Path) -> DataError:
    """Return what is wrong with a file that does not decode, in the decoder's words."""
    data = read_bytes(path)
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        text = str(error)
        number = _not_a_number(data, text)
        if number:
            what = f"{number} stands where a number is due, which JSON does not have"
            return DataError(what, where=path, do="give the number, or remove the annotation")
        truncated = "truncated" in text
        what = "the JSON is cut short" if truncated else f"not valid JSON ({text})"
        do = "copy or export the file again, and save it as UTF-8"
        return DataError(what, where=path, do=do)
    except RecursionError:
        return DataError("records are nested too deeply", where=path, do="export it again")
    except UnicodeDecodeError:
        try:
            read_text(path)
        except DataError as error:
            return error
    return DataError("the annotations cannot be told apart", where=path, do="export it again")


def _not_a_number(data: bytes, error: str) -> str:
    """Return what Python's json writes for a number that is not finite, if that is the error."""
    place = re.search(r"\(byte (\d+)\)", error)
    found = re.compile(rb"NaN|Infinity").match(data, int(place[1])) if place else None
    return f"{found[0].decode()} (byte {found.start()})" if found else ""


def _foreign(path: Path, rest: object) -> DataError:
    if isinstance(rest, list):
        results = bool(rest) and isinstance(rest[0], dict) and "score" in rest[0]
        what = "a list of detection results" if results else "a list"
        do = "name the annotation file it was made for" if results else "expected an object"
        return DataError(f"the file holds {what}, not a COCO dataset", where=path, do=do)
    keys = ", ".join(list(rest)[:8]) if isinstance(rest, dict) else type(rest).__name__
    return DataError(
        f"no list of annotations at the top of the file (it has: {keys})",
        where=path,
        do='expected {"images": [...], "annotations": [...], "categories": [...]}',
    )


@dataclass
class _Columns:
    """The annotations' columns while they grow. Images and classes are still the file's ids."""

    path: Path
    strict: bool
    large: bool
    problems: list[Problem] = field(default_factory=list)
    ids: _Ids = field(default_factory=lambda: array("q"))
    image_ids: _Ids = field(default_factory=lambda: array("q"))
    category_ids: _Ids = field(default_factory=lambda: array("q"))
    xywh: array[float] = field(default_factory=lambda: array("d"))
    area: array[float] = field(default_factory=lambda: array("d"))
    crowd: array[int] = field(default_factory=lambda: array("b"))
    points: array[float] = field(default_factory=lambda: array("d"))
    parts: array[int] = field(default_factory=lambda: array("q", [0]))
    first_part: array[int] = field(default_factory=lambda: array("q", [0]))
    keypoints: dict[int, list[float]] = field(default_factory=dict)
    rles: dict[int, tuple[Sequence[int], Any]] = field(default_factory=dict)
    extra: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, block: bytes) -> bool:
        """Append a JSON list of annotations; return False where it is not one."""
        if self.large and self._take_text(block):
            return True
        try:
            annotations = _ANNOTATIONS.decode(block)
        except msgspec.ValidationError:
            return self._take_odd(block)
        except _BROKEN:
            return False
        segments = [a.segmentation for a in annotations]
        first = len(self.ids)
        self._take_plain(annotations)
        points, add_part, add_first = self.points, self.parts.append, self.first_part.append
        for row, segmentation in enumerate(segments, first):
            if isinstance(segmentation, list):
                for part in segmentation:
                    if len(part) < 6 or len(part) % 2:
                        self._bad_part(row, part)
                        continue
                    points.extend(part)
                    add_part(len(points) >> 1)
            elif segmentation is not None:
                self.rles[row] = (segmentation.size, segmentation.counts)
            add_first(len(self.parts) - 1)
        return True

    def _take_plain(self, annotations: Sequence[_Annotation]) -> None:
        """Append everything but the segmentation."""
        nan, first = float("nan"), len(self.ids)
        self.ids = _with_ids(self.ids, [a.id for a in annotations])
        self.image_ids = _with_ids(self.image_ids, [a.image_id for a in annotations])
        self.category_ids = _with_ids(self.category_ids, [a.category_id for a in annotations])
        self.area.extend([nan if a.area is None else a.area for a in annotations])
        self.crowd.extend([1 if a.iscrowd else 0 for a in annotations])
        found = [a.bbox for a in annotations]
        if any(len(box) != 4 for box in found):
            found = [
                box if len(box) == 4 else self._no_box(row, box)
                for row, box in enumerate(found, first)
            ]
        self.xywh.frombytes(struct.pack(f"{4 * len(found)}d", *chain.from_iterable(found)))
        for row, a in enumerate(annotations, first):
            if a.keypoints:
                self.keypoints[row] = a.keypoints
            if a.num_keypoints is not None:
                self._keep_count(row, a.num_keypoints, a.keypoints or ())

    def _keep_count(self, row: int, count: Any, keypoints: Sequence[float]) -> None:
        """Keep a number of keypoints that is not what counting them gives."""
        if not keypoints or count != sum(v > 0 for v in keypoints[2::3]):
            self.extra[row] = {**self.extra.get(row, {}), "num_keypoints": count}

    def _take_text(self, block: bytes) -> bool:
        """Append a list of plain annotations without making objects of them; False: not plain."""
        from ytrue.datasets import cocotext

        parts = cocotext.parse(block)
        if parts is None:
            return False
        masks, first = {}, len(self.ids)
        for parsed in parts:
            for k in np.flatnonzero(parsed.masks[:, 1]).tolist():
                try:
                    coded = _RLES.decode(block[slice(*parsed.masks[k].tolist())])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    return False
                masks[first + k] = (coded.size, coded.counts)
            first += len(parsed.ids)
        self.rles.update(masks)
        for parsed in parts:
            self._append(parsed)
        return True

    def _append(self, parsed: Parsed) -> None:
        """Append parsed annotations, but their masks."""
        own, image, category = parsed.ids.T
        self.ids = _with_ids(self.ids, own)
        self.image_ids = _with_ids(self.image_ids, image)
        self.category_ids = _with_ids(self.category_ids, category)
        _extend(self.xywh, parsed.xywh)
        _extend(self.area, parsed.area)
        _extend(self.crowd, parsed.crowd)
        _extend(self.points, parsed.points)
        _extend(self.parts, self.parts[-1] + np.cumsum(parsed.part_lengths) // 2)
        _extend(self.first_part, self.first_part[-1] + np.cumsum(parsed.part_counts))

    def _list(
        self,
        kind: str,
        detail: str,
        action: Action,
        image_id: Id | None = None,
        annotation_id: Id | None = None,
    ) -> None:
        """List a problem; with `strict`, raise it."""
        found = Problem(kind, detail, action, str(self.path), image_id, annotation_id)
        self.problems.append(found)
        raise_first([found], self.strict)

    def _problem(self, kind: str, detail: str, action: Action, row: int) -> None:
        self._list(kind, detail, action, self.image_ids[row], self.ids[row])

    def _bad_part(self, row: int, part: Sequence[float]) -> None:
        numbers_ = ", ".join(f"{number:g}" for number in part[:6])
        detail = (
            f"a polygon part of {len(part)} numbers ({numbers_}): expected x, y of 3 or more points"
        )
        self._problem("polygon-invalid", detail, "dropped", row)

    def _no_box(self, row: int, box: Sequence[float]) -> list[float]:
        if box:
            detail = f"bbox has {len(box)} numbers, expected x, y, width, height"
            self._problem("box-invalid", detail, "dropped", row)
        return [float("nan")] * 4

    def _take_odd(self, block: bytes) -> bool:
        """Append annotations of which at least one is odd, one by one."""
        try:
            records = msgspec.json.decode(block)
        except _BROKEN:
            return False
        for record in records:
            self._take_record(record)
        return True

    def _take_record(self, record: Any) -> None:
        row = len(self.ids)
        fields = record if isinstance(record, dict) else {}
        if "segments_info" in fields:
            raise DataError(
                "this is panoptic COCO (segments in PNG files), which is not read",
                where=self.path,
                do="use the instances file of the same images",
            )
        try:
            ids = [_as_id(fields[name]) for name in ("id", "image_id", "category_id")]
        except (KeyError, TypeError) as error:
            detail = (
                f"annotation {row} of the list lacks a usable id, image_id or category_id: {error}"
            )
            known = fields.get("id") if isinstance(fields.get("id"), (int, str)) else None
            self._list("annotation-invalid", detail, "dropped", annotation_id=known)
            return
        self.ids = _with_ids(self.ids, ids[:1])
        self.image_ids = _with_ids(self.image_ids, ids[1:2])
        self.category_ids = _with_ids(self.category_ids, ids[2:])
        self.area.append(_as_number(fields.get("area")))
        self.crowd.append(1 if fields.get("iscrowd") in (1, True, 1.0, "1") else 0)
        box = fields.get("bbox") or []
        if not isinstance(box, list) or not all(isinstance(n, (int, float)) for n in box):
            box = [float("nan")]  # something is there, but no numbers
        self.xywh.extend(box if len(box) == 4 else self._no_box(row, box))
        self._take_segmentation(row, fields.get("segmentation"))
        self.first_part.append(len(self.parts) - 1)
        keypoints = fields.get("keypoints")
        if isinstance(keypoints, list) and keypoints:
            self.keypoints[row] = [_as_number(number) for number in keypoints]
        extra = {key: value for key, value in fields.items() if key not in _KNOWN}
        if extra:
            self.extra[row] = extra
        if fields.get("num_keypoints") is not None:
            self._keep_count(row, fields["num_keypoints"], self.keypoints.get(row, ()))

    def _take_segmentation(self, row: int, segmentation: Any) -> None:
        if segmentation is None:
            return
        if isinstance(segmentation, dict):
            if isinstance(segmentation.get("size"), list) and "counts" in segmentation:
                self.rles[row] = (segmentation["size"], segmentation["counts"])
            else:
                self._problem("mask-invalid", "a mask without size or counts", "dropped", row)
            return
        parts = segmentation if isinstance(segmentation, list) else [segmentation]
        if parts and all(isinstance(number, (int, float)) for number in parts):
            parts = [parts]  # one polygon that is not wrapped in a list
        for part in parts:
            plain = isinstance(part, list) and all(isinstance(n, (int, float)) for n in part)
            if not plain:
                detail = f"a polygon part of a foreign form: {str(part)[:60]}"
                self._problem("polygon-invalid", detail, "dropped", row)
            elif len(part) < 6 or len(part) % 2:
                self._bad_part(row, part)
            else:
                self.points.extend(part)
                self.parts.append(len(self.points) >> 1)

    # From the file's ids to rows and labels.

    def dataset(
        self, rest: dict[str, Any], folder: Path | None, locate: bool, allow_outside: bool = False
    ) -> Dataset:
        """Return the dataset: ids resolved, images located, everything vetted."""
        classes, class_ids, keypoint_names, flips = self._categories(rest)
        images = self._images(rest)
        row_of = {image_id: row for row, image_id in enumerate(images.ids)}
        label_of = {class_id: label for label, class_id in enumerate(class_ids)}
        image = _rows(self.image_ids, row_of)
        label = _rows(self.category_ids, label_of)
        if classes == ():
            classes, class_ids, label = self._unnamed()
        self._report_unknown(image < 0, "unknown-image", "image", self.image_ids)
        self._report_unknown(
            (label < 0) & (image >= 0), "unknown-category", "category", self.category_ids
        )
        self._report_duplicate_ids(image)
        objects = Objects(
            ids=self.ids,
            image=image,
            label=label.astype(np.int32),
            crowd=numbers(self.crowd, "i1").astype(bool),
            xywh=numbers(self.xywh, "f8", (-1, 4)),
            area=numbers(self.area, "f8"),
            points=numbers(self.points, "f8", (-1, 2)),
            parts=numbers(self.parts, "i8"),
            first_part=numbers(self.first_part, "i8"),
            keypoints=self._keypoints(keypoint_names),
            rles=self.rles,
            extra=self.extra,
        )
        objects = select_objects(objects, (image >= 0) & (label >= 0))
        objects = self._tighten(objects, images)
        header = {k: v for k, v in rest.items() if k not in ("images", "annotations")}
        if locate and folder is None:
            folder = choose_folder(folders_around(self.path), images.file_names) or self.path.parent
        dataset = Dataset(
            source=self.path,
            format="coco",
            classes=classes,
            class_ids=class_ids,
            images=images,
            objects=objects,
            problems=tuple(self.problems),
            keypoint_names=keypoint_names,
            keypoint_flips=flips,
            header=header,
        )
        names = Names(str(self.path))
        found = Folder(folder, allow_outside=allow_outside) if folder else None
        return vetted(dataset, found, names, strict=self.strict)

    def _categories(
        self, rest: dict[str, Any]
    ) -> tuple[tuple[str, ...], tuple[Id, ...], tuple[str, ...], tuple[tuple[int, int], ...]]:
        records = rest.get("categories") or []
        if not isinstance(records, list) or not all(
            isinstance(r, dict) and "id" in r for r in records
        ):
            raise DataError(
                "categories is not a list of records with an id", where=self.path, do="mend it"
            )
        by_id: dict[Id, str] = {}
        keypoints: list[str] = []
        for record in records:
            try:
                class_id = _as_id(record["id"])
            except TypeError as error:
                raise DataError(
                    f"a category's id: {error}", where=self.path, do="give it a whole number"
                ) from None
            name = str(record.get("name", class_id))
            if class_id in by_id or name in by_id.values():
                detail = f"category id {class_id!r}, name {name!r} is listed more than once"
                action: Action = "dropped" if class_id in by_id else "kept"
                self._file_problem("duplicate-category", detail, action)
            by_id.setdefault(class_id, name)
            keypoints = keypoints or [str(k) for k in record.get("keypoints") or []]
        if not by_id and self.ids:
            self._file_problem(
                "category-unnamed", "no categories are listed: classes are named by their ids"
            )
        flips = tuple(
            (i, keypoints.index(name.replace("left", "right")))
            for i, name in enumerate(keypoints)
            if "left" in name and name.replace("left", "right") in keypoints
        )
        ids = tuple(sorted(by_id, key=lambda i: (isinstance(i, str), i)))
        return tuple(by_id[i] for i in ids), ids, tuple(keypoints), flips

    def _unnamed(self) -> tuple[tuple[str, ...], tuple[Id, ...], NDArray[np.int64]]:
        ids = tuple(sorted(set(self.category_ids), key=lambda i: (isinstance(i, str), i)))
        labels = _rows(self.category_ids, {class_id: i for i, class_id in enumerate(ids)})
        return tuple(str(class_id) for class_id in ids), ids, labels

    def _file_problem(self, kind: str, detail: str, action: Action = "kept") -> None:
        self._list(kind, detail, action)

    def _images(self, rest: dict[str, Any]) -> Images:
        records = rest.get("images")
        if not isinstance(records, list):
            raise DataError("no list of images in the file", where=self.path, do="export it again")
        ids: list[Id] = []
        names, sizes, kept, seen = [], [], [], set()
        for position, record in enumerate(records):
            fields = record if isinstance(record, dict) else {}
            image_id = _image_id(fields)
            if image_id is None:
                detail = f"image {position} of the list lacks a usable id or file_name"
                self._image_problem("image-invalid", detail, None)
                continue
            if image_id in seen:
                detail = f"image id {image_id!r} is listed more than once, here for {fields['file_name']!r}"
                self._image_problem("duplicate-image-id", detail, image_id)
                continue
            seen.add(image_id)
            ids.append(image_id)
            names.append(fields["file_name"])
            sizes.append((_as_side(fields.get("height")), _as_side(fields.get("width"))))
            kept.append(fields)
        size = np.array(sizes, np.int32).reshape(-1, 2)
        return Images(ids, names, [], size[:, 0].copy(), size[:, 1].copy(), kept)

    def _image_problem(self, kind: str, detail: str, image_id: Id | None) -> None:
        self._list(kind, detail, "dropped", image_id)

    def _report_unknown(
        self, where: NDArray[np.bool_], kind: str, noun: str, ids: Sequence[Id]
    ) -> None:
        for row in np.flatnonzero(where).tolist():
            self._problem(
                kind, f"{noun} {ids[row]!r} is not in the file's list", "dropped", int(row)
            )

    def _report_duplicate_ids(self, image: NDArray[np.int64]) -> None:
        if isinstance(self.ids, array):
            ordered = np.sort(numbers(self.ids, "i8"))
            if not (ordered[1:] == ordered[:-1]).any():
                return
        elif len(set(self.ids)) == len(self.ids):
            return
        seen: set[Id] = set()
        for row, annotation_id in enumerate(self.ids):
            if annotation_id in seen and image[row] >= 0:
                detail = f"annotation id {annotation_id!r} is used more than once"
                self._problem("duplicate-annotation-id", detail, "kept", row)
            seen.add(annotation_id)

    def _keypoints(self, names: Sequence[str]) -> NDArray[np.float64] | None:
        if not self.keypoints:
            return None
        count = len(names) or max(len(flat) // 3 for flat in self.keypoints.values())
        out = np.full((len(self.ids), count, 3), np.nan)
        for row, flat in self.keypoints.items():
            if len(flat) != 3 * count:
                detail = f"{len(flat)} keypoint numbers, expected 3 for each of {count} keypoints"
                self._problem("keypoints-invalid", detail, "dropped", row)
                continue
            points = np.array(flat).reshape(count, 3)
            if not np.isin(points[:, 2], (0, 1, 2)).all():
                odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2][0]
                detail = f"a visibility of {odd:g}, expected 0, 1 or 2"
                self._problem("keypoints-invalid", detail, "dropped", row)
                continue
            out[row] = points
        return out

    def _tighten(self, objects: Objects, images: Images) -> Objects:
        """Check masks, and give objects without a box the one around their shape."""
        xywh = objects.xywh
        rles = dict(objects.rles)
        for row, (size, counts) in objects.rles.items():
            problem = _mask_problem(size, counts, images, int(objects.image[row]))
            if problem:
                del rles[row]
                where = images.ids[objects.image[row]], objects.ids[row]
                self._list("mask-invalid", problem, "dropped", *where)
        unboxed = np.flatnonzero(np.isnan(xywh).all(axis=1)).tolist()
        xywh = xywh.copy() if unboxed else xywh
        for row in unboxed:
            parts = [boxes.points_from_xy(part) for part in objects.polygon(row)]
            mask = RLE.from_coco(*rles[row]) if row in rles else None
            points = None
            if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
                points = boxes.points_from_xy(objects.keypoints[row])
            box = tight_box(parts, mask, points)
            if not np.isnan(box).any():
                xywh[row] = boxes.to_xywh(np.array(box))
                where = images.ids[objects.image[row]], objects.ids[row]
                self._list("box-missing", "no bbox: taken tight around its shape", "kept", *where)
        return replace(objects, xywh=xywh, rles=rles)


_Ids = list[Id] | array  # type: ignore[type-arg]
"""An array of integers, which a million ids need; a list once there is a string among them."""


def _extend(column: array[Any], values: NDArray[Any]) -> None:
    """Append an array's numbers, of the column's type, without a copy on the way."""
    column.frombytes(np.ascontiguousarray(values).view(np.uint8).data)


def _with_ids(ids: _Ids, more: Sequence[Id] | NDArray[np.int64]) -> _Ids:
    """Return the ids with more of them behind."""
    if isinstance(ids, array):
        if isinstance(more, np.ndarray):
            _extend(ids, more)
            return ids
        try:
            ids.extend(array("q", more))
        except (TypeError, OverflowError):
            ids = [*ids, *more]
        return ids
    ids.extend(more.tolist() if isinstance(more, np.ndarray) else more)
    return ids


def _rows(ids: Sequence[Id], row_of: Mapping[Id, int]) -> NDArray[np.int64]:
    """Return the row of each id, -1 where it is unknown."""
    if row_of and len(ids) > 1000 and not any(isinstance(i, str) for i in (*row_of, ids[0])):
        known = np.fromiter(row_of, np.int64, len(row_of))
        low, high = int(known.min()), int(known.max())
        if high - low < 8 * len(ids):
            return _rows_by_table(ids, row_of, low, high)
    return np.fromiter(map(row_of.get, ids, repeat(-1)), np.int64, len(ids))


def _rows_by_table(
    ids: Sequence[Id], row_of: Mapping[Id, int], low: int, high: int
) -> NDArray[np.int64]:
    """Look a million ids up in an array: a dictionary costs five times as much."""
    try:
        wanted = numbers(ids, "i8") if isinstance(ids, array) else np.array(ids, np.int64)
    except (ValueError, OverflowError):  # a string among them, or an integer of any length
        return np.fromiter(map(row_of.get, ids, repeat(-1)), np.int64, len(ids))
    table = np.full(high - low + 2, -1, np.int64)  # the last stands for what is unknown
    for known, row in row_of.items():
        table[int(known) - low] = row
    return table[np.where((wanted >= low) & (wanted <= high), wanted - low, -1)]


def _mask_problem(size: Sequence[int], counts: Any, images: Images, image: int) -> str:
    annotated = (int(images.height[image]), int(images.width[image]))
    try:
        mask = RLE.from_coco(size, counts)
    except (DataError, TypeError, ValueError, IndexError) as error:
        return f"the mask cannot be decoded: {error}"
    if 0 not in annotated and (mask.height, mask.width) != annotated:
        return f"the mask is {mask.height}x{mask.width}, the image {annotated[0]}x{annotated[1]} (height x width)"
    return ""


def _as_id(value: Any) -> Id:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        raise TypeError(f"{value!r} is no id")
    if isinstance(value, float):
        if not value.is_integer():
            raise TypeError(f"{value!r} is no id")
        return int(value)
    return value


def _image_id(fields: Mapping[str, Any]) -> Id | None:
    """Return an image record's id, None where it or the file name is of no use."""
    if not isinstance(fields.get("file_name"), str):
        return None
    try:
        return _as_id(fields.get("id"))
    except TypeError:
        return None


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _as_side(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**31 else 0


# Writing.


def write(dataset: Dataset, path: Path) -> list[Problem]:
    """Write a dataset as one COCO JSON file; returns what it cannot hold (nothing)."""
    if path.suffix.lower() != ".json":
        path = path / "annotations.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def content(file: BinaryIO) -> None:
        file.write(b"{")
        for key, value in dataset.header.items():
            if key not in ("categories", "images", "annotations"):
                file.write(msgspec.json.encode(key) + b": " + msgspec.json.encode(value) + b",\n")
        file.write(b'"categories": ' + msgspec.json.encode(_category_records(dataset)))
        file.write(b',\n"images": [')
        _write_rows(file, (_image_record(dataset, i) for i in range(len(dataset))))
        file.write(b'],\n"annotations": [')
        _write_rows(file, (_annotation_record(dataset, row) for row in range(dataset.num_objects)))
        file.write(b"]}\n")

    replace_file(path, content)
    return []


def _write_rows(file: BinaryIO, records: Iterator[dict[str, Any]]) -> None:
    for position, record in enumerate(records):
        file.write((b",\n" if position else b"\n") + msgspec.json.encode(record))


def _category_records(dataset: Dataset) -> list[dict[str, Any]]:
    listed = dataset.header.get("categories") or []
    # Of two records with one id the first counts, as in reading.
    given = {r.get("id"): r for r in reversed(listed) if isinstance(r, dict)}
    records = []
    for class_id, name in zip(dataset.class_ids, dataset.classes, strict=True):
        record = given.get(class_id) or {"id": class_id, "name": name, "supercategory": ""}
        if dataset.keypoint_names and class_id not in given:
            record = record | {"keypoints": list(dataset.keypoint_names), "skeleton": []}
        records.append(record)
    return records


def _image_record(dataset: Dataset, index: int) -> dict[str, Any]:
    images = dataset.images
    given = dataset.images.records[index] if dataset.format == "coco" else None
    return {
        **(given or {}),
        "id": images.ids[index] if given is None else given["id"],
        "file_name": images.file_names[index],
        "height": int(images.height[index]),
        "width": int(images.width[index]),
    }


def _annotation_record(dataset: Dataset, row: int) -> dict[str, Any]:
    objects = dataset.objects
    box = objects.xywh[row]
    area = float(objects.area[row])
    record: dict[str, Any] = {
        "id": objects.ids[row],
        "image_id": dataset.images.ids[objects.image[row]],
        "category_id": dataset.class_ids[objects.label[row]],
        "bbox": box.tolist(),
        "area": float(box[2] * box[3]) if np.isnan(area) else area,
        "iscrowd": int(objects.crowd[row]),
    }
    parts = objects.polygon(row)
    if row in objects.rles:
        size, counts = objects.rles[row]
        record["segmentation"] = {"size": list(size), "counts": counts}
    else:
        record["segmentation"] = [part.ravel().tolist() for part in parts]
    if objects.keypoints is not None and not np.isnan(objects.keypoints[row]).any():
        record["keypoints"] = objects.keypoints[row].ravel().tolist()
        record["num_keypoints"] = int((objects.keypoints[row, :, 2] > 0).sum())
    extra = objects.extra.get(row, {})
    if "num_keypoints" in extra:
        record["num_keypoints"] = extra["num_keypoints"]
    return {**extra, **record}
