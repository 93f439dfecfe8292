"""COCO's numbers for masks, computed by pycocotools; and both sides' masks as run lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as _mask_api

from ytrue.annotations import Annotations
from ytrue.model.evaluating.coco import CocoScores, compared, in_order, records
from ytrue.model.evaluating.columns import Detections, Truth
from ytrue.model.evaluating.results import (
    Border,
    RefusedError,
    Results,
    checked,
    coco_records,
    fields_of,
    placed,
    records_of,
    score_of,
    short,
)
from ytrue.rasters import Raster, rasterise
from ytrue.rle import RLE

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset, Id

_FIELDS: Final = ("image_id", "category_id", "segmentation", "score")
_values: Final = itemgetter(*_FIELDS)
_EXPECTED: Final = "expected image_id, category_id, segmentation and score"
_EXAMPLE: Final = (
    '[{"image_id": ..., "category_id": ..., "segmentation": {"size": ..., "counts": ...}, '
    '"score": ...}, ...]'
)
coco_mask: Any = _mask_api  # its stubs are narrower than what it takes
Mask = Raster


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """D detected masks, in the order they were given.

    Attributes:
        detections: image, label and score; boxes tight around the masks.
        masks: of the images' own sizes.
    """

    detections: Detections
    masks: list[Mask]


def true_masks(dataset: Dataset) -> list[Mask]:
    """Return the mask of every object, in the order of the file.

    Its run lengths, or the union of its polygon's parts, rasterised by pycocotools; the box of an
    object that has neither.
    """
    objects, sizes = dataset.objects, _sizes(dataset)
    masks = []
    for row, image in enumerate(objects.image.tolist()):
        if row in objects.rles:
            masks.append(compressed(RLE.from_coco(*objects.rles[row])))
            continue
        x, y, width, height = objects.xywh[row].tolist()
        parts = [part.ravel().tolist() for part in objects.polygon(row) if len(part) > 2]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        masks.append(_rasterised(parts or [corners], *sizes[image]))
    return masks


def found_masks(dataset: Dataset, results: Results) -> FoundMasks:
    """Return detected masks as columns.

    Args:
        dataset: what they were found in.
        results: a file of COCO segmentation results, a list of them, or a mapping of image id ->
            `Annotations` with scores and with masks or polygons, in the pixels of the original
            image.

    Raises:
        DataError: a file that is no such list, or records that do not belong to the dataset: the
            first is told, with the number of the others.
        ValueError: `results` is of another type, or annotations have no scores.
    """
    border, sizes = Border(dataset), _sizes(dataset)
    rows: list[tuple[int, int, Mask, float]] = []
    if isinstance(results, Mapping):
        for image, scored in placed(border, results, border.check_labels):
            drawn = masks_of(scored, *sizes[image])
            columns = (scored.labels.tolist(), drawn, np.asarray(scored.scores).tolist())
            rows += [(image, *row) for row in zip(*columns, strict=True)]
    else:
        given, where = records_of(results, _EXAMPLE)
        rows = checked(given, lambda record: _row(border, sizes, record), where, _FIELDS[:2])
    masks = [row[2] for row in rows]
    detections = Detections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        _each(coco_mask.toBbox, masks).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float64),
    )
    return FoundMasks(detections, masks)


def mask_records(
    found: Mapping[Any, Annotations], sizes: Mapping[Any, tuple[int, int]], class_ids: Sequence[Id]
) -> list[dict[str, Any]]:
    """Return detected masks as COCO segmentation results, with their boxes: plain JSON values.

    Args:
        found: image id -> `Annotations` with scores and with masks or polygons, in the pixels of
            the original image.
        sizes: image id -> (height, width) of the original image.
        class_ids: the classes' ids in the file, in label order.
    """
    return [
        record | {"segmentation": {"size": mask["size"], "counts": mask["counts"].decode()}}
        for image_id, scored in found.items()
        for record, mask in zip(
            coco_records(image_id, scored, class_ids), masks_of(scored, *sizes[image_id]),
            strict=True,
        )
    ]  # fmt: skip


def segm_scores(
    truth: Truth, wanted: list[Mask], found: FoundMasks, image_ids: Sequence[Any]
) -> CocoScores:
    """Return COCO's numbers for masks, in the order of `coco.NUMBERS`."""
    number = in_order(image_ids)
    objects = records(truth, number, area=truth.area, iscrowd=truth.crowd.astype(int))
    detections = found.detections
    areas = _each(coco_mask.area, found.masks)
    given = records(detections, number, area=areas, score=detections.score)
    for side, masks in ((objects, wanted), (given, found.masks)):
        for record, mask in zip(side, masks, strict=True):
            record["segmentation"] = mask
    return compared(objects, given, images=len(image_ids), classes=truth.num_classes, kind="segm")


