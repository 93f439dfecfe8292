"""`CenterNetEncoder`: every object a Gaussian on its class's heat map, its size in one cell."""

from __future__ import annotations

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
from ytrue.encoders.cellgrid import CellGrid
from ytrue.encoders.detections import detect_peaks, outputs_of
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of, set_counts, set_fields
from ytrue.encoders.grid import frame_size
from ytrue.encoders.kernels import objects
from ytrue.encoders.kernels.centernet import Record, Rules, Targets, encode_images
from ytrue.errors import check_choice, check_number

_CHOICES: Final = {
    "radius": ("correct", "published"),
    "collision": ("larger", "smaller"),
    "crowd": ("ignore", "negative"),
    "padding": ("negative", "ignore"),
}


@dataclass(frozen=True)
class CenterNetEncoder(Configured):
    """Tells objects by the cell of their centre: a peak on the heat map of their class, a size there.

    The rules (docs/centernet.md tells them at length):

    1. A box is first cut to the frame. Its cell is the one its centre lies in: on a border between
       cells the lower or right one, on the frame's lower or right border the last, with offset 1.
    2. Around its cell, the object raises its class's map to a Gaussian, 1 in the cell, of
       sigma = (2 r + 1) / 6 and cut off r cells away along each axis; of several objects' values
       the highest stays. r is how far two corners may lie off so that the box keeps an IoU of
       `min_overlap`, from its height and width in cells, rounded up; r itself is rounded down.
    3. The cell's size and offset are of one object. Of several objects centred in it the one of the
       larger (`collision="smaller"`: smaller) area has it; of equal areas that of the lower y_min,
       x_min, y_max, x_max, label, index. The others are lost ("taken"), but their Gaussians stay,
       of whatever class: something of that class is centred there, and "no" would be wrong.
    4. Cells whose centre lies in a crowd (its mask where it has one, else its box) are ignored,
       unless positive; and, with `padding="ignore"`, those whose centre lies in the padding.
    5. Objects without area, not finite or outside the image get nothing: `explain` says so.

    The target of one example, H rows and W columns of cells and C classes:

    - `state` (H, W) int8: 1 where an object has the cell, 0 negative, -1 ignore.
    - `label` (H, W) int32: class of the object that has the cell, -1 where not positive.
    - `heatmap` (H, W, C) float32 in [0, 1].
    - `size` (H, W, 2) float32: (height, width) in cells, 0 where not positive.
    - `offset` (H, W, 2) float32: (y, x) of the centre in the cell, in cells, within [0, 1]; 0 where
      not positive.
    - `object` (H, W) int32: index of the object, -1 where not positive.

    Args:
        image_size: (height, width) of the network input in pixels; one number for a square.
        num_classes: C; labels lie in [0, num_classes).
        stride: pixels of a cell's side; where it does not divide the image's, cells are a little
            smaller, as `CellGrid` has it.
        radius: "correct", or "published": as CornerNet's and CenterNet's code has it, with the
            wrong roots, about three times as far.
        min_overlap: of rule 2.
        collision: "larger" or "smaller" (rule 3).
        crowd: "ignore" (rule 4) or "negative": crowds teach background.
        padding: "negative" or "ignore" (rule 4).

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Zhou et al. 2019 (Objects as Points), section 3; xingyizhou/CenterNet
        src/lib/datasets/sample/ctdet.py and src/lib/utils/image.py; the radius after Law and Deng
        2018 (CornerNet), its roots corrected in princeton-vl/CornerNet#37.

    Example:
        >>> encoder = CenterNetEncoder((64, 64), num_classes=3)
        >>> target = encoder.encode(Annotations([(6, 8, 36, 24)], [2]))
        >>> np.argwhere(target["heatmap"] == 1).tolist(), target["size"][5, 4].tolist()
        ([[5, 4, 2]], [7.5, 4.0])
        >>> target["offset"][5, 4].tolist()
        [0.25, 0.0]
    """

    image_size: tuple[int, int]
    num_classes: int
    stride: int = 4
    radius: Literal["correct", "published"] = "correct"
    min_overlap: float = 0.7
    collision: Literal["larger", "smaller"] = "larger"
    crowd: Literal["ignore", "negative"] = "ignore"
    padding: Literal["negative", "ignore"] = "negative"

    def __init__(
        self,
        image_size: int | Sequence[int],
        num_classes: int,
        *,
        stride: int = 4,
        radius: Literal["correct", "published"] = "correct",
        min_overlap: float = 0.7,
        collision: Literal["larger", "smaller"] = "larger",
        crowd: Literal["ignore", "negative"] = "ignore",
        padding: Literal["negative", "ignore"] = "negative",
    ) -> None:
        derived = {
            "image_size": frame_size(image_size),
            "min_overlap": check_number("min_overlap", min_overlap),
        }
        set_fields(self, locals() | derived)
        self._check()

    def _check(self) -> None:
        set_counts(self, "num_classes", "stride")
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if not 0 < self.min_overlap <= 1:
            raise ValueError(f"min_overlap={self.min_overlap}: expected a number in (0, 1]")

    # What depends on the parameters only, derived once.

    @cached_property
    def cells(self) -> CellGrid:
        """The grid."""
        return CellGrid(self.image_size, stride=self.stride)

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        grid = self.cells.grid[0]
        return {
            "state": (grid, np.dtype(np.int8)),
            "label": (grid, np.dtype(np.int32)),
            "heatmap": ((*grid, self.num_classes), np.dtype(np.float32)),
            "size": ((*grid, 2), np.dtype(np.float32)),
            "offset": ((*grid, 2), np.dtype(np.float32)),
            "object": (grid, np.dtype(np.int32)),
        }

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(H * W, 4) float32 the cells, by row, then column, pixels, read-only."""
        return self.cells.boxes

    @cached_property
    def cell_level(self) -> NDArray[np.int8]:
        """(H * W,) the pyramid level of each cell: log2 of its height, rounded; read-only."""
        return self.cells.level_of_places(1)

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {"encoder": "centernet", "image_size": list(self.image_size)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CenterNetEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        return cls(**arguments_in(config, "centernet"))

    @cached_property
    def _rules(self) -> Rules:
        return Rules(
            num_classes=self.num_classes,
            correct_radius=self.radius == "correct",
            min_overlap=self.min_overlap,
            smaller_wins=self.collision == "smaller",
            crowd_ignores=self.crowd == "ignore",
            padding_ignores=self.padding == "ignore",
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
        arrays, _ = self._assign(in_frame(batch, self.image_size))
        return arrays

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and cell, and why.

        Positions are cells. Overlap has no part in it: `best_iou` is 0, `best_position` the cell of
        the centre; `stolen` is 1 where that is another object's.
        """
        (annotations,) = in_frame((annotations,), self.image_size)
        arrays, record = self._assign((annotations,))
        lost = (record.kind == objects.MATCHED) & ~record.owns
        return Assignment(
            annotations=annotations,
            image_size=self.image_size,
            outcome=tuple(map(_outcome, record.kind.tolist(), record.owns.tolist())),
            positives=record.owns.astype(np.int32),
            forced=np.zeros(len(record.kind), np.int32),
            stolen=lost.astype(np.int32),
            best_iou=np.zeros(len(record.kind), np.float32),
            best_position=record.cell,
            level=np.where(record.cell >= 0, self.cell_level[0], -1).astype(np.int32),
            state=arrays["state"].reshape(-1),
            object=arrays["object"].reshape(-1),
            forced_positions=np.zeros(0, np.int32),
            boxes=self.boxes,
            position_level=self.cell_level,
            positive_iou=0.0,
            by_overlap=False,
        )

    def _assign(self, batch: Sequence[Annotations]) -> tuple[Target, Record]:
        given = objects_of(batch, self.image_size, "float32", crowd_masks=self.crowd == "ignore")
        record = _new_record(len(given.boxes))
        arrays = new_targets(self.spec, len(batch))
        targets = Targets(
            **{
                name: a.reshape(len(batch), len(self.cells), *a.shape[3:])
                for name, a in arrays.items()
            }
        )
        cells, centres, rules = self.cells.cells, self.cells.centres, self._rules

        run_kernel(encode_images, self, batch, given, cells, centres, rules, given, targets, record)
        return arrays, record

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts, (..., H, W).

        "heatmap" where not ignored, in every class; "size" and "offset" where positive.
        """
        state = target["state"]
        return {
            "heatmap": state != IGNORE,
            "size": state == POSITIVE,
            "offset": state == POSITIVE,
        }

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout, such as "128x128" -> (..., 128, 128, C + 2 + 2 + 1) float32.

        The last axis holds the heat maps, the size, the offset and the state.
        """
        parts = (target["heatmap"], target["size"], target["offset"], target["state"][..., None])
        dense = np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=-1)
        return {self.cells.names[0]: dense}

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for.

        Args:
            arrays: a target, as `encode` returns it: every object that has a cell comes back, cut
                to the frame, in the order of `object`. Or a prediction, {"heatmap": (H, W, C)
                logits, "size": (H, W, 2), "offset": (H, W, 2)}, sizes and offsets as in the target
                (of a size below 0, 0): a scored detection for every peak. Detections of several
                classes in one cell have one box.
            options: for predictions: those of `ytrue.encoders.detections.detect_peaks`:
                `score_threshold` (0.05), `max_detections` (100), `iou_threshold` (None: no
                suppression).

        Raises:
            ValueError: arrays that are neither, a prediction of another grid or other classes, or
                an option out of range.
        """
        if {"state", "label", "size", "offset", "object"} <= arrays.keys():
            rows = first_positions(arrays)
            return Annotations(self._boxes(arrays, rows), arrays["label"].reshape(-1)[rows])
        if not {"heatmap", "size", "offset"} <= arrays.keys():
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: expected a target (state, label, "
                "heatmap, size, offset, object) or a prediction (heatmap, size, offset)"
            )
        grid, (rows, columns) = self.cells.grid[0], arrays["heatmap"].shape[:2]
        if (rows, columns) != grid:
            raise ValueError(
                f"the heat map has {rows}x{columns} cells, the encoder {grid[0]}x{grid[1]}: are network "
                "and encoder of one stride?"
            )
        axes = {"heatmap": self.num_classes, "size": 2, "offset": 2}
        told = outputs_of(arrays, {name: (*grid, last) for name, last in axes.items()})
        return detect_peaks(told["heatmap"], lambda cells: self._boxes(told, cells), **options)

    def _boxes(
        self, arrays: Mapping[str, NDArray[Any]], cells: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return (M, 4) boxes of some cells, pixels; computed in float64 and rounded once.

        centre = (cell + offset) * side of the cell; side of the box = size * side of the cell.
        """
        offset, size = (arrays[name].reshape(-1, 2)[cells] for name in ("offset", "size"))
        centre = self.cells.exact_points(cells, offset)
        half = np.maximum(size, 0).astype(np.float64) * self.cells.sides[0] / 2
        return np.concatenate((centre - half, centre + half), axis=-1).astype(np.float32)


def _outcome(kind: int, owns: bool) -> Outcome:
    if kind != objects.MATCHED:
        return OUTCOME_OF_KIND[kind]
    return "matched" if owns else "taken"


def _new_record(count: int) -> Record:
    return Record(
        kind=np.empty(count, np.int8),
        box=np.empty((count, 4), np.float32),
        cell=np.empty(count, np.int32),
        owns=np.empty(count, np.bool_),
    )
