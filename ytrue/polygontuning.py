"""`tune_polygons`: how many angular bins a dataset's outlines need, measured in mask IoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.auditing import SIZE_BINS, Examples
from ytrue.encoders.polygon import PolygonEncoder, polygons_of
from ytrue.encoders.yolo import YoloEncoder
from ytrue.errors import DataError
from ytrue.outlinefits import counted_outlines, mask_ious, object_mask
from ytrue.resizing import ResizeMode, place

BINS: Final = (12, 16, 24, 36, 48)
"""Numbers of bins that are tried."""


@dataclass(frozen=True)
class PolygonChoice:
    """One number of bins, and how close its polygons come to the objects.

    Attributes:
        bins: V.
        mean_iou: mean IoU of an object's mask and its decoded polygon, both in whole pixels of the
            network input.
        worst_iou: the IoU that one object in twenty does not reach.
        by_size: name of the size -> mean IoU of its objects.
        kept_share: share of the outlines' vertices that are kept.
    """

    bins: int
    mean_iou: float
    worst_iou: float
    by_size: dict[str, float]
    kept_share: float


@dataclass(frozen=True)
class PolygonTuning:
    """How close polygons of several numbers of bins come to a dataset's objects.

    Attributes:
        source: the dataset, in words.
        image_size: (height, width) of the network input.
        resize: how images were fitted.
        part_rule, points: as `PolygonEncoder` has them.
        images: how many there are.
        objects: those with an outline, which is all that was compared.
        without_outline: objects that have a box inside the image and neither polygon nor mask there.
        several_parts: objects whose outline has parts that do not count.
        sizes: name of the size -> number of objects.
        limit: what the outlines reach before vertices are dropped: what is lost here is lost to
            parts, to holes and to what lies outside the box. Its `bins` are 0.
        max_loss: how far below the best candidate's mean IoU the recommended one may be.
        choices: by rising number of bins.
    """

    source: str
    image_size: tuple[int, int]
    resize: ResizeMode
    part_rule: Literal["largest", "hull"]
    points: Literal["vertices", "outline"]
    images: int
    objects: int
    without_outline: int
    several_parts: int
    sizes: dict[str, int]
    limit: PolygonChoice
    max_loss: float
    choices: tuple[PolygonChoice, ...] = field(repr=False)

    @property
    def recommended(self) -> PolygonChoice:
        """The fewest bins whose mean IoU is within `max_loss` of the best candidate's."""
        best = max(choice.mean_iou for choice in self.choices)
        return next(c for c in self.choices if c.mean_iou >= best - self.max_loss)

    def encoder(self, boxes: YoloEncoder) -> PolygonEncoder:
        """Return the encoder with the recommended number of bins."""
        return PolygonEncoder(
            boxes, bins=self.recommended.bins, part_rule=self.part_rule, points=self.points
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self) | {
            "image_size": list(self.image_size),
            "choices": [asdict(choice) for choice in self.choices],
            "recommended": asdict(self.recommended),
        }


