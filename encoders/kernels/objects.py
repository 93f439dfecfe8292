"""The objects of a batch as kernels see them: what each one is, and what its crowds cover."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ytrue.encoders.kernels.integrals import share_of_pixels
from ytrue.encoders.kernels.overlap import area, intersection
from ytrue.encoders.kernels.windows import find_by_share, has_extent
from ytrue.jit import inlined_kernel, kernel

POSITIVE, NEGATIVE, IGNORE = 1, 0, -1
MATCHED, CROWD, NO_AREA, NOT_FINITE, OUTSIDE = 0, 1, 2, 3, 4

# Sums over an integral image round in the sixteenth digit: full cover is still full cover.
MASK_MARGIN = 1.0 - 1e-9


class Objects(NamedTuple):
    """The objects of B images one after another, N in all; M of them are crowds with a mask."""

    boxes: NDArray[Any]  # (N, 4) T
    labels: NDArray[Any]  # (N,) int32
    crowd: NDArray[Any]  # (N,) bool
    starts: NDArray[Any]  # (B + 1,) int64
    contents: NDArray[Any]  # (B, 4) float64, the part of the frame that is not padding
    mask_of: NDArray[Any]  # (N,) int64, row of `integrals`, -1 without a mask
    integrals: NDArray[Any]  # (M, W + 1, H + 1) int32, see `integrals.py`


class Targets(NamedTuple):
    """What is written for every anchor.

    One class for all encoders of boxes: two named tuples of like members are one to numba's quick
    look-up of compiled code, and the second to be used then takes the slow one, 0.2 ms a call.
    """

    state: NDArray[Any]  # (B, A) int8
    label: NDArray[Any]  # (B, A) int32
    box: NDArray[Any]  # (B, A, 4) float32
    object: NDArray[Any]  # (B, A) int32


@kernel
def kind_of(y_min, x_min, y_max, x_max, crowd, match_degenerate, height, width):  # type: ignore[no-untyped-def]
    """Return what an object is, MATCHED where it takes part; crowd: whether it is a region."""
    finite = np.isfinite(y_min) & np.isfinite(x_min) & np.isfinite(y_max) & np.isfinite(x_max)
    if not finite:
        return NOT_FINITE
    if crowd:
        return CROWD
    if match_degenerate:
        return MATCHED
    if not (y_max > y_min and x_max > x_min):
        return NO_AREA
    inside_y = y_max > 0 and y_min < height
    inside_x = x_max > 0 and x_min < width
    return MATCHED if inside_y and inside_x else OUTSIDE


@kernel
def cut_to_frame(box, height, width, inside):  # type: ignore[no-untyped-def]
    """Write the part of a box (4,) float32 that lies in the frame to `inside` (4,)."""
    inside[0], inside[1] = max(box[0], np.float32(0)), max(box[1], np.float32(0))
    inside[2], inside[3] = min(box[2], height), min(box[3], width)


@inlined_kernel
def sides_of(boxes, k):  # type: ignore[no-untyped-def]
    """Return height and width of box k, float64."""
    height = np.float64(boxes[k, 2]) - np.float64(boxes[k, 0])
    width = np.float64(boxes[k, 3]) - np.float64(boxes[k, 1])
    return height, width


@kernel
def outranks(i, j, smaller_wins, boxes, labels):  # type: ignore[no-untyped-def]
    """Return whether object i comes before object j: by area, then box, then label, then index.

    The index decides only between objects that are one and the same, so that the order of the
    annotations changes nothing.
    """
    height_i, width_i = sides_of(boxes, i)
    height_j, width_j = sides_of(boxes, j)
    area_i, area_j = height_i * width_i, height_j * width_j
    if area_i != area_j:
        return (area_i < area_j) == smaller_wins
    for edge in range(4):
        if boxes[i, edge] != boxes[j, edge]:
            return boxes[i, edge] < boxes[j, edge]
    if labels[i] != labels[j]:
        return labels[i] < labels[j]
    return i < j


@kernel
def ignore_crowds(begin, stop, anchors, lattice, rules, objects, record, state, reached):  # type: ignore[no-untyped-def]
    """Ignore every anchor of which a crowd covers `rules.crowd_ioa`, unless it is positive.

    anchors (A, 4) T in the lattice's order; state (A,) int8; kind as `kind_of` wrote it to the
    record; reached (A + 1,) uint32 is overwritten.
    """
    for k in range(begin, stop):
        if record.kind[k] != CROWD or not has_extent(objects.boxes, k):
            continue
        share = np.float64(rules.crowd_ioa)
        for i in range(find_by_share(objects.boxes, k, lattice, share, reached)):
            anchor = reached[i]
            if state[anchor] == POSITIVE:
                continue
            if objects.integrals.shape[0] == 0 or objects.mask_of[k] < 0:
                shared = intersection(objects.boxes, k, anchors, anchor)
                covered = shared / area(anchors, anchor) >= rules.crowd_ioa
            else:
                integral = objects.integrals[objects.mask_of[k]]
                covered = share_of_pixels(integral, anchors, anchor) >= share * MASK_MARGIN
            if covered:
                state[anchor] = IGNORE
