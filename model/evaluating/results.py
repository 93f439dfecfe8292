"""Detections from COCO results or from scored `Annotations`, held against their dataset."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations
from ytrue.datasets.textfiles import read_text
from ytrue.errors import DataError
from ytrue.model.evaluating.columns import Detections

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

Results = str | Path | Sequence[Mapping[str, Any]] | Mapping[Any, Annotations]
"""A results file, its records, or image id -> scored `Annotations` in the image's own pixels."""

_FIELDS: Final = ("image_id", "category_id", "bbox", "score")
_values: Final = itemgetter(*_FIELDS)
_EXPECTED: Final = "expected image_id, category_id, bbox (x, y, width, height) and score"
_EXAMPLE: Final = '[{"image_id": ..., "category_id": ..., "bbox": [...], "score": ...}, ...]'
_BEYOND_MEASURE: Final = 1e100
Row = TypeVar("Row")
_Row = tuple[int, int, list[float], float]  # image, label, xywh, score


def detections_of(dataset: Dataset, results: Results) -> Detections:
    """Return the detections of a dataset's images as columns.

    Args:
        dataset: what they were made for.
        results: the path of a COCO results file (a list of {"image_id", "category_id", "bbox",
            "score"}, ids as in the dataset's file, boxes x, y, width, height in the pixels of the
            original image), such a list, or a mapping of image id -> `Annotations` with scores.

    Raises:
        DataError: a file that is no such list, or records that do not belong to the dataset: the
            first is told, with the number of the others.
        ValueError: `results` is of another type, or annotations have no scores.
    """
    records, where = _records_and_places(dataset, results)
    border = Border(dataset)
    rows = checked(records, lambda record: _row(border, record), where, _FIELDS[:2])
    image, label, xywh, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        np.array(image, np.int64),
        np.array(label, np.int64),
        np.array(xywh, np.float64).reshape(-1, 4),
        np.array(score, np.float64),
    )


def _records_and_places(
    dataset: Dataset, results: Results
) -> tuple[Sequence[Any], Callable[[int], str]]:
    if not isinstance(results, Mapping):
        return records_of(results, _EXAMPLE)
    places = [(i, k) for i, found in results.items() for k in range(len(found))]

    def where(number: int) -> str:
        return f"the detections of image {places[number][0]!r}, detection {places[number][1]}"

    return to_records(dataset, results), where


def records_of(results: Any, example: str) -> tuple[Sequence[Any], Callable[[int], str]]:
    """Return the records of a file, or those given, and what says where a record stands.

    Args:
        results: a path, a `ResultsFile` or a list.
        example: what a file holds, for messages.

    Raises:
        DataError: a file that is no list.
        ValueError: `results` is of another type.
    """
    if isinstance(results, (str, Path)):
        results = ResultsFile(Path(results), example)
    if isinstance(results, ResultsFile):
        path = results.path
        return results, lambda n: f"{path}, record {n}"
    if isinstance(results, Sequence):
        return results, lambda n: f"the results, record {n}"
    raise ValueError(
        f"results is a {type(results).__name__}, expected a path, a list of records, or a mapping "
        "of image id to Annotations"
    )


def annotations_of(dataset: Dataset, results: Results) -> list[Annotations]:
    """Return the detections of each image, by falling score, in the dataset's order.

    Raises:
        DataError: as `detections_of`.
    """
    return by_image(detections_of(dataset, results), len(dataset))


def by_image(found: Detections, num_images: int) -> list[Annotations]:
    """Return the detections of each image, by falling score."""
    return [
        Annotations(boxes=found.boxes[k], labels=found.label[k], scores=found.score[k])
        for k in rows_by_image(found.image, found.score, num_images)
    ]


def rows_by_image(
    image: NDArray[np.int64], score: NDArray[np.float64], num_images: int
) -> list[NDArray[np.intp]]:
    """Return the rows of each image, by falling score."""
    order = np.argsort(-score, kind="stable")
    return [order[image[order] == one] for one in range(num_images)]


def to_records(dataset: Dataset, found: Mapping[Any, Annotations]) -> list[dict[str, Any]]:
    """Return scored annotations as COCO results: plain JSON values, the ids of the dataset's file.

    Args:
        dataset: whose images and classes they are.
        found: image id -> `Annotations` with scores, in the pixels of the original image.

    Raises:
        DataError: an image that the dataset does not have, or a label beyond its classes.
        ValueError: annotations without scores.
    """
    border = Border(dataset)
    records = []
    for position, scored in placed(border, found, border.check_labels):
        records += coco_records(dataset.images.ids[position], scored, dataset.class_ids)
    return records


