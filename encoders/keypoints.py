"""`KeypointGridEncoder`: points in the cells of a grid, a detector without anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import (
    POSITIVE,
    Given,
    PointAssignment,
    PointOutcome,
    Spec,
    Target,
)
from ytrue.encoders.batches import bytes_of, contents_of, example_words, label_error, new_targets
from ytrue.encoders.cellgrid import CellGrid, GridLike
from ytrue.encoders.detections import detect_points, outputs_of, sigmoid
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of, set_counts, set_fields
from ytrue.encoders.kernels import keypoints as kernels
from ytrue.encoders.kernels.keypoints import Points, Record, Rules, Targets
from ytrue.encoders.threads import run_split
from ytrue.errors import check_choice

_CHOICES: Final = {
    "slots": ("any", "fixed"),
    "classes": ("landmark", "object"),
    "hidden": ("teach", "skip"),
}
_OUTCOMES: Final[dict[int, PointOutcome]] = {
    kernels.MATCHED: "matched",
    kernels.UNLABELLED: "unlabelled",
    kernels.HIDDEN: "hidden",
    kernels.CROWD: "crowd",
    kernels.NOT_FINITE: "not-finite",
    kernels.OUTSIDE: "outside",
    kernels.PADDED: "padding",
    kernels.TAKEN: "taken",
}


@dataclass(frozen=True)
class KeypointGridEncoder(Configured):
    """Puts the keypoints of objects into the cells of one or several grids.

    The rules (docs/keypoints.md tells them at length):

    1. A point belongs to the cell it lies in: on a border between cells to the lower or right one,
       on the image's lower or right border to the last. Its offset is its place inside the cell,
       in [0, 1].
    2. A point is taught if it is labelled (visibility above 0), not of a crowd, finite and inside
       the image (borders included, padding not); hidden ones (visibility 1) unless
       `hidden="skip"`.
    3. `slots="any"`: a cell takes up to `points_per_cell` points of any kind. `slots="fixed"`: slot
       k takes one point of landmark k. Where more would have a place than there is, visible points
       come before hidden ones, then those nearer the cell's centre, then lower class, y, x, object.
    4. With "any", the points in a cell stand from slot 0 on by class, then y, then x.
    5. With several grids, each takes every point by these rules.

    The target of one example, with one grid of H rows and W columns and P points in a cell; with
    several grids the first two axes are one, the cells in the order grid, row, column:

    - `state` (H, W, P) int8: 1 where the slot holds a point, else 0.
    - `offset` (H, W, P, 2) float32: (y, x) inside the cell, 0 where there is no point.
    - `label` (H, W, P, C) float32: 1 at the point's class, else 0.
    - `object` (H, W, P) int32: index of the point's object, -1 where there is none.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        grid: (rows, columns), several of them, or "global": one cell for the whole image.
        stride: instead of `grid`: pixels of a cell's side; several for several grids.
        num_classes: C.
        points_per_cell: P; with "fixed" the number of landmarks.
        slots: "any" or "fixed" (rule 3).
        classes: what a point's class is: "landmark", its place in its object's keypoints (COCO's
            17 names), or "object", its object's label.
        hidden: "teach" or "skip" points that are annotated as hidden.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        The keypoint branch of AmberzzZZ/efficientDet (kp/loss.py) gives the layout; its loss reads
        the offsets as parts of the whole image and skips a coordinate of 0, this target does not.

    Example:
        >>> encoder = KeypointGridEncoder((64, 64), (4, 4), num_classes=2, points_per_cell=1)
        >>> person = Annotations([(0, 0, 64, 64)], [0], keypoints=[[(20, 8, 2), (64, 64, 1)]])
        >>> target = encoder.encode(person)
        >>> target["offset"][1, 0, 0], target["offset"][3, 3, 0]
        (array([0.25, 0.5 ], dtype=float32), array([1., 1.], dtype=float32))
    """

    image_size: tuple[int, int]
    grid: tuple[tuple[int, int], ...]
    num_classes: int
    points_per_cell: int = 1
    slots: Literal["any", "fixed"] = "any"
    classes: Literal["landmark", "object"] = "landmark"
    hidden: Literal["teach", "skip"] = "teach"

    def __init__(
        self,
        image_size: int | Sequence[int],
        grid: GridLike | None = None,
        *,
        stride: int | Sequence[int] | None = None,
        num_classes: int,
        points_per_cell: int = 1,
        slots: Literal["any", "fixed"] = "any",
        classes: Literal["landmark", "object"] = "landmark",
        hidden: Literal["teach", "skip"] = "teach",
    ) -> None:
        cells = CellGrid(image_size, grid, stride=stride)
        set_fields(self, locals() | {"image_size": cells.image_size, "grid": cells.grid})
        self._check()

    def _check(self) -> None:
        set_counts(self, "num_classes", "points_per_cell")
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        one_each = self.slots == "fixed" and self.classes == "landmark"
        if one_each and self.points_per_cell != self.num_classes:
            raise ValueError(
                f"points_per_cell={self.points_per_cell}, num_classes={self.num_classes} with "
                'slots="fixed" and classes="landmark": expected one slot for each landmark'
            )

    # What depends on the parameters only, derived once.

    @cached_property
    def cells(self) -> CellGrid:
        """The grids."""
        return CellGrid(self.image_size, self.grid)

    @property
    def num_slots(self) -> int:
        """S: of all cells of all grids."""
        return len(self.cells) * self.points_per_cell

    @property
    def num_landmarks(self) -> int:
        """Number of landmarks that a target can tell apart: 1 where only objects have classes."""
        if self.slots == "fixed":
            return self.points_per_cell
        return self.num_classes if self.classes == "landmark" else 1

    @property
    def tells_landmarks(self) -> bool:
        """Whether a decoded point says which landmark it is, and not only of what class."""
        return self.slots == "fixed" or self.classes == "landmark"

    @property
    def _positions(self) -> tuple[int, ...]:
        return self.grid[0] if len(self.grid) == 1 else (len(self.cells),)

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        slots = (*self._positions, self.points_per_cell)
        return {
            "state": (slots, np.dtype(np.int8)),
            "offset": ((*slots, 2), np.dtype(np.float32)),
            "label": ((*slots, self.num_classes), np.dtype(np.float32)),
            "object": (slots, np.dtype(np.int32)),
        }

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {
            "encoder": "keypoint-grid",
            "image_size": list(self.image_size),
            "grid": [list(counts) for counts in self.grid],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> KeypointGridEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        return cls(**arguments_in(config, "keypoint-grid"))

    @cached_property
    def _rules(self) -> Rules:
        return Rules(
            num_classes=self.num_classes,
            slots=self.points_per_cell,
            fixed=self.slots == "fixed",
            by_object=self.classes == "object",
            skip_hidden=self.hidden == "skip",
        )

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Objects without keypoints have no points.

        Raises:
            ValueError: objects with more landmarks than there are classes (or, with "fixed",
                slots), or, with `classes="object"`, a label outside [0, num_classes); of several
                examples the position in the batch is named.
        """
        targets, _, _ = self._assign(in_frame(batch, self.image_size))
        return {
            name: getattr(targets, name).reshape(len(batch), *shape)
            for name, (shape, _) in self.spec.items()
        }

    def explain(self, annotations: Given) -> PointAssignment:
        """Return what `encode` decided for every point and slot, and why."""
        (annotations,) = in_frame((annotations,), self.image_size)
        targets, points, record = self._assign((annotations,))
        which = np.arange(len(record.kind), dtype=np.int32)
        each = max(1, int(points.landmarks[0]))
        return PointAssignment(
            annotations=annotations,
            image_size=self.image_size,
            grid=self.grid,
            slots_per_cell=self.points_per_cell,
            outcome=tuple(_OUTCOMES[kind] for kind in record.kind.tolist()),
            object=which // each,
            landmark=which % each,
            label=record.label,
            cell=record.cell,
            slot=record.slot,
            state=targets.state[0],
            owner=targets.object[0],
        )

    def locate(self, batch: Sequence[Given]) -> PointCells:
        """Return the cell of every point of several examples, before anybody takes a slot.

        Raises:
            ValueError: as `encode_batch`.
        """
        points = self._points(in_frame(batch, self.image_size))
        record = _new_record(len(points.yxv), len(self.grid))
        kernels.locate_images(0, len(batch), self.cells.cells, self._rules, points, record)
        per_image = np.diff(points.starts)
        image = np.repeat(np.arange(len(batch)), per_image)
        each = np.repeat(points.landmarks, per_image)
        return PointCells(
            image=image,
            landmark=(np.arange(len(image)) - points.starts[image]) % np.maximum(each, 1),
            label=record.label,
            labelled=record.kind != kernels.UNLABELLED,
            taught=record.kind == kernels.MATCHED,
            cell=record.cell,
            offset=record.offset,
        )

    def _assign(self, batch: Sequence[Annotations]) -> tuple[Targets, Points, Record]:
        points = self._points(batch)
        targets = self._new_targets(len(batch))
        record = _new_record(len(points.yxv), len(self.grid))
        cells, rules = self.cells.cells, self._rules

        def share(first: int, end: int) -> int:
            kernels.encode_images(first, end, cells, rules, points, record, targets)
            return 0

        run_split(share, len(batch), bytes_each=bytes_of(self.spec))
        return targets, points, record

    def _new_targets(self, count: int) -> Targets:
        """Return uninitialised arrays for the kernel, in which all slots are one axis."""
        slots = self.num_slots
        trailing = len(self._positions) + 2  # after the batch, the cells and their slots
        return Targets(
            **{
                name: array.reshape(count, slots, *array.shape[trailing:])
                for name, array in new_targets(self.spec, count).items()
            }
        )

    def _points(self, batch: Sequence[Annotations]) -> Points:
        given = [one.keypoints for one in batch]
        for position, keypoints in enumerate(given):
            if keypoints is not None:
                self._check_landmarks(keypoints.shape[1], position, batch)
        landmarks = np.array([0 if k is None else k.shape[1] for k in given], np.int64)
        counts = np.array([len(one) for one in batch], np.int64)
        flat = [keypoints.reshape(-1, 3) for keypoints in given if keypoints is not None]
        points = Points(
            yxv=np.concatenate([*flat, _NO_POINTS]),
            landmarks=landmarks,
            starts=np.concatenate(([0], np.cumsum(landmarks * counts))),
            objects=np.concatenate(([0], np.cumsum(counts))),
            labels=np.concatenate([*(one.labels for one in batch), _NO_LABELS]),
            crowd=np.concatenate([*(one.crowd for one in batch), _NO_CROWD]),
            contents=contents_of(batch, self.image_size),
        )
        if self.classes == "object":
            self._check_labels(points, batch)
        return points

    def _check_landmarks(self, count: int, position: int, batch: Sequence[Annotations]) -> None:
        room = {"points_per_cell": self.slots == "fixed", "num_classes": self.classes == "landmark"}
        for name, bounds in room.items():
            if bounds and count > getattr(self, name):
                raise ValueError(
                    f"{example_words(position, batch)}objects have {count} keypoints, expected at most "
                    f"{name}={getattr(self, name)}"
                )

    def _check_labels(self, points: Points, batch: Sequence[Annotations]) -> None:
        wrong = np.flatnonzero((points.labels < 0) | (points.labels >= self.num_classes))
        if wrong.size:
            bad = int(wrong[0])
            raise label_error(batch, bad, points.objects, int(points.labels[bad]), self.num_classes)

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts: "xy" where a slot holds a point, "class" everywhere."""
        state = target["state"]
        return {"class": np.ones(state.shape, np.bool_), "xy": state == POSITIVE}

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout of each grid, "32x24" -> (..., 32, 24, (2 + C) * P) float32.

        The last axis holds the offsets, y and x of slot 0, of slot 1 and so on, then the classes of
        slot 0, of slot 1 and so on. A slot holds a point where one of its classes is 1.
        """
        ahead = target["state"].shape[: -len(self._positions) - 1]
        widths = {
            "offset": 2 * self.points_per_cell,
            "label": self.num_classes * self.points_per_cell,
        }
        flat = [
            target[name].reshape(*ahead, len(self.cells), width).astype(np.float32, copy=False)
            for name, width in widths.items()
        ]
        return self.cells.split(np.concatenate(flat, axis=-1), behind=1)

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the points that one example's arrays stand for, as keypoints of objects.

        Args:
            arrays: a target, as `encode` returns it: every object that owns a slot comes back, in
                the order of `object`, with the points it owns as visible and the others as
                unlabelled; with several grids, from the first that a point got a slot of. Or a
                prediction, {"class": (..., P, C) logits, "xy": (..., P, 2) logits of the offsets
                (y, x)}: every point an object of its own, scored, duplicates suppressed.
            options: for predictions: `score_threshold` (0.05), `duplicate_radius` (0.5 cells),
                `max_detections` (1000), as `ytrue.encoders.detections.detect_points` has them.

        Returns:
            Boxes are tight around the points. Keypoints (N, K, 3), K the number of landmarks that
            a target can tell apart (`num_landmarks`); with `slots="any"` and `classes="object"` a
            target tells no landmarks, so an object's points stand in the order of their slots.
            Labels are the objects' with `classes="object"`; else 0 for a target, which does not
            hold them, and the landmark for a prediction.

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.
        """
        if {"class", "xy"} <= arrays.keys():
            count = self.num_slots
            told = outputs_of(arrays, {"class": (count, self.num_classes), "xy": (count, 2)})
            cell = np.arange(count) // self.points_per_cell
            yx = self.cells.points(cell, sigmoid(told["xy"]))
            return self.detect(told["class"], yx, **options)
        if not {"state", "offset", "label", "object"} <= arrays.keys():
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: expected a target (state, offset, "
                "label, object) or a prediction (class, xy)"
            )
        return self._decoded(arrays)

    def _decoded(self, target: Mapping[str, NDArray[Any]]) -> Annotations:
        slot = np.flatnonzero(target["state"] == POSITIVE)
        cell = slot // self.points_per_cell
        point = self.cells.points(cell, target["offset"].reshape(-1, 2)[slot])
        classes = target["label"].reshape(-1, self.num_classes)[slot]
        label = classes.argmax(axis=-1).astype(np.int32)
        owners, row = np.unique(target["object"].ravel()[slot], return_inverse=True)
        if self.slots == "fixed":
            column = slot % self.points_per_cell
        elif self.classes == "landmark":
            column = label
        else:
            column = self._told_apart(row, self.cells.level(cell), point)
        width = max([self.num_landmarks, *(column + 1).tolist()])
        keypoints = np.zeros((len(owners), width, 3), np.float32)
        # Backwards, so that of several grids the first has the last word.
        keypoints[row[::-1], column[::-1], :2] = point[::-1]
        keypoints[row, column, 2] = kernels.VISIBLE
        labels = np.zeros(len(owners), np.int32)
        if self.classes == "object":
            labels[row] = label
        return Annotations(_around(keypoints), labels, keypoints=keypoints)

    def _told_apart(
        self, row: NDArray[np.intp], level: NDArray[np.int64], point: NDArray[np.float32]
    ) -> NDArray[np.intp]:
        """Number the points of each object where no landmark does; grids show the same ones."""
        near = 1e-6 * max(self.image_size)  # rounding, eight times over
        column = np.empty(len(row), np.intp)
        for one in np.unique(row):
            known: list[int] = []
            for grid in dict.fromkeys(level[row == one].tolist()):
                free = known.copy()
                for i in np.flatnonzero((row == one) & (level == grid)):
                    same = [k for k in free if np.abs(point[k] - point[i]).max() <= near]
                    column[i] = column[same[0]] if same else len(known)
                    if same:
                        free.remove(same[0])
                    else:
                        known.append(int(i))
        return column

    def detect(
        self, values: NDArray[Any], yx: NDArray[np.float32], *, logits: bool = True, **options: Any
    ) -> Annotations:
        """Return a prediction's points, as `decode` does.

        Args:
            values: (S, C) class logits, or scores, of all slots.
            yx: (S, 2) float32 points, pixels.
            logits: whether `values` are logits.
            options: as in `decode`.
        """
        slot = np.arange(self.num_slots)
        in_cell = slot % self.points_per_cell
        both = self.slots == "fixed" and self.classes == "landmark"
        label = in_cell if both else values.argmax(axis=-1)
        landmark = in_cell if self.slots == "fixed" else np.minimum(label, self.num_landmarks - 1)
        cell = slot // self.points_per_cell
        rows, scores = detect_points(
            values[slot, label],
            landmark * self.num_classes + label,
            yx,
            self.cells.sides[self.cells.level(cell)],
            logits=logits,
            **options,
        )
        keypoints = np.zeros((len(rows), self.num_landmarks, 3), np.float32)
        keypoints[np.arange(len(rows)), landmark[rows], :2] = yx[rows]
        keypoints[np.arange(len(rows)), landmark[rows], 2] = kernels.VISIBLE
        return Annotations(_around(keypoints), label[rows], scores=scores, keypoints=keypoints)


@dataclass(frozen=True, eq=False)
class PointCells:
    """The points of several examples and their cells, M points and L grids.

    Attributes:
        image: (M,) the point's example.
        landmark: (M,) its place in its object's keypoints.
        label: (M,) int32, its class.
        labelled: (M,) whether its visibility is above 0.
        taught: (M,) whether it is to have a slot (rule 2 of `KeypointGridEncoder`).
        cell: (L, M) int32, its cell, counted through all grids; -1 where it is not taught.
        offset: (L, M, 2) float32, (y, x) inside the cell, in [0, 1].
    """

    image: NDArray[np.int64]
    landmark: NDArray[np.int64]
    label: NDArray[np.int32]
    labelled: NDArray[np.bool_]
    taught: NDArray[np.bool_]
    cell: NDArray[np.int32]
    offset: NDArray[np.float32]


_NO_POINTS: Final = np.zeros((0, 3), np.float32)
_NO_LABELS: Final = np.zeros(0, np.int32)
_NO_CROWD: Final = np.zeros(0, bool)


def _new_record(points: int, grids: int) -> Record:
    return Record(
        kind=np.empty(points, np.int8),
        label=np.empty(points, np.int32),
        yx=np.empty((points, 2), np.float32),
        cell=np.empty((grids, points), np.int32),
        offset=np.empty((grids, points, 2), np.float32),
        cost=np.empty((grids, points), np.float32),
        slot=np.empty((grids, points), np.int32),
    )


def _around(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, 4) boxes tight around the labelled points of (N, K, 3) keypoints."""
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.float32(np.inf)).min(axis=1)
    high = np.where(labelled, keypoints[..., :2], np.float32(-np.inf)).max(axis=1)
    return np.concatenate((low, high), axis=-1)
