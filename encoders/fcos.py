"""`FCOSEncoder`: every point inside an object tells how far it is to the object's borders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import IGNORE, POSITIVE, Assignment, Given, Outcome, Spec, Target
from ytrue.encoders.arguments import numbers_of
from ytrue.encoders.batches import (
    OUTCOME_OF_KIND,
    first_positions,
    new_targets,
    objects_of,
    run_kernel,
)
from ytrue.encoders.cellgrid import CellGrid, strides_of
from ytrue.encoders.coders import LARGEST_LOG
from ytrue.encoders.detections import detect, outputs_of, sigmoid
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of, set_counts, set_fields
from ytrue.encoders.kernels import objects
from ytrue.encoders.kernels.fcos import Record, Rules, Targets, encode_images
from ytrue.errors import check_choice, check_number

RANGE_IN_STRIDES: Final = 8
"""Where a level's range of distances ends by default: 64 pixels at stride 8, as in the paper."""

_CHOICES: Final = {"crowd": ("ignore", "negative"), "padding": ("negative", "ignore")}


@dataclass(frozen=True)
class FCOSEncoder(Configured):
    """Assigns to every object the points inside it, on the levels of its size.

    A point is the centre of a cell. With t, l, b, r its distances to the top, left, bottom and
    right border of an object, the rules, in this order (docs/fcos.md tells them at length):

    1. A box is first cut to the frame.
    2. An object asks for a point that lies inside it, min(t, l, b, r) > 0; of whose level it has
       the size, lower < max(t, l, b, r) <= upper, the bounds being those of `ranges`, on the finest
       level 0 and on the coarsest infinite; and that lies near its centre, less than
       `center_radius` strides away along each axis.
    3. Of several objects that ask for one point the one of the smallest area gets it; of equal
       areas the one of the lower index.
    4. A crowd makes the points in it ignore, unless positive: in its mask where it has one, else in
       its box.
    5. `padding="ignore"`: points outside `Annotations.content` are ignored, unless positive.
    6. Objects without area, not finite or outside the image get nothing, like those that no point
       suits ("no-point") or whose points others have ("taken"): `explain` says so.

    The target of one example, P points in the order level (fine to coarse), row, column:

    - `state` (P,) int8: 1 positive, 0 negative, -1 ignore.
    - `label` (P,) int32: class index, -1 where not positive.
    - `box` (P, 4) float32: (t, l, b, r) / stride of the level, 0 where not positive.
    - `centerness` (P,) float32: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), in (0, 1],
      0 where not positive.
    - `object` (P,) int32: index of the object, -1 where not positive.

    Distances, areas and what is derived from them are float32.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        num_classes: labels lie in [0, num_classes).
        stride: pixels of a cell's side on each level, rising. Where a stride does not divide a side
            of the image, cells are a little smaller (see `CellGrid`); `box` and `center_radius` are
            in the strides given here.
        ranges: upper ends, in pixels and rising, of the distances on each level but the coarsest;
            None: 8 strides of the level, which is (64, 128, 256, 512) for the default strides.
        center_radius: of rule 2; None: the whole box.
        crowd: "ignore" (rule 4) or "negative": crowds teach background.
        padding: "negative" or "ignore" (rule 5).

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Tian et al. 2019 (FCOS), section 3, and 2020 (FCOS: A Simple and Strong Anchor-Free Object
        Detector), section 3.1, for the centre sampling; tianzhi0549/FCOS
        fcos_core/modeling/rpn/fcos/loss.py, where both ends of a range are inside it. Neither
        knows crowds or padding.

    Example:
        >>> encoder = FCOSEncoder((64, 64), 3, stride=(8, 16), center_radius=None)
        >>> target = encoder.encode(Annotations([(8, 8, 24, 32)], [2]))
        >>> np.flatnonzero(target["state"] == 1).tolist(), target["box"][9].tolist()
        ([9, 10, 11, 17, 18, 19], [0.5, 0.5, 1.5, 2.5])
    """

    image_size: tuple[int, int]
    num_classes: int
    stride: tuple[int, ...] = (8, 16, 32, 64, 128)
    ranges: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)
    center_radius: float | None = 1.5
    crowd: Literal["ignore", "negative"] = "ignore"
    padding: Literal["negative", "ignore"] = "negative"

    def __init__(
        self,
        image_size: int | Sequence[int],
        num_classes: int,
        *,
        stride: int | Sequence[int] = (8, 16, 32, 64, 128),
        ranges: float | Sequence[float] | None = None,
        center_radius: float | None = 1.5,
        crowd: Literal["ignore", "negative"] = "ignore",
        padding: Literal["negative", "ignore"] = "negative",
    ) -> None:
        strides = strides_of(stride)
        cells = CellGrid(image_size, stride=strides)
        bounds = [RANGE_IN_STRIDES * side for side in strides[:-1]] if ranges is None else ranges
        derived = {
            "image_size": cells.image_size,
            "stride": strides,
            "ranges": numbers_of(bounds),
            "center_radius": None
            if center_radius is None
            else check_number("center_radius", center_radius),
        }
        set_fields(self, locals() | derived)
        self._check()

    def _check(self) -> None:
        set_counts(self, "num_classes")
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if not _rising(self.stride):
            raise ValueError(f"stride={self.stride}: expected rising numbers, fine to coarse")
        if len(self.ranges) != len(self.stride) - 1 or not _rising((0, *self.ranges, math.inf)):
            raise ValueError(
                f"ranges={self.ranges}: expected {len(self.stride) - 1} rising numbers of pixels "
                "above 0, one for each level but the coarsest"
            )
        if self.center_radius is not None and not 0 < self.center_radius < math.inf:
            raise ValueError(
                f"center_radius={self.center_radius}: expected strides above 0, or None for the "
                "whole box"
            )

    # What depends on the parameters only, derived once.

    @cached_property
    def cells(self) -> CellGrid:
        """The levels' grids; points are the centres of their cells."""
        return CellGrid(self.image_size, stride=self.stride)

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """(P, 2) float32 points (y, x), pixels."""
        count = len(self.cells)
        return self.cells.points(np.arange(count), np.full((count, 2), 0.5))

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(P, 4) float32 the cells around the points, pixels, read-only."""
        return self.cells.boxes

    @cached_property
    def point_level(self) -> NDArray[np.int8]:
        """(P,) the level of each point, as `CellGrid.level_of_places` has it, read-only."""
        return self.cells.level_of_places(1)

    @cached_property
    def point_stride(self) -> NDArray[np.float32]:
        """(P,) float32 the stride of each point's level, pixels."""
        return np.repeat(np.array(self.stride, np.float32), np.diff(self.cells.offsets))

    @cached_property
    def largest_log(self) -> NDArray[np.float64]:
        """(P, 1) where logarithms of distances that a network tells are cut, so that exp stays finite.

        `LARGEST_LOG`, or what reaches across the whole input.
        """
        across = np.log(max(self.image_size) / self.point_stride.astype(np.float64))
        return np.maximum(across, LARGEST_LOG)[:, None]

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        points = len(self.cells)
        return {
            "state": ((points,), np.dtype(np.int8)),
            "label": ((points,), np.dtype(np.int32)),
            "box": ((points, 4), np.dtype(np.float32)),
            "centerness": ((points,), np.dtype(np.float32)),
            "object": ((points,), np.dtype(np.int32)),
        }

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {
            "encoder": "fcos",
            "image_size": list(self.image_size),
            "stride": list(self.stride),
            "ranges": list(self.ranges),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FCOSEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        return cls(**arguments_in(config, "fcos"))

    @cached_property
    def _rules(self) -> Rules:
        strides = np.array(self.stride, np.float64)
        radius = math.inf if self.center_radius is None else self.center_radius
        columns = ((0.0, *self.ranges), (*self.ranges, math.inf), radius * strides, strides)
        return Rules(
            levels=np.column_stack(columns).astype(np.float32),
            num_classes=self.num_classes,
            crowd_ignores=self.crowd == "ignore",
            padding_ignores=self.padding == "ignore",
            height=np.float32(self.image_size[0]),
            width=np.float32(self.image_size[1]),
        )

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: a label outside [0, num_classes), or a crowd mask of another size than
                the network input; of several examples the position in the batch is named.
        """
        targets, _ = self._assign(in_frame(batch, self.image_size))
        return targets._asdict()

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and point, and why.

        Positions are points, their boxes the cells. Overlap has no part in it: `best_iou` is 0,
        `best_position` the point nearest to the object's centre, by the larger of the distances
        along both axes, of those it asked for; `stolen` counts those of them that others have.
        """
        (annotations,) = in_frame((annotations,), self.image_size)
        targets, record = self._assign((annotations,))
        count = len(annotations)
        level = np.where(record.nearest >= 0, self.point_level[record.nearest], -1)
        rows = zip(
            record.kind.tolist(), record.positives.tolist(), record.refused.tolist(), strict=True
        )
        return Assignment(
            annotations=annotations,
            image_size=self.image_size,
            outcome=tuple(_outcome(*row) for row in rows),
            positives=record.positives,
            forced=np.zeros(count, np.int32),
            stolen=record.refused,
            best_iou=np.zeros(count, np.float32),
            best_position=record.nearest,
            level=level.astype(np.int32),
            state=targets.state[0],
            object=targets.object[0],
            forced_positions=np.zeros(0, np.int32),
            boxes=self.boxes,
            position_level=self.point_level,
            positive_iou=0.0,
            by_overlap=False,
        )

    def _assign(self, batch: Sequence[Annotations]) -> tuple[Targets, Record]:
        given = objects_of(batch, self.image_size, "float32", crowd_masks=self.crowd == "ignore")
        targets = Targets(**new_targets(self.spec, len(batch)))
        record = _new_record(len(given.boxes))
        centres, rules = self.cells.centres, self._rules

        run_kernel(encode_images, self, batch, given, centres, rules, given, targets, record)
        return targets, record

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts.

        "class" where not ignored, "box" and "centerness" where positive.
        """
        positive = target["state"] == POSITIVE
        return {
            "class": target["state"] != IGNORE,
            "box": positive,
            "centerness": positive.copy(),
        }

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout of each level, "64x64" -> (..., 64, 64, 4 + 1 + C + 1) float32.

        The last axis holds the box, the centerness, the class as one-hot, and the state.
        """
        classes = target["label"][..., None] == np.arange(self.num_classes)
        parts = (
            target["box"], target["centerness"][..., None], classes, target["state"][..., None],
        )  # fmt: skip
        dense = np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=-1)
        return self.cells.split(dense, behind=1)

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for.

        Args:
            arrays: a target, as `encode` returns it: every object that has a point comes back, cut
                to the frame, in the order of `object`. Or a prediction, {"class": (P, C) logits,
                "box": (P, 4) logarithms of the distances in strides, "centerness": (P,) logits}:
                scored detections after suppression. The score is
                sqrt(sigmoid(class) * sigmoid(centerness)).
            options: for predictions: those of `ytrue.encoders.detections.detect` but `logits`;
                `score_threshold` is of that score.

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.

        Reference:
            tianzhi0549/FCOS fcos_core/modeling/rpn/fcos/inference.py for the score, the square root
            of the paper's; its threshold is of sigmoid(class) alone. exp as in the paper, cut at
            `largest_log`.
        """
        if {"class", "centerness", "box"} <= arrays.keys():
            count = len(self.cells)
            told = outputs_of(
                arrays,
                {"class": (count, self.num_classes), "box": (count, 4), "centerness": (count,)},
                cut=("box",),
            )
            scores = sigmoid(told["class"]) * sigmoid(told["centerness"])[:, None]
            distances = np.exp(np.minimum(told["box"].astype(np.float64), self.largest_log))
            boxes = self._boxes(distances, np.arange(count))
            return detect(np.sqrt(scores), boxes, logits=False, **options)
        if not {"state", "label", "box", "object"} <= arrays.keys():
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: expected a target (state, label, box, "
                "object) or a prediction (class, box, centerness)"
            )
        rows = first_positions(arrays)
        return Annotations(self._boxes(arrays["box"][rows], rows), arrays["label"][rows])

    def _boxes(self, distances: NDArray[Any], points: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (M, 4) boxes, pixels, of the distances (M, 4), strides, around some points.

        Computed in float64 and rounded once: point -/+ distance * stride.
        """
        reach = distances.astype(np.float64) * self.point_stride[points, None]
        centre = self.points[points]
        return np.concatenate((centre - reach[:, :2], centre + reach[:, 2:]), axis=1).astype(
            np.float32
        )


def _outcome(kind: int, positives: int, refused: int) -> Outcome:
    if kind != objects.MATCHED:
        return OUTCOME_OF_KIND[kind]
    if positives > 0:
        return "matched"
    return "taken" if refused > 0 else "no-point"


def _rising(numbers: Sequence[float]) -> bool:
    return all(low < high for low, high in pairwise(numbers))


def _new_record(count: int) -> Record:
    return Record(
        kind=np.empty(count, np.int8),
        box=np.empty((count, 4), np.float32),
        area=np.empty(count, np.float32),
        nearest=np.empty(count, np.int32),
        positives=np.empty(count, np.int32),
        refused=np.empty(count, np.int32),
    )
