"""`AnchorEncoder`: boxes on anchors, the targets of RetinaNet, EfficientDet and their kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import (
    IGNORE,
    POSITIVE,
    Assignment,
    Given,
    Outcome,
    Spec,
    Target,
)
from ytrue.encoders.batches import (
    OUTCOME_OF_KIND,
    first_positions,
    new_targets,
    objects_of,
    run_kernel,
)
from ytrue.encoders.coders import LARGEST_LOG, BoxCoder
from ytrue.encoders.detections import detect, outputs_of
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import (
    Configured,
    arguments_in,
    fields_of,
    set_counts,
    set_fields,
    set_numbers,
)
from ytrue.encoders.grid import AnchorGrid
from ytrue.encoders.kernels import claims, matching, objects
from ytrue.encoders.kernels.matching import Record, Rules, match_images
from ytrue.encoders.kernels.objects import Targets
from ytrue.errors import check_choice

_FORCE: Final = {
    "none": matching.FORCE_NONE,
    "greedy": matching.FORCE_GREEDY,
    "argmax": matching.FORCE_ARGMAX,
}
_PADDING: Final = {
    "negative": matching.PADDING_NEGATIVE,
    "ignore": matching.PADDING_IGNORE,
    "ignore-positive": matching.PADDING_OVERRIDES,
}
_MATCHERS: Final = {
    "iou": claims.MATCHER_IOU,
    "atss": claims.MATCHER_ATSS,
    "center-prior": claims.MATCHER_CENTER,
}
_CHOICES: Final = {
    "matcher": tuple(_MATCHERS),
    "force": tuple(_FORCE),
    "padding": tuple(_PADDING),
    "crowd": ("ignore", "negative"),
    "degenerate": ("report", "match"),
}
_OUTCOMES: Final[Mapping[int, Outcome]] = {**OUTCOME_OF_KIND, matching.PADDED: "padding"}


@dataclass(frozen=True)
class AnchorEncoder(Configured):
    """Assigns objects to anchors and encodes their boxes relative to them.

    The rules, in this order (docs/matching.md tells them with pictures):

    1. Objects ask for anchors as `matcher` says; of several the one of highest IoU has it, of equal
       IoUs the lower object. "iou": those of IoU >= `positive_iou`. "atss": see below. "center-prior":
       those of its shape in the `top_k` cells of their level nearest the object's centre, whose
       centre lies in it; its shape is one of IoU >= `positive_iou` with it, both on one centre, or
       the best there is.
    2. Not asked for and of IoU >= `negative_iou`: ignore ("center-prior": of the cells of rule 1
       those of such a shape; "atss": none). Other anchors: negative.
    3. `force="greedy"`: pairs by falling IoU (then lower object, then lower anchor), each object
       reserves its best anchor not yet reserved, as long as IoU > `min_force_iou`; reservations
       win over rule 1. "argmax": each object's best anchor, of several objects the lowest wins.
    4. A crowd makes an anchor ignore, unless positive, where it covers `crowd_ioa` of its area:
       its mask where it has one, else its box.
    5. Anchors centred in padding (outside `Annotations.content`) are as `padding` says.
    6. Objects without area, not finite or outside the image are never matched: `explain` says so.

    The target of one example, A anchors in the grid's flattened order:

    - `state` (A,) int8: 1 positive, 0 negative, -1 ignore.
    - `label` (A,) int32: class index, -1 where not positive.
    - `box` (A, 4) float32: the object's box by `coder`, 0 where not positive.
    - `object` (A,) int32: index of the object, -1 where not positive.

    Args:
        grid: the anchors.
        num_classes: labels lie in [0, num_classes).
        matcher: "iou", "atss" or "center-prior", as in rule 1.
        top_k: cells of each level near an object's centre, for the last two.
        positive_iou: lowest IoU of a positive anchor; nothing to "atss".
        negative_iou: lowest IoU of an ignored anchor; equal to `positive_iou` for no ignore; nothing
            to "atss".
        force: "greedy", "argmax" or "none".
        min_force_iou: IoU above which an anchor can be reserved; below 0, with "argmax" only,
            an object that overlaps no anchor takes the first one, as google/automl has it.
        crowd: "ignore" (rule 4) or "negative": crowds teach background, as many peers do.
        crowd_ioa: share of an anchor that a crowd must cover.
        padding: "negative", "ignore" (unless positive) or "ignore-positive" (always).
        degenerate: "report" (rule 6) or "match": boxes without area or outside take part, for
            presets that reproduce a peer.
        coder: how boxes are told relative to anchors.
        union_epsilon: added to the union, for presets that reproduce a peer.

    With "atss" an object's candidates are all anchors of the `top_k` cells of each level whose
    centres are nearest to its own (of equal distances the lower cell). It asks for those centred in
    it, edges excluded, whose IoU is at least the mean plus the standard deviation (of a sample, over
    n - 1) of all candidates' IoUs.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Lin et al. 2017 (RetinaNet), section 4; Tan et al. 2020 (EfficientDet); the greedy rule
        after Bolya et al. 2019 (YOLACT), box_utils.match; Zhang et al. 2020 (ATSS), algorithm 1,
        where k counts anchors: as many as cells, with its one anchor a cell; their code takes k
        times the anchors of a cell, as here.

    Example:
        >>> from ytrue import Annotations
        >>> encoder = AnchorEncoder(AnchorGrid(64, max_level=4), num_classes=3)
        >>> target = encoder.encode(Annotations(boxes=[[8, 8, 40, 40]], labels=[2]))
        >>> int((target["state"] == 1).sum()), sorted(set(target["label"].tolist()))
        (7, [-1, 2])
    """

    grid: AnchorGrid
    num_classes: int
    matcher: Literal["iou", "atss", "center-prior"] = "iou"
    top_k: int = 9
    positive_iou: float = 0.5
    negative_iou: float = 0.4
    force: Literal["greedy", "argmax", "none"] = "greedy"
    min_force_iou: float = 0.0
    crowd: Literal["ignore", "negative"] = "ignore"
    crowd_ioa: float = 0.5
    padding: Literal["negative", "ignore", "ignore-positive"] = "negative"
    degenerate: Literal["report", "match"] = "report"
    coder: BoxCoder = BoxCoder()
    union_epsilon: float = 0.0

    def __init__(
        self,
        grid: AnchorGrid,
        num_classes: int,
        *,
        matcher: Literal["iou", "atss", "center-prior"] = "iou",
        top_k: int = 9,
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        force: Literal["greedy", "argmax", "none"] = "greedy",
        min_force_iou: float = 0.0,
        crowd: Literal["ignore", "negative"] = "ignore",
        crowd_ioa: float = 0.5,
        padding: Literal["negative", "ignore", "ignore-positive"] = "negative",
        degenerate: Literal["report", "match"] = "report",
        coder: BoxCoder | None = None,
        union_epsilon: float = 0.0,
    ) -> None:
        set_fields(self, locals() | {"coder": BoxCoder() if coder is None else coder})
        self._check()

    def _check(self) -> None:
        set_counts(self, "num_classes", "top_k")
        set_numbers(
            self, "positive_iou", "negative_iou", "min_force_iou", "crowd_ioa", "union_epsilon"
        )
        if not 0 < self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                f"negative_iou={self.negative_iou}, positive_iou={self.positive_iou}: expected "
                "0 < negative_iou <= positive_iou <= 1"
            )
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if self.min_force_iou >= 1 or (self.min_force_iou < 0 and self.force != "argmax"):
            raise ValueError(
                f"min_force_iou={self.min_force_iou} with force={self.force!r}: expected a number "
                'in [0, 1); below 0 with force="argmax" only'
            )
        if not 0 < self.crowd_ioa <= 1:
            raise ValueError(f"crowd_ioa={self.crowd_ioa}: expected a number in (0, 1]")
        if not 0 <= self.union_epsilon < 1:
            raise ValueError(f"union_epsilon={self.union_epsilon}: expected a number in [0, 1)")

    # What depends on the parameters only, derived once.

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        return self.grid.image_size

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        anchors = len(self.grid)
        return {
            "state": ((anchors,), np.dtype(np.int8)),
            "label": ((anchors,), np.dtype(np.int32)),
            "box": ((anchors, 4), np.dtype(np.float32)),
            "object": ((anchors,), np.dtype(np.int32)),
        }

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {
            "encoder": "anchor",
            "grid": self.grid.config(),
            "coder": self.coder.config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AnchorEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        values = arguments_in(config, "anchor")
        values["grid"] = AnchorGrid(**values["grid"])
        values["coder"] = BoxCoder(**values["coder"])
        return cls(**values)

    @cached_property
    def _rules(self) -> Rules:
        number = np.dtype(self.grid.precision).type
        height, width = self.image_size
        return Rules(
            matcher=_MATCHERS[self.matcher],
            top_k=self.top_k,
            positive_iou=number(self.positive_iou),
            negative_iou=number(self.negative_iou),
            epsilon=number(self.union_epsilon),
            min_force_iou=number(self.min_force_iou),
            force=_FORCE[self.force],
            match_degenerate=self.degenerate == "match",
            crowd_ignores=self.crowd == "ignore",
            crowd_ioa=number(self.crowd_ioa),
            padding=_PADDING[self.padding],
            corner_coder=self.coder.kind == "corner",
            coder_epsilon=number(self.coder.epsilon),
            coder_std=np.array(self.coder.std, self.grid.precision),
            height=float(height),
            width=float(width),
            num_classes=self.num_classes,
        )

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: a label outside [0, num_classes), or a crowd mask of another size than
                the network input; of several examples the position in the batch is named.
        """
        targets, _ = self._match(in_frame(batch, self.image_size))
        return targets._asdict()

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and anchor, and why."""
        (annotations,) = in_frame((annotations,), self.image_size)
        targets, record = self._match((annotations,))
        state, owner = targets.state[0], targets.object[0]
        forced = record.reserved[record.forced > 0]
        found = record.best_anchor >= 0
        level = np.where(found, self.grid.anchor_level[record.best_anchor], -1)
        return Assignment(
            annotations=annotations,
            image_size=self.image_size,
            outcome=self._outcomes(record),
            positives=record.positives,
            forced=record.forced,
            stolen=record.stolen,
            best_iou=record.best_iou.astype(np.float32),
            best_position=record.best_anchor,
            level=level.astype(np.int32),
            state=state,
            object=owner,
            forced_positions=forced[state[forced] == POSITIVE],
            boxes=self.grid.boxes.astype(np.float32, copy=False),
            position_level=self.grid.anchor_level,
            positive_iou=self.positive_iou if self.matcher == "iou" else 0.0,
        )

    def _outcomes(self, record: Record) -> tuple[Outcome, ...]:
        return tuple(
            self._outcome(*row)
            for row in zip(
                record.kind.tolist(),
                record.positives.tolist(),
                record.forced.tolist(),
                record.asked.tolist(),
                record.best_iou.tolist(),
                strict=True,
            )
        )

    def _outcome(
        self, kind: int, positives: int, forced: int, asked: int, best_iou: float
    ) -> Outcome:
        if kind != objects.MATCHED:
            return _OUTCOMES[kind]
        if positives > 0:
            return "forced" if positives == forced else "matched"
        reservable = self.force != "none" and best_iou > max(0.0, float(self._rules.min_force_iou))
        if asked > 0 or reservable:
            return "taken"
        return "low-iou" if self.matcher == "iou" else "no-point"

    def _match(self, batch: Sequence[Annotations]) -> tuple[Targets, Record]:
        given = objects_of(
            batch, self.image_size, self.grid.precision, crowd_masks=self.crowd == "ignore"
        )
        anchors, lattice, rules = self.grid.boxes, self.grid.lattice, self._rules
        targets = Targets(**new_targets(self.spec, len(batch)))
        record = _new_record(len(given.boxes), given.boxes.dtype)

        run_kernel(
            match_images, self, batch, given, anchors, lattice, rules, given, targets, record
        )
        return targets, record

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts: "class" where not ignored, "box" where positive."""
        state = target["state"]
        return {"class": state != IGNORE, "box": state == POSITIVE}

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout per level, "P3" -> (..., H, W, A, 4 + C + 1) float32.

        The last axis holds the box, the class as one-hot, and the state.
        """
        state, label = target["state"], target["label"]
        classes = label[..., None] == np.arange(self.num_classes)
        parts = (target["box"], classes, state[..., None])
        dense = np.concatenate([part.astype(np.float32) for part in parts], axis=-1)
        grid, ahead, width = self.grid, state.shape[:-1], dense.shape[-1]
        levels = np.split(dense, grid.level_offsets[1:-1], axis=-2)
        return {
            f"P{level}": part.reshape(*ahead, *cells, len(shapes), width)
            for level, part, cells, shapes in zip(
                grid.levels, levels, grid.cells, grid.anchor_shapes, strict=True
            )
        }

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for.

        Args:
            arrays: a target, as `encode` returns it: every object that owns an anchor comes back,
                in the order of `object`. Or a prediction, {"class": (A, C) logits,
                "box": (A, 4)}: scored detections after suppression.
            options: for predictions: those of `ytrue.encoders.detections.detect`, such as
                `score_threshold` (0.05), `iou_threshold` (0.5), `max_detections` (100).

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.
        """
        if "class" in arrays and "box" in arrays:
            count = len(self.grid)
            told = outputs_of(arrays, {"class": (count, self.num_classes), "box": (count, 4)})
            return detect(told["class"], self.boxes_of(told["box"]), **options)
        if not {"state", "label", "box", "object"} <= arrays.keys():
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: expected a target (state, label, box, "
                "object) or a prediction (class, box)"
            )
        rows = first_positions(arrays)
        return Annotations(
            boxes=self.coder.decode(arrays["box"][rows], self.grid.boxes[rows]),
            labels=arrays["label"][rows],
        )

    def boxes_of(self, offsets: NDArray[Any]) -> NDArray[np.float32]:
        """Return (A, 4) float32 boxes, pixels, of the (A, 4) offsets that a network predicts."""
        boxes: NDArray[np.float32] = self.coder.decode(
            offsets, self.grid.boxes, largest_log=LARGEST_LOG
        )
        return boxes


def _new_record(objects: int, precision: np.dtype[Any]) -> Record:
    return Record(
        kind=np.empty(objects, np.int8),
        best_iou=np.empty(objects, precision),
        best_anchor=np.empty(objects, np.int32),
        asked=np.empty(objects, np.int32),
        reserved=np.empty(objects, np.int32),
        reserved_iou=np.empty(objects, precision),
        positives=np.empty(objects, np.int32),
        forced=np.empty(objects, np.int32),
        stolen=np.empty(objects, np.int32),
    )