def placed(
    border: Border, found: Mapping[Any, Annotations], check: Callable[[Annotations], None]
) -> Iterator[tuple[int, Annotations]]:
    """Yield the position of each image and its detections.

    Args:
        border: of the dataset whose images they are.
        found: image id -> `Annotations` with scores.
        check: raises `RefusedError` for detections that do not belong.

    Raises:
        DataError: an image that the dataset does not have, or detections that are refused.
        ValueError: annotations without scores.
    """
    for image_id, scored in found.items():
        where = f"the detections of image {image_id!r}"
        if scored.scores is None:
            raise ValueError(f"{where} have no scores: give Annotations(..., scores=...)")
        try:
            position = border.image(image_id)
            check(scored)
        except RefusedError as refused:
            raise DataError(refused.what, where=where, do=refused.do) from None
        yield position, scored


def coco_records(
    image_id: Id, scored: Annotations, class_ids: Sequence[Id]
) -> list[dict[str, Any]]:
    """Return the scored annotations of one image as COCO results.

    Args:
        image_id: the image's id in its file.
        scored: in the pixels of the original image.
        class_ids: the ids of the file, in label order.
    """
    columns = (
        scored.labels.tolist(),
        boxes.to_xywh(scored.boxes.astype(np.float64)).tolist(),
        np.asarray(scored.scores).tolist(),
    )
    return [
        {"image_id": image_id, "category_id": class_ids[label], "bbox": xywh, "score": score}
        for label, xywh, score in zip(*columns, strict=True)
    ]


class ResultsFile(list[Any]):
    """The records of a results file, read once for all who ask.

    Raises:
        DataError: a file that is no list.
    """

    def __init__(self, path: Path, example: str = _EXAMPLE) -> None:
        super().__init__(_records_in(path, example))
        self.path = path


def _records_in(path: Path, example: str) -> list[Any]:
    text = read_text(path)
    try:
        # Not msgspec: Python writes NaN into JSON, which is to be found in its record.
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"not valid JSON ({error})", where=path, do="write the results again"
        ) from None
    if isinstance(found, list):
        return found
    dataset = isinstance(found, dict) and "annotations" in found
    what = "a COCO dataset" if dataset else f"a {type(found).__name__}"
    raise DataError(
        f"the file holds {what}, not a list of results",
        where=path,
        do=f"expected {example}",
    )


def checked(
    records: Sequence[Any],
    row: Callable[[Any], Row],
    where: Callable[[int], str],
    names: Sequence[str],
) -> list[Row]:
    """Return what `row` makes of each record.

    Args:
        records: of results.
        row: raises `RefusedError` for a record that does not belong.
        where: says where the n-th record stands.
        names: the fields that a message about a record tells.

    Raises:
        DataError: records that are refused: the first is told, with the number of the others.
    """
    rows: list[Row] = []
    first: tuple[int, RefusedError] | None = None
    for number, record in enumerate(records):
        try:
            rows.append(row(record))
        except RefusedError as refused:
            first = first or (number, refused)
    if first is None:
        return rows
    number, reason = first
    others = len(records) - len(rows) - 1
    raise _refusal(reason, records[number], where(number), names, others, len(records))


def _refusal(
    refused: RefusedError, record: Any, where: str, names: Sequence[str], others: int, total: int
) -> DataError:
    named = ""
    if isinstance(record, Mapping):
        ids = [f"{name} {record[name]!r}" for name in names if name in record]
        named = f" ({', '.join(ids)})" if ids else ""
    more = f" ({others} more of {total} records are refused)" if others else ""
    return DataError(f"{refused.what}{more}", where=where + named, do=refused.do)


