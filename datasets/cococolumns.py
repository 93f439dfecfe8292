"""COCO annotations as columns, while they are read: `Columns` takes one list after another."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.building import raise_first
from ytrue.datasets.cocojson import BROKEN
from ytrue.datasets.dataset import Id
from ytrue.datasets.values import as_id, as_number, is_number, known_id, short
from ytrue.errors import Action, DataError, Problem

if TYPE_CHECKING:
    from ytrue.datasets.cocotext import Parsed

_KNOWN: Final = frozenset(
    ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "keypoints",
     "num_keypoints")
)  # fmt: skip
_NO_BOX: Final = (float("nan"),) * 4

Ids = list[Id] | array  # type: ignore[type-arg]
"""An array of integers, which a million ids need; a list once there is another id among them."""


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


@dataclass
class Columns:
    """The annotations' columns while they grow. Images and classes are still the file's ids.

    Attributes:
        path: the file, for messages.
        strict: raise with the first problem.
        large: whether compiled code is worth loading.
        halves: whether halves of characters were replaced in texts.
        unnumbered: rows of annotations without an id of their own; it is 0 so far.
        no_box: row -> what stands for a box that is none, "" where nothing does.
        texts: how many annotations have numbers written as text.
    """

    path: Path
    strict: bool
    large: bool
    halves: bool = False
    problems: list[Problem] = field(default_factory=list)
    ids: Ids = field(default_factory=lambda: array("q"))
    image_ids: Ids = field(default_factory=lambda: array("q"))
    category_ids: Ids = field(default_factory=lambda: array("q"))
    xywh: array[float] = field(default_factory=lambda: array("d"))
    area: array[float] = field(default_factory=lambda: array("d"))
    crowd: array[int] = field(default_factory=lambda: array("b"))
    points: array[float] = field(default_factory=lambda: array("d"))
    parts: array[int] = field(default_factory=lambda: array("q", [0]))
    first_part: array[int] = field(default_factory=lambda: array("q", [0]))
    keypoints: dict[int, list[float]] = field(default_factory=dict)
    rles: dict[int, tuple[Sequence[int], Any]] = field(default_factory=dict)
    extra: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    unnumbered: list[int] = field(default_factory=list)
    no_box: dict[int, str] = field(default_factory=dict)
    texts: int = 0
    dropped: int = 0

    def take(self, block: bytes) -> bool:
        """Append a JSON list of annotations; return False where it is not one."""
        if self.large and self._take_text(block):
            return True
        try:
            annotations = _ANNOTATIONS.decode(block)
        except msgspec.ValidationError:
            return self._take_odd(block)
        except BROKEN:
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
        found: list[Sequence[Any]] = [a.bbox for a in annotations]
        if any(len(box) != 4 for box in found):
            found = [
                box
                if len(box) == 4
                else self._box(row, [int(n) if n.is_integer() else n for n in box])
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

    # Compiled, for large files.

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
                except BROKEN:
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

    # One by one, where something is odd.

    def _take_odd(self, block: bytes) -> bool:
        """Append annotations of which at least one is odd, one by one."""
        try:
            records = msgspec.json.decode(block)
        except BROKEN:
            return False
        for record in records:
            self.take_record(record)
        return True

    def take_record(self, record: Any) -> None:
        """Append one annotation, whatever it is."""
        fields = record if isinstance(record, dict) else {}
        self._refuse_other_kinds(fields)
        row = len(self.ids)
        try:
            image_id, category_id = (_needed(fields, key) for key in ("image_id", "category_id"))
        except TypeError as error:
            detail = f"annotation {row + self.dropped} of the list is of no use: {error}"
            self.dropped += 1
            self.report("annotation-invalid", detail, "dropped", None, known_id(fields.get("id")))
            return
        own = known_id(fields.get("id"))
        if own is None:
            self.unnumbered.append(row)
        self.ids = _with_ids(self.ids, [0 if own is None else own])
        self.image_ids = _with_ids(self.image_ids, [image_id])
        self.category_ids = _with_ids(self.category_ids, [category_id])
        self.area.append(self._area(row, fields.get("area")))
        crowd = fields.get("iscrowd")
        self.crowd.append(1 if crowd is True or abs(as_number(crowd)) > 0 else 0)
        self.xywh.extend(self._box(row, fields.get("bbox")))
        self._take_segmentation(row, fields.get("segmentation"))
        self.first_part.append(len(self.parts) - 1)
        self._take_keypoints(row, fields.get("keypoints"))
        extra = {key: value for key, value in fields.items() if key not in _KNOWN}
        if extra:
            self.extra[row] = extra
        if fields.get("num_keypoints") is not None:
            self._keep_count(row, fields["num_keypoints"], self.keypoints.get(row, ()))

    def _refuse_other_kinds(self, fields: Mapping[str, Any]) -> None:
        what = ""
        if "segments_info" in fields:
            what = "this is panoptic COCO (segments in PNG files), which is not read"
        elif "caption" in fields and "category_id" not in fields:
            what = "these are captions: texts about images, without objects"
        if what:
            raise DataError(what, where=self.path, do="use the instances file of the same images")

    def _area(self, row: int, given: Any) -> float:
        """Return the area, nan where there is none; NaN is what a table writes for none."""
        number = as_number(given)
        if abs(number) < float("inf") or given is None or given != given:
            return number
        detail = f"its area is {short(given)}, expected a number of pixels: the box's is taken"
        self.report_row("area-invalid", detail, "kept", row)
        return float("nan")

    def _box(self, row: int, given: Any) -> Sequence[float]:
        """Return x, y, width, height; note what stands there instead."""
        if isinstance(given, str):
            values: Any = given.strip("[]() ").replace(",", " ").split()
        else:
            values = given
        if isinstance(values, list) and len(values) == 4 and all(map(is_number, values)):
            self.texts += any(isinstance(value, str) for value in values)
            return [as_number(value) for value in values]
        absent = given is None or given == []
        self.no_box[row] = "" if absent else f"bbox is {short(given)}, expected x, y, width, height"
        return _NO_BOX

    def _take_segmentation(self, row: int, segmentation: Any) -> None:
        if segmentation is None:
            return
        if isinstance(segmentation, dict):
            if "size" in segmentation and "counts" in segmentation:
                self.rles[row] = (segmentation["size"], segmentation["counts"])
            else:
                detail = f"a mask without size or counts: {short(segmentation)}"
                self.report_row("mask-invalid", detail, "dropped", row)
            return
        parts = segmentation if isinstance(segmentation, list) else [segmentation]
        if parts and all(map(is_number, parts)):
            parts = [parts]  # one polygon that is not wrapped in a list
        for part in parts:
            if not isinstance(part, list) or not all(map(is_number, part)):
                detail = f"a polygon part of a foreign form: {short(part)}"
                self.report_row("polygon-invalid", detail, "dropped", row)
            elif len(part) < 6 or len(part) % 2:
                self._bad_part(row, part)
            else:
                self.points.extend(map(as_number, part))
                self.parts.append(len(self.points) >> 1)

    def _bad_part(self, row: int, part: Sequence[Any]) -> None:
        detail = f"a polygon part of {len(part)} numbers ({short(part)}): expected x, y of 3 or more points"
        self.report_row("polygon-invalid", detail, "dropped", row)

    def _take_keypoints(self, row: int, keypoints: Any) -> None:
        if isinstance(keypoints, list):
            if keypoints:
                self.keypoints[row] = [as_number(number) for number in keypoints]
        elif keypoints is not None:
            detail = f"keypoints are {short(keypoints)}, expected x, y, visibility, ..."
            self.report_row("keypoints-invalid", detail, "dropped", row)

    # Problems.

    def report(
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

    def report_row(self, kind: str, detail: str, action: Action, row: int) -> None:
        """List a problem of one annotation."""
        if self.ids[row] == 0 and row in self.unnumbered[-1:]:
            detail = f"annotation {row + self.dropped} of the list: {detail}"
            self.report(kind, detail, action, self.image_ids[row])
        else:
            self.report(kind, detail, action, self.image_ids[row], self.ids[row])

    def number(self) -> None:
        """Give annotations without an id one: counted, above all that there are."""
        if not self.unnumbered:
            return
        first = max(0, *(i for i in self.ids if isinstance(i, int))) + 1
        ids = list(self.ids)
        for count, row in enumerate(self.unnumbered):
            ids[row] = first + count
        self.ids = _with_ids(array("q"), ids)
        detail = (
            f"{len(self.unnumbered)} annotations have no id of their own: numbered "
            f"{first} to {first + len(self.unnumbered) - 1}"
        )
        self.report("annotation-unnumbered", detail, "kept")


def _needed(fields: Mapping[str, Any], key: str) -> Id:
    if fields.get(key) is None:
        raise TypeError(f"it has no {key}")
    try:
        return as_id(fields[key])
    except TypeError as error:
        raise TypeError(f"its {key}: {error}") from None


def _extend(column: array[Any], values: NDArray[Any]) -> None:
    """Append an array's numbers, of the column's type, without a copy on the way."""
    column.frombytes(np.ascontiguousarray(values).view(np.uint8).data)


def _with_ids(ids: Ids, more: Sequence[Id] | NDArray[np.int64]) -> Ids:
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
