"""`OutlineFit`: what bins keep of an example's outlines, and how close that is to the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from ytrue.annotations import Annotations, Polygon
from ytrue.contract import Assignment
from ytrue.encoders.polygon import PolygonVertices, polygons_of
from ytrue.rasters import Raster, rasterise

_coco_mask: Final[Any] = mask  # its stubs know whole numbers only


@dataclass(frozen=True, eq=False)
class OutlineFit:
    """What became of the outlines of one example's N objects.

    Attributes:
        assignment: what the objects got.
        bins: V.
        true: the outlines that count, cut to their boxes; of no part where there is none.
        decoded: what the bins stand for.
        given: (N,) vertices of `true`.
        kept: (N,) how many of them are kept.
        filled: (N,) bins that hold another point of the outline (`points="outline"`).
        iou: (N,) mask IoU of `decoded` and the whole object, all its parts, in the pixels of the
            network input; nan without outline.
        unused_parts: (N,) parts of the outline that do not count.
    """

    assignment: Assignment
    bins: int
    true: list[Polygon]
    decoded: list[Polygon]
    given: NDArray[np.int64]
    kept: NDArray[np.int64]
    filled: NDArray[np.int64]
    iou: NDArray[np.float64]
    unused_parts: NDArray[np.int32]

    @property
    def taught(self) -> NDArray[np.bool_]:
        """(N,) the objects whose outline is in the target: they own a place."""
        return (self.assignment.positives > 0) & (self.given > 0)

    @property
    def mean_iou(self) -> float:
        """Mean `iou` of the outlines that are taught; nan without any."""
        return float(self.iou[self.taught].mean()) if self.taught.any() else float("nan")

    def why(self, index: int) -> str:
        """Say in one sentence what object `index` and its outline got, and why."""
        said = self.assignment.why(index)
        if not self.assignment.positives[index]:
            return said
        if not self.given[index]:
            return f"{said}; no outline: neither a polygon nor a mask inside its box"
        kept, given, unused = (int(n[index]) for n in (self.kept, self.given, self.unused_parts))
        parts = "parts of its outline do" if unused > 1 else "part of its outline does"
        beside = f"; {unused} {parts} not count" if unused else ""
        filled = f" and a point of the outline in {self.filled[index]}" * bool(self.filled[index])
        return (
            f"{said}; {kept} of {given} vertices kept, in {kept} of {self.bins} bins{filled}: IoU "
            f"{self.iou[index]:.2f} with the object{beside}"
        )


def outline_fit(vertices: PolygonVertices, assignment: Assignment) -> OutlineFit:
    """Return what became of an example's outlines.

    Args:
        vertices: what `PolygonEncoder.vertices` returned for the annotations in the frame.
        assignment: what its `explain` returned for the same.
    """
    count, true = len(vertices.boxes), counted_outlines(vertices)
    decoded = polygons_of(vertices.boxes, vertices.polar)
    iou = np.full(count, np.nan)
    for k in range(count):
        if true[k]:
            whole = object_mask(assignment.annotations, k, assignment.image_size)
            iou[k] = mask_ious([decoded[k]], whole)[0]
    kept = np.bincount(vertices.object[vertices.kept], minlength=count)
    return OutlineFit(
        assignment=assignment,
        bins=vertices.polar.shape[1],
        true=true,
        decoded=decoded,
        given=np.bincount(vertices.object, minlength=count),
        kept=kept,
        filled=(vertices.polar[..., 2] > 0).sum(axis=1) - kept,
        iou=iou,
        unused_parts=vertices.unused_parts,
    )


def counted_outlines(vertices: PolygonVertices) -> list[Polygon]:
    """Return the outlines that count, cut to their boxes, as outlines of one part or none."""
    count = len(vertices.boxes)
    ends = np.cumsum(np.bincount(vertices.object, minlength=count))
    rings = np.split(vertices.yx, ends[:-1]) if count else []
    return [(ring,) if len(ring) else () for ring in rings]


def object_mask(annotations: Annotations, index: int, size: tuple[int, int]) -> Raster:
    """Return the pixels of an object: of all parts of its polygon, or its mask where it has none."""
    if annotations.polygons is not None and annotations.polygons[index]:
        return rasterise(annotations.polygons[index], *size)
    given = None if annotations.masks is None else annotations.masks[index]
    if given is None:
        return rasterise((), *size)
    runs: Raster = _coco_mask.encode(np.asfortranarray(given.decode()))
    return runs


def mask_ious(outlines: Sequence[Polygon], truth: Raster) -> NDArray[np.float64]:
    """Return the IoU of each outline's pixels with those of a mask."""
    candidates = [rasterise(outline, *truth["size"]) for outline in outlines]
    ious: NDArray[np.float64] = _coco_mask.iou(candidates, [truth], [0])[:, 0]
    return ious