class RefusedError(Exception):
    """Why a record is refused, and what to do."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what, self.do = what, do


class Border:
    """From the file's ids to positions and labels, record by record."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._image_of = {image_id: i for i, image_id in enumerate(dataset.images.ids)}
        self._label_of = {class_id: label for label, class_id in enumerate(dataset.class_ids)}
        if len(self._image_of) < len(dataset):
            raise DataError(
                f"{len(dataset) - len(self._image_of)} images are in the dataset more than once",
                where=dataset.source,
                do="evaluate a subset without repetition",
            )

    def image(self, image_id: Any) -> int:
        """Return the position of an image."""
        position = _found(self._image_of, image_id)
        if position is None:
            raise self._unknown_image(image_id)
        return position

    def check_labels(self, scored: Annotations) -> None:
        """Refuse labels that are no classes of the dataset."""
        count = self._dataset.num_classes
        for label in scored.labels.tolist():
            if not 0 <= label < count:
                raise RefusedError(
                    f"label {label} is none of the dataset's {count} classes",
                    "number the classes from 0, in the dataset's order",
                )

    def _unknown_image(self, image_id: Any) -> RefusedError:
        of_another_type = _twin(self._image_of, image_id)
        if of_another_type:
            return RefusedError(
                f"no image {short(image_id)} in the dataset, which has {of_another_type}",
                "write the ids as they stand in the dataset's file",
            )
        for problem in self._dataset.problems:
            about_image = problem.annotation_id is None and problem.action == "dropped"
            if about_image and problem.image_id == image_id:
                return RefusedError(
                    f"image {short(image_id)} was dropped when the dataset was read: "
                    f"{problem.detail} [{problem.kind}]",
                    "mend the dataset, or leave out this image's results",
                )
        return RefusedError(
            f"no image {short(image_id)} in the {len(self._dataset)} of {self._dataset.source}",
            "name the dataset that the results were made for, and the part of it",
        )

    def label(self, category_id: Any) -> int:
        """Return the label of a class."""
        label = _found(self._label_of, category_id)
        if label is not None:
            return label
        ids = self._dataset.class_ids
        listed = ", ".join(repr(i) for i in ids[:8]) + (", ..." if len(ids) > 8 else "")
        raise RefusedError(
            f"no category {short(category_id)} in {self._dataset.source}",
            f"expected a class id of the dataset's file ({listed or 'it has none'})",
        )


def _row(border: Border, record: Any) -> _Row:
    """Return image, label, box and score of a record."""
    image_id, category_id, bbox, score = fields_of(record, _FIELDS, _values, _EXPECTED)
    return border.image(image_id), border.label(category_id), box_of(bbox), score_of(score)


def fields_of(
    record: Any, names: Sequence[str], values: Callable[[Any], tuple[Any, ...]], expected: str
) -> tuple[Any, ...]:
    """Return the values of a record's fields, which `values` picks by these names."""
    if not isinstance(record, Mapping):
        raise RefusedError(f"a {type(record).__name__} stands for a record", expected)
    try:
        return values(record)
    except KeyError:
        missing = ", ".join(name for name in names if name not in record)
        raise RefusedError(f"{missing} missing", expected) from None


def score_of(score: Any) -> float:
    """Return a score, which must be a finite number."""
    if not is_finite(score):
        raise RefusedError(f"the score {short(score)} is no finite number", "mend the score")
    return float(score)


def _found(numbers_: Mapping[Any, int], key: Any) -> int | None:
    # True is 1 to a dict, but no id.
    if isinstance(key, bool):
        return None
    try:
        return numbers_.get(key)
    except TypeError:  # a list or an object
        return None


def _twin(ids: Mapping[Any, int], key: Any) -> str:
    """Return the id that reads as this one but is a number where this is a text, or reverse."""
    if isinstance(key, bool) or not isinstance(key, (int, str)):
        return ""
    return next((repr(i) for i in ids if str(i) == str(key)), "")


def box_of(bbox: Any) -> list[float]:
    """Return x, y, width, height of a record's box."""
    four = bbox.tolist() if isinstance(bbox, np.ndarray) else bbox
    if not isinstance(four, (list, tuple)) or len(four) != 4:
        raise RefusedError(f"the bbox is {short(bbox)}", "expected x, y, width, height")
    if not all(map(is_finite, four)):
        raise RefusedError(f"the bbox {short(four)} is not four finite numbers", "mend the box")
    if four[2] < 0 or four[3] < 0:
        raise RefusedError(
            f"the bbox {short(four)} has a negative width or height",
            "expected x, y, width, height; boxes of corners are to be turned into these",
        )
    x, y, width, height = map(float, four)
    if not all(map(math.isfinite, (x + width, y + height, width * height))):
        raise RefusedError(f"the bbox {short(four)} is beyond all measure", "mend the box")
    return [x, y, width, height]


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    if type(value) is float:
        return math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def check_measure(name: str, values: Sequence[float]) -> None:
    """Refuse numbers whose squares a float64 could not hold."""
    if max(map(abs, values), default=0) > _BEYOND_MEASURE:
        raise RefusedError(f"the {name} {short(values)} is beyond all measure", f"mend the {name}")


def short(value: Any) -> str:
    """Return what a value reads as, not too long for a message."""
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."