def masks_of(annotations: Annotations, height: int, width: int) -> list[Mask]:
    """Return the mask of every object: its own, its polygon's, or its box."""
    count = len(annotations)
    masks = annotations.masks or (None,) * count
    polygons = annotations.polygons or ((),) * count
    found = []
    for k in range(count):
        mask = masks[k]
        if mask is not None:
            found.append(compressed(mask))
            continue
        y_min, x_min, y_max, x_max = annotations.boxes[k]
        corners = np.array([(y_min, x_min), (y_min, x_max), (y_max, x_max), (y_max, x_min)])
        drawable = any(len(part) > 2 for part in polygons[k])
        found.append(rasterise(polygons[k] if drawable else (corners,), height, width))
    return found


def compressed(rle: RLE) -> Mask:
    """Return run lengths in pycocotools' form."""
    mask: Mask = coco_mask.frPyObjects(rle.to_coco(), rle.height, rle.width)
    return mask


def rle_of(mask: Mask) -> RLE:
    """Return the run lengths of pycocotools' form."""
    return RLE.from_coco(mask["size"], mask["counts"])


def _rasterised(parts: list[list[float]], height: int, width: int) -> Mask:
    return rasterise(tuple(_ring(part) for part in parts), height, width)


def _ring(part: list[float]) -> NDArray[np.float64]:
    """Return a part x, y, x, y, ... as (V, 2) `(y, x)`; four numbers are a box to pycocotools."""
    if len(part) < 4 or len(part) % 2:
        raise ValueError(f"a polygon part of {len(part)} numbers")
    if len(part) == 4:
        x, y, width, height = part
        part = [x, y, x, y + height, x + width, y + height, x + width, y]
    return np.array(part, np.float64).reshape(-1, 2)[:, ::-1]


def _each(function: Callable[[list[Mask]], Any], masks: list[Mask]) -> NDArray[np.float64]:
    """Return a function of each mask, in blocks: pycocotools 2.0.11 fails on 256 and more."""
    blocks = [function(masks[k : k + 200]) for k in range(0, len(masks), 200)]
    return np.concatenate(blocks).astype(np.float64) if blocks else np.zeros(0)


def _sizes(dataset: Dataset) -> list[tuple[int, int]]:
    images = dataset.images
    return list(zip(images.height.tolist(), images.width.tolist(), strict=True))


def _row(
    border: Border, sizes: Sequence[tuple[int, int]], record: Any
) -> tuple[int, int, Mask, float]:
    image_id, category_id, segmentation, score = fields_of(record, _FIELDS, _values, _EXPECTED)
    image = border.image(image_id)
    return image, border.label(category_id), _mask(segmentation, *sizes[image]), score_of(score)


def _mask(segmentation: Any, height: int, width: int) -> Mask:
    """Return a record's segmentation: polygon parts, or run lengths of either kind."""
    try:
        if isinstance(segmentation, list):
            return _rasterised([[float(v) for v in part] for part in segmentation], height, width)
        rle = RLE.from_coco(segmentation["size"], segmentation["counts"])
    except Exception as error:
        raise RefusedError(
            f"the segmentation {short(segmentation)} cannot be read ({error})",
            "expected run lengths, or a list of polygon parts x, y, x, y, ...",
        ) from None
    if (rle.height, rle.width) != (height, width):
        raise RefusedError(
            f"the mask is {rle.height}x{rle.width}, the image {height}x{width}",
            "write masks of the image's own size",
        )
    return compressed(rle)
