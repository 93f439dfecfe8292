"""`PolygonEncoder`: boxes in cells, and around their centres the outline in polar coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Polygon
from ytrue.contract import POSITIVE, Assignment, Given, Spec, Target
from ytrue.encoders.batches import bytes_of, new_targets, starts_of
from ytrue.encoders.coders import LARGEST_LOG
from ytrue.encoders.detections import choose, outputs_of, sigmoid
from ytrue.encoders.frames import in_frame
from ytrue.encoders.frozen import Configured, arguments_in, fields_of
from ytrue.encoders.kernels.polygons import (
    GROWTH,
    SLACK,
    TURN,
    Outlines,
    Vertices,
    describe,
    write_images,
)
from ytrue.encoders.kernels.yolo import Record
from ytrue.encoders.outlines import outlines_of
from ytrue.encoders.threads import run_split
from ytrue.encoders.yolo import YoloEncoder
from ytrue.errors import check_choice, check_whole

VERTEX_THRESHOLD: Final = 0.5
"""Lowest confidence of a predicted vertex."""

_CHOICES: Final = {"part_rule": ("largest", "hull"), "points": ("vertices", "outline")}


@dataclass(frozen=True)
class PolygonEncoder(Configured):
    """A `YoloEncoder` whose places also hold their object's outline: Poly-YOLO.

    The rules, beside those of `YoloEncoder` (docs/polygons.md tells them at length):

    1. An object's outline is its polygon, or where it has none the outer outline of its mask (holes
       are filled). Parts with a coordinate that is not finite are left out.
    2. The outline is cut to the object's box, which is cut to the frame.
    3. `part_rule="largest"`: of several parts the one of the largest area inside the box counts, of
       equal ones the first. "hull": the convex hull of all parts, taken before it is cut.
    4. The full turn around the box's centre is divided into V bins. A vertex at (y, x) lies, with
       (cy, cx) the centre of the box, at the angle atan2(cy - y, cx - x): 0 to the left, rising
       over the top. `place = angle * V / (2 pi)`; its bin is `floor(place)`.
    5. Of each bin the farthest vertex is kept, of equally far ones that of the smaller angle. A
       vertex exactly on the centre has no angle and is left out.
    6. `points="vertices"`: a bin without a vertex is empty, as Poly-YOLO has it. "outline": it holds
       the farthest point where the outline crosses the middle of the bin, if it does.

    The target of one example is that of `boxes`, with the same first axes, and

    - `polygon` (H, W, A, V, 3) float32: for each bin the distance of its point from the centre
      divided by the diagonal of the box, in (0, 0.5]; the place inside the bin, in [0, 1); and 1.
      All 0 where the bin is empty and where the place is not positive.

    Args:
        boxes: makes the targets of the boxes.
        bins: V.
        part_rule: "largest" or "hull" (rule 3).
        points: "vertices" or "outline" (rule 6).

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Hurtik et al. 2020 (Poly-YOLO), section 4; gitlab.com/irafm-ai/poly-yolo poly_yolo.py,
        which floors the centre to whole pixels, moves vertices to at least one pixel from it, and
        does not cut the polygon with its box.

    Example:
        >>> yolo = YoloEncoder((64, 64), [(16, 16)], stride=16, num_classes=3)
        >>> encoder = PolygonEncoder(yolo, bins=4)
        >>> diamond = [[(4, 12), (12, 20), (20, 12), (12, 4)]]
        >>> target = encoder.encode(Annotations([(4, 4, 20, 20)], [2], polygons=[diamond]))
        >>> target["polygon"][0, 0, 0, 1].round(3)
        array([0.354, 0.   , 1.   ], dtype=float32)
    """

    boxes: YoloEncoder
    _: KW_ONLY
    bins: int = 24
    part_rule: Literal["largest", "hull"] = "largest"
    points: Literal["vertices", "outline"] = "vertices"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", check_whole("bins", self.bins, 3))
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)

    # What depends on the parameters only.

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        return self.boxes.image_size

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return self.boxes.num_classes

    @cached_property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        places = self.boxes.spec["state"][0]
        return self.boxes.spec | {"polygon": ((*places, self.bins, 3), np.dtype(np.float32))}

    @cached_property
    def distance_scale(self) -> NDArray[np.float64]:
        """(L, A) what a predicted distance is told in: half the anchor's diagonal / the input's."""
        tall, wide = np.moveaxis(np.array(self.boxes.anchors, np.float64), -1, 0)
        scale: NDArray[np.float64] = np.hypot(tall, wide) / (2 * np.hypot(*self.image_size))
        return scale

    @cached_property
    def place_scale(self) -> NDArray[np.float64]:
        """(P,) the `distance_scale` of every place."""
        level, slot = self.boxes.place_anchor
        scale: NDArray[np.float64] = self.distance_scale[level, slot]
        return scale

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return fields_of(self) | {"encoder": "polygon", "boxes": self.boxes.config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PolygonEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        values = arguments_in(config, "polygon")
        return cls(YoloEncoder.from_config(values.pop("boxes")), **values)

    # Annotations to targets.

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: a label outside [0, num_classes), or a mask of another size than the
                network input; of several examples the position in the batch is named.
        """
        batch = in_frame(batch, self.image_size)
        arrays = new_targets(self.spec, len(batch))
        record = self.boxes.assign(batch, arrays)
        starts = starts_of([len(one) for one in batch])
        outlines, vertices, polar = self._outlines(batch)
        count, places = len(batch), len(self.boxes.boxes)
        state = arrays["state"].reshape(count, places)
        owner = arrays["object"].reshape(count, places)
        polygon = arrays["polygon"].reshape(count, places, self.bins, 3)

        def share(first: int, end: int) -> int:
            self._describe(starts[first], starts[end], record, outlines, vertices, polar)
            done: int = write_images(first, end, starts, polar, state, owner, polygon)
            return done

        run_split(share, count, bytes_each=bytes_of(self.spec))
        return arrays

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and place, as `boxes` explains it."""
        return self.boxes.explain(annotations)

    def vertices(self, annotations: Given) -> PolygonVertices:
        """Return what became of every object's outline: the vertices kept and dropped.

        Raises:
            ValueError: as `encode`.
        """
        (annotations,) = in_frame((annotations,), self.image_size)
        record = self.boxes.assign((annotations,), new_targets(self.boxes.spec, 1))
        outlines, vertices, polar = self._outlines((annotations,))
        self._describe(0, len(annotations), record, outlines, vertices, polar)
        before = np.cumsum(vertices.counts) - vertices.counts
        rows = np.repeat(vertices.first[:-1] - before, vertices.counts)
        rows += np.arange(len(rows))
        parts = np.diff(outlines.parts)
        unused = np.where(vertices.part >= 0, parts - 1, np.where(vertices.counts > 0, 0, parts))
        return PolygonVertices(
            object=np.repeat(np.arange(len(annotations)), vertices.counts).astype(np.int32),
            yx=vertices.yx[rows],
            bin=vertices.bin[rows],
            kept=vertices.kept[rows],
            boxes=record.box,
            polar=polar,
            unused_parts=unused.astype(np.int32),
        )

    def _outlines(
        self, batch: Sequence[Annotations]
    ) -> tuple[Outlines, Vertices, NDArray[np.float32]]:
        """Return the outlines, and room for their vertices and for (N, V, 3) polar."""
        outlines = outlines_of(batch, self.image_size)
        given = np.diff(outlines.starts[outlines.parts])
        first = np.concatenate(([0], np.cumsum(GROWTH * given + SLACK)))
        vertices = Vertices(
            yx=np.empty((first[-1], 2), np.float32),
            bin=np.empty(first[-1], np.int32),
            kept=np.empty(first[-1], np.bool_),
            first=first,
            counts=np.empty(len(given), np.int64),
            part=np.empty(len(given), np.int64),
        )
        return outlines, vertices, np.empty((len(given), self.bins, 3), np.float32)

    def _describe(
        self,
        first: int,
        end: int,
        record: Record,
        outlines: Outlines,
        vertices: Vertices,
        polar: NDArray[np.float32],
    ) -> None:
        describe(
            first, end, self.part_rule == "hull", self.points == "outline", self.bins, record.kind,
            record.box, outlines, vertices, polar,
        )  # fmt: skip

    # Targets to losses, other layouts and back.

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each loss counts.

        Those of `boxes`; "confidence" (..., A) where positive and the object has an outline;
        "polygon" (..., A, V), for distance and angle, where a bin of these holds a vertex.
        """
        held = (target["polygon"][..., 2] == 1) & (target["state"] == POSITIVE)[..., None]
        return self.boxes.masks(target) | {"confidence": held.any(axis=-1), "polygon": held}

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout of each level, (..., H, W, A, 4 + C + 1 + 3 V) float32.

        The last axis holds the box, the class as one-hot, the state, and distance, angle and
        confidence of each bin.
        """
        polygon = target["polygon"]
        split = self.boxes.split(polygon.reshape(*polygon.shape[:-2], 3 * self.bins))
        return {
            name: np.concatenate((dense, split[name]), axis=-1)
            for name, dense in self.boxes.pack(target).items()
        }

    def decode(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        vertex_threshold: float = VERTEX_THRESHOLD,
        **options: Any,
    ) -> Annotations:
        """Return the objects that one example's arrays stand for, with polygons.

        Args:
            arrays: a target, as `encode` returns it: what `YoloEncoder.decode` returns, with a
                polygon of the kept vertices, in the order of their angles. Or a prediction: that
                of the boxes and "polygon" (..., A, V, 3), for each bin the logarithm of the
                distance divided by `distance_scale`, and the logits of angle and confidence.
            vertex_threshold: for predictions: lowest confidence of a vertex.
            options: for predictions: those of `YoloEncoder.decode`.

        Raises:
            ValueError: arrays that are neither, or a prediction of another grid or other classes.
        """
        if "polygon" not in arrays:
            raise ValueError(f"decode got arrays named {sorted(arrays)}: polygon is missing")
        if {"class", "objectness", "box"} <= arrays.keys():
            scores, boxes = self.boxes.predicted(arrays)
            polygon = outputs_of(arrays, {"polygon": (len(boxes), self.bins, 3)})["polygon"]
            rows, labels, scores = choose(scores, boxes, logits=False, **options)
            polar = self._predicted(polygon[rows], rows, vertex_threshold)
            outlines = polygons_of(boxes[rows], polar)
            return Annotations(boxes[rows], labels, scores=scores, polygons=outlines)
        rows = self.boxes.first_places(arrays)
        polygon = arrays["polygon"].reshape(-1, self.bins, 3)
        boxes = self.boxes.target_boxes(arrays["box"], rows)
        labels = arrays["label"].reshape(-1)[rows]
        return Annotations(boxes, labels, polygons=polygons_of(boxes, polygon[rows]))

    def _predicted(
        self, raw: NDArray[Any], places: NDArray[np.int64], threshold: float
    ) -> NDArray[np.float64]:
        logs = np.minimum(raw[..., 0].astype(np.float64), LARGEST_LOG)
        distance = np.exp(logs) * self.place_scale[places, None]
        kept = sigmoid(raw[..., 2]) >= threshold
        return np.stack((distance, sigmoid(raw[..., 1]), kept), axis=-1)


@dataclass(frozen=True, eq=False)
class PolygonVertices:
    """What became of the outlines of one example's objects: N objects, M vertices inside boxes.

    Attributes:
        object: (M,) int32, whose vertex it is.
        yx: (M, 2) float32 pixels, of the outline that counts, cut to the box.
        bin: (M,) int32, its angular bin; -1 on the centre of the box.
        kept: (M,) whether it is the one its bin keeps.
        boxes: (N, 4) float32, the boxes inside the frame; 0 for objects that take no part.
        polar: (N, V, 3) float32, what the places of each object hold as `polygon`.
        unused_parts: (N,) int32, parts of the outline that do not count.
    """

    object: NDArray[np.int32]
    yx: NDArray[np.float32]
    bin: NDArray[np.int32]
    kept: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    polar: NDArray[np.float32]
    unused_parts: NDArray[np.int32]


def polygons_of(boxes: NDArray[np.float32], polar: NDArray[Any]) -> list[Polygon]:
    """Return the outlines that bins around the centres of boxes stand for.

    `angle = (v + place inside) * 2 pi / V`, `y = cy - sin(angle) * distance * diagonal`,
    `x = cx - cos(angle) * distance * diagonal`, computed in float64.

    Args:
        boxes: (N, 4) `(y_min, x_min, y_max, x_max)` pixels.
        polar: (N, V, 3) distance, place inside the bin and confidence; bins of confidence above
            0.5 have a vertex.

    Returns:
        N outlines of one part, in the order of the angles; without vertices, of none.
    """
    boxes, polar = boxes.astype(np.float64), polar.astype(np.float64)
    bins = polar.shape[1]
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    diagonal = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    angle = (np.arange(bins) + polar[..., 1]) * (TURN / bins)
    reach = polar[..., 0] * diagonal[:, None]
    towards = np.stack((np.sin(angle), np.cos(angle)), axis=-1)
    points = (centre - towards * reach[..., None]).astype(np.float32)  # (N, V, 2)
    return polygons_through(points, polar[..., 2] > 0.5)


def polygons_through(points: NDArray[np.float32], held: NDArray[np.bool_]) -> list[Polygon]:
    """Return the outlines through the bins that hold a vertex.

    Args:
        points: (N, V, 2) `(y, x)` pixels, by bin.
        held: (N, V) whether the bin holds a vertex.

    Returns:
        As `polygons_of`.
    """
    return [(yx[chosen],) if chosen.any() else () for yx, chosen in zip(points, held, strict=True)]