def tune_polygons(
    dataset: Examples,
    image_size: int | Sequence[int],
    *,
    bins: Sequence[int] = BINS,
    part_rule: Literal["largest", "hull"] = "largest",
    points: Literal["vertices", "outline"] = "vertices",
    max_loss: float = 0.01,
    resize: ResizeMode = "letterbox",
    progress: Callable[[int, int], None] | None = None,
) -> PolygonTuning:
    """Measure how close each number of bins comes to a dataset's outlines.

    Every object that has a box inside the image and an outline is encoded and decoded; its mask
    (all parts of its polygon, or its mask where it has no polygon) is compared with the decoded
    polygon in the pixels of the network input. Crowds are left out.

    Args:
        dataset: `len`, `[i]` -> Example, `classes`; its objects have polygons or masks.
        image_size: (height, width) of the network input in pixels; one number for a square.
        bins: numbers of bins to try.
        part_rule, points: as `PolygonEncoder` has them.
        max_loss: how much mean IoU fewer bins may cost.
        resize: how images are fitted into the network input, as in the pipeline.
        progress: called with (images done, images in all), now and then.

    Raises:
        DataError: no object has an outline.
        ValueError: an argument out of range.

    Example:
        tuning = tune_polygons(dataset, 416)
        encoder = tuning.encoder(YoloEncoder(416, anchors, stride=4, num_classes=80))
    """
    if not bins:
        raise ValueError("bins is empty: expected at least one number")
    if not 0 <= max_loss < 1:
        raise ValueError(f"max_loss={max_loss}: expected a number in [0, 1)")
    # Only the boxes count here, so the smallest grid does.
    classes = max(1, len(dataset.classes))
    boxes = YoloEncoder(image_size, [(8, 8)], grid="global", num_classes=classes)
    encoders = [
        PolygonEncoder(boxes, bins=count, part_rule=part_rule, points=points)
        for count in sorted(set(bins))
    ]
    counts = _Counts(encoders)
    for index in range(len(dataset)):
        example = dataset[index]
        placement = place((example.height, example.width), boxes.image_size, resize)
        counts.add(placement.apply(example.annotations))
        if progress and (index % 64 == 63 or index + 1 == len(dataset)):
            progress(index + 1, len(dataset))
    if not counts.sides:
        raise DataError(
            "no object with a polygon or a mask", where=repr(dataset),
            do="bins are chosen from outlines; name a file that has them",
        )  # fmt: skip
    size = counts.size_of()
    sizes = {name: int((size == i).sum()) for i, (name, _, _) in enumerate(SIZE_BINS)}
    limit, *choices = (counts.choice(row, size) for row in range(len(encoders) + 1))
    return PolygonTuning(
        source=repr(dataset), image_size=boxes.image_size, resize=resize, part_rule=part_rule,
        points=points, images=len(dataset), objects=len(size),
        without_outline=counts.without_outline, several_parts=counts.several_parts, sizes=sizes,
        limit=limit, max_loss=max_loss, choices=tuple(choices),
    )  # fmt: skip


class _Counts:
    """IoUs of every object: of its whole outline, then of each encoder's polygon."""

    def __init__(self, encoders: Sequence[PolygonEncoder]) -> None:
        self.encoders = encoders
        self.without_outline = self.several_parts = 0
        self.sides: list[float] = []
        self._ious: list[NDArray[np.float64]] = []
        self._kept = np.zeros(len(encoders) + 1, np.int64)

    def add(self, annotations: Annotations) -> None:
        """Add the objects of an image, in the pixels of the network input."""
        found = [encoder.vertices(annotations) for encoder in self.encoders]
        first = found[0]
        whole = counted_outlines(first)
        decoded = [polygons_of(one.boxes, one.polar) for one in found]
        takes_part = (first.boxes[:, 2] > first.boxes[:, 0]) & ~annotations.crowd
        for k in np.flatnonzero(takes_part).tolist():
            if not whole[k]:
                self.without_outline += 1
                continue
            truth = object_mask(annotations, k, self.encoders[0].image_size)
            self._ious.append(mask_ious([outlines[k] for outlines in (whole, *decoded)], truth))
            height, width = first.boxes[k, 2:] - first.boxes[k, :2]
            self.sides.append(float(np.sqrt(height * width)))
            self.several_parts += bool(first.unused_parts[k])
        self._kept += [len(first.yx), *(int(one.kept.sum()) for one in found)]

    def size_of(self) -> NDArray[np.intp]:
        """Return each object's place in `SIZE_BINS`."""
        return np.searchsorted([end for *_, end in SIZE_BINS], self.sides, side="right")

    def choice(self, row: int, size: NDArray[np.intp]) -> PolygonChoice:
        """Return what the encoder before `row` reaches; 0 for the whole outlines."""
        ious = np.array(self._ious)[:, row]
        return PolygonChoice(
            bins=self.encoders[row - 1].bins if row else 0,
            mean_iou=float(ious.mean()),
            worst_iou=float(np.quantile(ious, 0.05)),
            by_size={
                name: float(ious[size == i].mean())
                for i, (name, _, _) in enumerate(SIZE_BINS)
                if (size == i).any()
            },
            kept_share=float(self._kept[row] / max(1, self._kept[0])),
        )
