"""`YoloEncoder`: every object in the cell of its centre, on the anchors of its shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import IGNORE, POSITIVE, Assignment, Given, Outcome, Spec, Target
from ytrue.encoders.batches import (
    OUTCOME_OF_KIND,
    first_positions,
    new_targets,
    objects_of,
    run_kernel,
)
from ytrue.encoders.cellgrid import CellGrid, GridLike
from ytrue.encoders.coders import LARGEST_LOG
from ytrue.encoders.detections import detect, outputs_of, sigmoid
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of, set_counts, set_fields
from ytrue.encoders.grid import boxes_of, lattice_of
from ytrue.encoders.kernels import objects
from ytrue.encoders.kernels.lattice import Lattice
from ytrue.encoders.kernels.objects import Targets
from ytrue.encoders.kernels.yolo import Record, Rules, encode_images
from ytrue.errors import as_number, check_choice, check_number

AnchorsLike = Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]

_CHOICES: Final = {
    "match": ("best", "ratio"),
    "collision": ("larger", "smaller"),
    "crowd": ("ignore", "negative"),
}


@dataclass(frozen=True)
class YoloEncoder(Configured):
    """Assigns objects to the cells of their centres and to the anchors closest to their shapes.

    A place is one anchor of one cell. The rules, in this order (docs/yolo.md tells them at length):

    1. A box is first cut to the frame. Its cell, on every level, is the one its centre lies in: on
       a border between cells the lower or right one, on the frame's lower or right border the last.
    2. `match="best"`: the object asks for the anchor of the highest IoU of box and anchor put on
       one centre, of all levels; of equal IoUs the first. "ratio": for every anchor whose height
       and width are both less than `ratio` times its own, and more than one `ratio`-th.
    3. Of several objects that ask for one place, the one of the larger (`collision="smaller"`:
       smaller) area gets it; of equal areas that of the lower y_min, x_min, y_max, x_max, label,
       index.
    4. An object that got nothing so, or that fits no anchor, gets of the places of its cells, on
       all levels, that nobody asked for the one of highest IoU (as in 2); of several such objects
       the order of rule 3 decides. An object that finds none free is lost: "taken".
    5. `neighbours`: each place an object got is also its own in the 1 or 2 cells of the level
       nearest to its centre beside its own (above or below, left or right; none where the centre
       is exactly in the middle, or where the grid ends), where rules 3 and 4 left them free; of
       several objects the order of rule 3 decides.
    6. Negatives whose anchor box, on the centre of its cell, has an IoU above `ignore_iou` with an
       object's box are ignored. YOLOv3 decides this by predicted boxes, which an encoder has not.
    7. A crowd makes a place ignore, unless positive, where it covers `crowd_ioa` of the anchor
       box: its mask where it has one, else its box.
    8. Objects without area, not finite or outside the image get nothing: `explain` says so.

    The target of one example, on a grid of H rows and W columns with A anchors in a cell; with
    several levels the first two axes are one, the cells in the order level, row, column:

    - `state` (H, W, A) int8: 1 positive, 0 negative, -1 ignore.
    - `label` (H, W, A) int32: class index, -1 where not positive.
    - `box` (H, W, A, 4) float32: (y, x) of the centre in the cell, in cells, within [0, 1] (with
      neighbours [-0.5, 1.5]), then log(height / anchor height), log(width / anchor width); 0 where
      not positive.
    - `object` (H, W, A) int32: index of the object, -1 where not positive.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        anchors: (height, width) pixels of the anchors in a cell; one such list for each level
            where there are several, all of one length.
        grid: (rows, columns), or one for each level.
        stride: instead of `grid`: pixels of a cell's side; one for each level.
        num_classes: labels lie in [0, num_classes).
        match: "best" or "ratio" (rule 2).
        ratio: of rule 2.
        neighbours: 0, 1 or 2 (rule 5).
        collision: "larger" or "smaller" (rule 3).
        ignore_iou: of rule 6; 1 for no ignore.
        crowd: "ignore" (rule 7) or "negative": crowds teach background.
        crowd_ioa: share of an anchor that a crowd must cover.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Redmon and Farhadi 2018 (YOLOv3), section 2 for rules 1, 2 and 6; ultralytics/yolov5
        utils/loss.py, build_targets, for "ratio" (`anchor_t`) and the neighbours. There, objects on
        one place overwrite each other and those that fit no anchor are left out.

    Example:
        >>> encoder = YoloEncoder((64, 64), [(16, 16), (32, 16)], stride=16, num_classes=3)
        >>> target = encoder.encode(Annotations([(4, 8, 36, 24)], [2]))
        >>> np.argwhere(target["state"] == 1).tolist(), target["box"][1, 1, 1].tolist()
        ([[1, 1, 1]], [0.25, 0.0, 0.0, 0.0])
    """

    image_size: tuple[int, int]
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    grid: tuple[tuple[int, int], ...]
    num_classes: int
    match: Literal["best", "ratio"] = "best"
    ratio: float = 4.0
    neighbours: Literal[0, 1, 2] = 0
    collision: Literal["larger", "smaller"] = "larger"
    ignore_iou: float = 0.5
    crowd: Literal["ignore", "negative"] = "ignore"
    crowd_ioa: float = 0.5

    def __init__(
        self,
        image_size: int | Sequence[int],
        anchors: AnchorsLike,
        *,
        grid: GridLike | None = None,
        stride: int | Sequence[int] | None = None,
        num_classes: int,
        match: Literal["best", "ratio"] = "best",
        ratio: float = 4.0,
        neighbours: Literal[0, 1, 2] = 0,
        collision: Literal["larger", "smaller"] = "larger",
        ignore_iou: float = 0.5,
        crowd: Literal["ignore", "negative"] = "ignore",
        crowd_ioa: float = 0.5,
    ) -> None:
        cells = CellGrid(image_size, grid, stride=stride)
        derived = {
            "image_size": cells.image_size,
            "grid": cells.grid,
            "anchors": _levels(anchors, len(cells.grid)),
            "ratio": check_number("ratio", ratio),
            "ignore_iou": check_number("ignore_iou", ignore_iou),
            "crowd_ioa": check_number("crowd_ioa", crowd_ioa),
        }
        set_fields(self, locals() | derived)
        self._check()

    def _check(self) -> None:
        set_counts(self, "num_classes")
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if as_number(self.neighbours) not in (0, 1, 2):
            raise ValueError(f"neighbours={self.neighbours!r}: expected 0, 1 or 2")
        object.__setattr__(self, "neighbours", int(self.neighbours))
        if not 1 < self.ratio < math.inf:
            raise ValueError(f"ratio={self.ratio}: expected a number above 1")
        for name in ("ignore_iou", "crowd_ioa"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number in (0, 1]")

    # What depends on the parameters only, derived once.

    @cached_property
    def cells(self) -> CellGrid:
        """The levels' grids."""
        return CellGrid(self.image_size, self.grid)

    @property
    def anchors_per_cell(self) -> int:
        """A."""
        return len(self.anchors[0])

    @property
    def offset_range(self) -> tuple[float, float]:
        """Between which numbers (y, x) of `box` lie: a centre may lie in a neighbour's half."""
        return (-0.5, 1.5) if self.neighbours else (0.0, 1.0)

    @property
    def positions(self) -> tuple[int, ...]:
        """The axes ahead of the anchors: (H, W), or (cells,) of all levels."""
        return self.grid[0] if len(self.grid) == 1 else (len(self.cells),)

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        places = (*self.positions, self.anchors_per_cell)
        return {
            "state": (places, np.dtype(np.int8)),
            "label": (places, np.dtype(np.int32)),
            "box": ((*places, 4), np.dtype(np.float32)),
            "object": (places, np.dtype(np.int32)),
        }

    @cached_property
    def boxes(self) -> NDArray[np.float32]:
        """(P, 4) float32 boxes of all places' anchors, on the centres of their cells, read-only."""
        return boxes_of(self._lattice)

    @cached_property
    def place_level(self) -> NDArray[np.int8]:
        """(P,) the level of each place, as `CellGrid.level_of_places` has it, read-only."""
        return self.cells.level_of_places(self.anchors_per_cell)

    @cached_property
    def place_anchor(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of every place (P,) the index of its grid, and that of its anchor in the cell."""
        cell, slot = np.divmod(np.arange(len(self.boxes)), self.anchors_per_cell)
        return self.cells.level(cell), slot

    @cached_property
    def _lattice(self) -> Lattice:
        return lattice_of(self.grid, self.cells.sides, self.anchors, 0.5, "float32")

    @cached_property
    def _sides(self) -> NDArray[np.float64]:
        """(L, A, 2) heights and widths of the anchors."""
        return np.array(self.anchors, np.float64)

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {
            "encoder": "yolo",
            "image_size": list(self.image_size),
            "anchors": [[list(sides) for sides in level] for level in self.anchors],
            "grid": [list(counts) for counts in self.grid],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> YoloEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        return cls(**arguments_in(config, "yolo"))

    @cached_property
    def _rules(self) -> Rules:
        return Rules(
            num_classes=self.num_classes,
            by_ratio=self.match == "ratio",
            ratio=self.ratio,
            neighbours=self.neighbours,
            smaller_wins=self.collision == "smaller",
            ignore_iou=np.float32(self.ignore_iou),
            crowd_ignores=self.crowd == "ignore",
            crowd_ioa=np.float32(self.crowd_ioa),
            height=float(self.image_size[0]),
            width=float(self.image_size[1]),
        )

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: a label outside [0, num_classes), or a crowd mask of another size than
                the network input; of several examples the position in the batch is named.
        """
        arrays = new_targets(self.spec, len(batch))
        self.assign(in_frame(batch, self.image_size), arrays)
        return arrays

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and place, and why.

        `best_iou` is that of rule 2, `forced` counts the places by rule 4 and their neighbours,
        `stolen` those asked for that others got.
        """
        (annotations,) = in_frame((annotations,), self.image_size)
        arrays = new_targets(self.spec, 1)
        record = self.assign((annotations,), arrays)
        owner = arrays["object"].reshape(-1)
        second = np.flatnonzero(record.second)
        found = record.best_place >= 0
        level = np.where(found, self.place_level[record.best_place], -1)
        return Assignment(
            annotations=annotations,
            image_size=self.image_size,
            outcome=tuple(
                self._outcome(*row)
                for row in zip(
                    record.kind.tolist(),
                    record.positives.tolist(),
                    record.second.tolist(),
                    strict=True,
                )
            ),
            positives=record.positives,
            forced=np.where(record.second, record.positives, 0).astype(np.int32),
            stolen=record.refused,
            best_iou=record.best_iou.astype(np.float32),
            best_position=record.best_place,
            level=level.astype(np.int32),
            state=arrays["state"].reshape(-1),
            object=owner,
            forced_positions=np.flatnonzero(np.isin(owner, second)).astype(np.int32),
            boxes=self.boxes,
            position_level=self.place_level,
            positive_iou=0.0,
            by_cell=True,
        )

    @staticmethod
    def _outcome(kind: int, positives: int, second: bool) -> Outcome:
        if kind != objects.MATCHED:
            return OUTCOME_OF_KIND[kind]
        if positives > 0:
            return "forced" if second else "matched"
        return "taken"

    def assign(self, batch: Sequence[Annotations], arrays: Target) -> Record:
        """Write the targets of several examples into new arrays; return what each object got.

        For encoders that add to these targets.

        Args:
            batch: the examples.
            arrays: (B, ...) arrays as `spec` has them, C-contiguous; what they hold is overwritten.

        Raises:
            ValueError: as `encode_batch`.
        """
        given = objects_of(batch, self.image_size, "float32", crowd_masks=self.crowd == "ignore")
        record = _new_record(len(given.boxes), len(self.grid))
        targets = Targets(
            **{
                name: arrays[name].reshape(len(batch), len(self.boxes), *shape[self._axes :])
                for name, (shape, _) in self.spec.items()
            }
        )
        cells, sides, boxes = self.cells.cells, self._sides, self.boxes
        lattice, rules = self._lattice, self._rules

        run_kernel(
            encode_images, self, batch, given, cells, sides, boxes, lattice, rules, given, targets,
            record,
        )  # fmt: skip
        return record

    @property
    def _axes(self) -> int:
        return len(self.positions) + 1

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts.

        "objectness" where not ignored, "class" and "box" where positive.
        """
        state = target["state"]
        return {
            "objectness": state != IGNORE,
            "class": state == POSITIVE,
            "box": state == POSITIVE,
        }

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout of each level, "32x24" -> (..., 32, 24, A, 4 + C + 1) float32.

        The last axis holds the box, the class as one-hot, and the state.
        """
        classes = target["label"][..., None] == np.arange(self.num_classes)
        parts = (target["box"], classes, target["state"][..., None])
        return self.split(np.concatenate([part.astype(np.float32) for part in parts], axis=-1))

    def split(self, dense: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return level -> (..., H, W, A, N) of an array (..., *positions, A, N)."""
        ahead = dense.shape[: -len(self.positions) - 2]
        return self.cells.split(dense.reshape(*ahead, len(self.cells), *dense.shape[-2:]), behind=2)

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for.

        Args:
            arrays: a target, as `encode` returns it: every object that has a place comes back, cut
                to the frame, in the order of `object`. Or a prediction, {"class": (..., A, C)
                logits, "objectness": (..., A) logits, "box": (..., A, 4)}, the box as logits of
                (y, x), stretched over `offset_range`, and the logarithms as in the target: scored
                detections after suppression. The score is objectness times class.
            options: for predictions: those of `ytrue.encoders.detections.detect` but `logits`.

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.
        """
        if {"class", "objectness", "box"} <= arrays.keys():
            scores, boxes = self.predicted(arrays)
            return detect(scores, boxes, logits=False, **options)
        rows = self.first_places(arrays)
        return Annotations(
            self.target_boxes(arrays["box"], rows), arrays["label"].reshape(-1)[rows]
        )

    def predicted(
        self, arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (P, C) scores and (P, 4) boxes, pixels, of all places of a prediction.

        Args:
            arrays: a prediction, as in `decode`.

        Raises:
            ValueError: it is of another grid or other classes.
        """
        count = len(self.boxes)
        told = outputs_of(
            arrays,
            {"class": (count, self.num_classes), "objectness": (count,), "box": (count, 4)},
            cut=("box",),
        )
        scores = sigmoid(told["class"]) * sigmoid(told["objectness"])[:, None]
        raw = told["box"]
        low, high = self.offset_range
        offsets = low + (high - low) * sigmoid(raw[:, :2]).astype(np.float64)
        logs = np.minimum(raw[:, 2:], LARGEST_LOG)
        return scores, self._boxes(offsets, logs, np.arange(count))

    def target_boxes(self, box: NDArray[Any], places: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (M, 4) boxes, pixels, of some places of a target's (..., A, 4) box array."""
        rows = box.reshape(-1, 4)[places]
        return self._boxes(rows[:, :2], rows[:, 2:], places)

    def _boxes(
        self, offsets: NDArray[Any], logs: NDArray[Any], places: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return boxes; computed in float64 and rounded once.

        centre = (cell + offset) * side of the cell; side = anchor side * exp(log).
        """
        cell, slot = np.divmod(places, self.anchors_per_cell)
        level = self.cells.level(cell)
        centre = self.cells.exact_points(cell, offsets)
        half = self._sides[level, slot] * np.exp(logs.astype(np.float64)) / 2
        return np.concatenate((centre - half, centre + half), axis=-1).astype(np.float32)

    def first_places(self, target: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Return the first place of every object that has one, in the order of `object`.

        Raises:
            ValueError: arrays that are no target.
        """
        if not {"state", "label", "box", "object"} <= target.keys():
            raise ValueError(
                f"decode got arrays named {sorted(target)}: expected a target (state, label, box, "
                "object) or a prediction (class, objectness, box)"
            )
        return first_positions(target)


def _levels(anchors: AnchorsLike, levels: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return the anchors by level; a list of pairs alone is that of one level."""
    wrong = ValueError(
        f"anchors={anchors!r}: expected (height, width) pixels above 0, as many for each of the "
        f"{levels} level{'s' * (levels != 1)}, at least one"
    )
    try:
        sides = np.array(anchors, np.float64)
    except (TypeError, ValueError):
        raise wrong from None
    sides = sides[None] if sides.ndim == 2 else sides
    good = sides.ndim == 3 and sides.shape[0] == levels and sides.shape[1] and sides.shape[2] == 2
    if not (good and ((sides > 0) & np.isfinite(sides)).all()):
        raise wrong
    return tuple(tuple((tall, wide) for tall, wide in level) for level in sides.tolist())


def _new_record(count: int, levels: int) -> Record:
    return Record(
        kind=np.empty(count, np.int8),
        box=np.empty((count, 4), np.float32),
        cell=np.empty((levels, count), np.int32),
        offset=np.empty((levels, count, 2), np.float32),
        best_iou=np.empty(count, np.float64),
        best_place=np.empty(count, np.int32),
        positives=np.empty(count, np.int32),
        second=np.empty(count, np.bool_),
        refused=np.empty(count, np.int32),
    )
