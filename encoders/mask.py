"""`MaskEncoder`: boxes on anchors, and the masks of their objects at the prototypes' stride."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.boxes import clip
from ytrue.contract import IGNORE, POSITIVE, Assignment, Given, Spec, Target
from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.batches import check_mask_size, starts_of
from ytrue.encoders.detections import choose, outputs_of
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of
from ytrue.encoders.kernels.rasters import draw, read_runs, write_masks
from ytrue.encoders.threads import run_split
from ytrue.errors import check_whole
from ytrue.rasters import rasterise
from ytrue.rle import RLE

_NO_RUNS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class MaskEncoder(Configured):
    """An `AnchorEncoder` whose objects also have masks: the targets of YOLACT.

    The rules, beside those of `AnchorEncoder` (docs/masks.md tells them at length):

    1. An object's mask is the pixels of its polygon as pycocotools draws them (the union of its
       parts), or where it has none its run-length encoded mask; in the frame, which is the network
       input.
    2. A cell of `stride` pixels is set where the mask covers half of its pixels or more. Where it
       covers half of none, the cell of which it covers most is, of several the first, row by row:
       an object that is seen at all has a mask.
    3. Crowds have no mask, nor has an object without outline, or whose outline lies outside.

    The target of one example is that of `boxes`, and for its N objects, matched or not, in cells of
    h = ceil(height / stride) rows and w = ceil(width / stride) columns,

    - `masks` (N, h, w) uint8: 1 where set. `object` tells an anchor's row.
    - `mask_state` (N,) int8: 1 where the object has a mask to learn, -1 where it has none.
    - `mask_box` (N, 4) float32: the object's box in the frame, `(y_min, x_min, y_max, x_max)` in
      cells, in which its mask is learnt; 0 where it has no mask.

    Of a batch, N is the largest number of objects in it; rows beyond an example's own are as
    those of an object without mask. `spec` has None for this axis.

    Args:
        boxes: makes the targets of the boxes.
        stride: pixels of a cell's side, of the masks and so of the network's prototypes.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Bolya et al. 2019 (YOLACT); github.com/dbolya/yolact layers/modules/multibox_loss.py,
        lincomb_mask_loss, which resizes masks of the input's size bilinearly and sets what is above
        one half: of a stride of 4 the mean of the four pixels in the middle.

    Example:
        >>> from ytrue.encoders import preset
        >>> encoder = MaskEncoder(preset("ytrue", (64, 64), num_classes=3, max_level=4), stride=16)
        >>> square = [[(16, 16), (16, 48), (48, 48), (48, 16)]]
        >>> target = encoder.encode(Annotations([(16, 16, 48, 48)], [2], polygons=[square]))
        >>> target["masks"][0].tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """

    boxes: AnchorEncoder
    _: KW_ONLY
    stride: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", check_whole("stride", self.stride, 1))

    # What depends on the parameters only.

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        return self.boxes.image_size

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return self.boxes.num_classes

    @property
    def cells(self) -> tuple[int, int]:
        """(rows, columns) of a mask."""
        height, width = self.image_size
        return -(-height // self.stride), -(-width // self.stride)

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target; None: as many as it has objects."""
        return self.boxes.spec | {
            "masks": ((None, *self.cells), np.dtype(np.uint8)),
            "mask_state": ((None,), np.dtype(np.int8)),
            "mask_box": ((None, 4), np.dtype(np.float32)),
        }

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {"encoder": "mask", "boxes": self.boxes.config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MaskEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        values = arguments_in(config, "mask")
        return cls(AnchorEncoder.from_config(values.pop("boxes")), **values)

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: a label outside [0, num_classes), or a mask of another size than the
                network input; of several examples the position in the batch is named.
        """
        batch = in_frame(batch, self.image_size)
        arrays = self.boxes.encode_batch(batch)
        most = max((len(one) for one in batch), default=0)
        masks = np.zeros((len(batch), most, *self.cells), np.uint8)
        state = np.full((len(batch), most), IGNORE, np.int8)
        box = np.zeros((len(batch), most, 4), np.float32)
        runs = [self._runs(batch, position) for position in range(len(batch))]
        height, width = self.image_size

        def share(first: int, end: int) -> int:
            for position in range(first, end):
                seen = self._write(runs[position], masks[position, : len(batch[position])])
                state[position, : len(seen)][seen] = POSITIVE
                inside = clip(batch[position].boxes[seen], height, width)
                box[position, : len(seen)][seen] = inside / np.float32(self.stride)
            return 0

        run_split(share, len(batch), bytes_each=masks[:1].nbytes)
        return arrays | {"masks": masks, "mask_state": state, "mask_box": box}

    def _runs(self, batch: Sequence[Annotations], position: int) -> list[NDArray[np.int64]]:
        """Return the run lengths of every object's mask; none where it has no mask."""
        one = batch[position]
        given = one.masks or (None,) * len(one)
        outlines = one.polygons or ((),) * len(one)
        found = []
        for k, (mask, outline) in enumerate(zip(given, outlines, strict=True)):
            if one.crowd[k] or not np.isfinite(one.boxes[k]).all():
                found.append(_NO_RUNS)
            elif outline:
                codes = np.frombuffer(rasterise(outline, *self.image_size)["counts"], np.uint8)
                runs = np.empty(len(codes), np.int64)
                found.append(runs[: read_runs(codes, runs)])
            elif mask is None:
                found.append(_NO_RUNS)
            else:
                check_mask_size(mask, self.image_size, position, batch, f"object {k}")
                found.append(mask.counts)
        return found

    def _write(
        self, runs: Sequence[NDArray[np.int64]], masks: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Write the masks of run lengths to (N, h, w) zeros; return which have a pixel."""
        starts = starts_of([len(one) for one in runs])
        seen = np.empty(len(runs), np.bool_)
        joined = np.concatenate([*runs, _NO_RUNS])
        write_masks(joined, starts, *self.image_size, self.stride, masks, seen)
        return seen

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and anchor, as `boxes` explains it."""
        return self.boxes.explain(annotations)

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts.

        Those of `boxes`; "mask" (..., A) where positive and the object has a mask.
        """
        positive = target["state"] == POSITIVE
        known = target["mask_state"] == POSITIVE
        if known.shape[-1]:
            owner = np.maximum(target["object"], 0)
            positive &= np.take_along_axis(known, owner, axis=-1)
        else:
            positive[...] = False
        return self.boxes.masks(target) | {"mask": positive}

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout of `boxes` per level, and "masks" (..., N, h, w) float32."""
        return self.boxes.pack(target) | {"masks": target["masks"].astype(np.float32)}

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for, with masks of the input's size.

        Args:
            arrays: a target, as `encode` returns it: what `AnchorEncoder.decode` returns, each
                object with the pixels of its set cells; without a mask where it has none. Or a
                prediction, {"class": (A, C) logits, "box": (A, 4), "coefficients": (A, K),
                "prototypes": (h, w, K)}: scored detections after suppression. A detection's mask
                has the pixels in its box where the prototypes' sum, weighted by its coefficients
                and interpolated linearly, is above 0.
            options: for predictions: those of `ytrue.encoders.detections.detect`.

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.
        """
        if "class" in arrays:
            return self._detections(arrays, **options)
        if "masks" not in arrays or "mask_state" not in arrays:
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: expected a target with masks and "
                "mask_state, or a prediction with class, box, coefficients and prototypes"
            )
        found = self.boxes.decode(arrays)
        owners = np.unique(arrays["object"][arrays["state"] == POSITIVE])
        masks = [
            RLE.from_mask(self.magnified(arrays["masks"][k]))
            if arrays["mask_state"][k] == POSITIVE
            else None
            for k in owners
        ]
        return found.replace(masks=masks)

    def magnified(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (height, width) the pixels of the network input that the cells (h, w) cover."""
        height, width = self.image_size
        pixels = mask.repeat(self.stride, axis=0).repeat(self.stride, axis=1)
        return pixels[:height, :width]

    def _detections(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        missing = [n for n in ("box", "coefficients", "prototypes") if n not in arrays]
        if missing:
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: {', '.join(missing)} are missing"
            )
        count, prototypes = len(self.boxes.grid), arrays["prototypes"].shape
        told = outputs_of(
            arrays,
            {
                "class": (count, self.num_classes),
                "box": (count, 4),
                "coefficients": (count, prototypes[-1]),
                "prototypes": prototypes,
            },
        )
        boxes = self.boxes.boxes_of(told["box"])
        rows, labels, scores = choose(told["class"], boxes, **options)
        masks = self.masks_of(boxes[rows], told["coefficients"][rows], told["prototypes"])
        return Annotations(boxes=boxes[rows], labels=labels, scores=scores, masks=masks)

    def masks_of(
        self, boxes: NDArray[np.float32], coefficients: NDArray[Any], prototypes: NDArray[Any]
    ) -> list[RLE]:
        """Return the masks of N detections, as `decode` has them.

        Args:
            boxes: (N, 4) pixels.
            coefficients: (N, K).
            prototypes: (h, w, K).

        Raises:
            ValueError: prototypes of another grid.
        """
        prototypes = np.ascontiguousarray(prototypes, np.float32)
        if prototypes.shape[:2] != self.cells:
            raise ValueError(
                f"prototypes have {prototypes.shape[0]}x{prototypes.shape[1]} cells, the encoder "
                f"{self.cells[0]}x{self.cells[1]}: are network and encoder of one stride?"
            )
        return [
            self._drawn(prototypes @ weights, box)
            for weights, box in zip(np.asarray(coefficients, np.float32), boxes, strict=True)
        ]

    def _drawn(self, values: NDArray[np.float32], box: NDArray[np.float32]) -> RLE:
        height, width = self.image_size
        low, high = np.clip(box.reshape(2, 2), 0, self.image_size).astype(np.int64)
        tall, wide = np.maximum(high - low + 1, 0)  # corners may be told in the wrong order
        runs = np.empty((tall + 1) * wide + 1, np.int64)
        count = draw(values, box, self.stride, height, width, runs)
        return RLE(height, width, runs[:count])
