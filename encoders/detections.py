"""From what a network says of every anchor or slot to scored detections."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.encoders.kernels.candidates import best_classes
from ytrue.encoders.kernels.peaks import find_peaks
from ytrue.encoders.kernels.suppression import suppress, suppress_points
from ytrue.errors import check_choice

CANDIDATES: Final = 5000
"""How many candidates enter the suppression at most (google/automl's max_nms_inputs)."""

_PLACES: Final = frozenset(
    ("box", "size", "offset", "coefficients", "prototypes", "polygon", "boxes", "points",
     "polygons", "vertices")
)  # fmt: skip
"""What tells where things are, but for logits; of networks, and as exports name it."""

Classes = Literal["best", "all"]
Scope = Literal["class", "global"]
Method = Literal["hard", "gaussian"]


def detect(
    values: NDArray[Any],
    boxes: NDArray[np.float32],
    *,
    logits: bool = True,
    score_threshold: float = 0.05,
    classes: Classes = "best",
    max_candidates: int | None = CANDIDATES,
    scope: Scope = "class",
    method: Method = "hard",
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    max_detections: int = 100,
) -> Annotations:
    """Return the detections of one image, by falling score.

    Args:
        values: (A, C) class logits, or scores.
        boxes: (A, 4) float32 `(y_min, x_min, y_max, x_max)` pixels.
        logits: whether `values` are logits; their score is the sigmoid.
        score_threshold: lowest score that is returned.
        classes: "best": an anchor stands for its best class. "all": for every class that reaches
            the threshold.
        max_candidates: how many of the highest scores enter the suppression; None: all.
        scope: "class": only boxes of one class are rivals. "global": all are.
        method: "hard": of two rivals that overlap by more than `iou_threshold` the lower-scored
            one falls. "gaussian" (soft): the score of each is multiplied by
            exp(-IoU^2 / sigma) for every rival above it.
        iou_threshold: of "hard".
        sigma: of "gaussian", as in the paper.
        max_detections: most detections returned.

    Raises:
        ValueError: an argument out of range, named with its value.

    Reference:
        Bodla et al. 2017 (Soft-NMS); google/automl efficientdet/tf2/postprocess.py: its
        `postprocess_global` is scope="global", `postprocess_per_class` scope="class",
        `postprocess_combined` classes="all"; its max_nms_inputs is classes="all" with
        `max_candidates`.

    Example:
        >>> boxes = np.array([[0, 0, 8, 8], [0, 1, 8, 9]], np.float32)
        >>> found = detect(np.array([[2.0, -9.0], [-9.0, 1.0]]), boxes, scope="global")
        >>> found.labels.tolist(), found.scores.round(2).tolist()
        ([0], [0.88])
    """
    rows, labels, scores = choose(
        values, boxes, logits=logits, score_threshold=score_threshold, classes=classes,
        max_candidates=max_candidates, scope=scope, method=method, iou_threshold=iou_threshold,
        sigma=sigma, max_detections=max_detections,
    )  # fmt: skip
    return Annotations(boxes=boxes[rows], labels=labels, scores=scores)


def choose(
    values: NDArray[Any],
    boxes: NDArray[np.float32],
    *,
    logits: bool = True,
    score_threshold: float = 0.05,
    classes: Classes = "best",
    max_candidates: int | None = CANDIDATES,
    scope: Scope = "class",
    method: Method = "hard",
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    max_detections: int = 100,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return which rows of `boxes` are detections, by falling score, their labels and scores.

    Arguments and errors are those of `detect`.
    """
    _check_score(score_threshold)
    for name, value, allowed in (
        ("classes", classes, get_args(Classes)),
        ("scope", scope, get_args(Scope)),
        ("method", method, get_args(Method)),
    ):
        check_choice(name, value, allowed)
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold={iou_threshold}: expected a number in [0, 1]")
    if not sigma > 0:
        raise ValueError(f"sigma={sigma}: expected more than 0")
    values = np.ascontiguousarray(values)
    rows, labels, scores = _candidates(values, score_threshold, logits=logits, classes=classes)
    order = np.argsort(-scores, kind="stable")[:max_candidates]
    rows, labels, scores = rows[order], labels[order], scores[order]
    kept = _survivors(
        boxes[rows], labels, scores, by_class=scope == "class", iou_threshold=iou_threshold,
        decay=1 / sigma if method == "gaussian" else 0, least=score_threshold, most=max_detections,
    )  # fmt: skip
    return rows[kept], labels[kept], scores[kept]


def outputs_of(
    arrays: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    cut: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Return a network's outputs for one image in the shapes of the encoder, float32 or float64.

    Args:
        arrays: of any real dtype, bfloat16 included; the axes before the last may be any that hold
            as much.
        shapes: name -> shape; of one axis: the last one, too, may be split.
        cut: names of places that the encoder cuts to what its boxes can be, infinity included.

    Raises:
        ValueError: an output holds more or less, its last axis is another, or it holds what is no
            number (see `check_numbers`).
    """
    told = {name: _floats(name, arrays[name]) for name in shapes}
    for name, shape in shapes.items():
        given = told[name].shape
        split = len(shape) > 1 and given[-1:] != shape[-1:]
        if split or math.prod(given) != math.prod(shape):
            raise ValueError(
                f"{name} is of shape {given}, expected {shape}: are network and encoder of one "
                "size, one grid and the same classes?"
            )
    check_numbers(told, cut=cut)
    return {name: array.reshape(shapes[name]) for name, array in told.items()}


def check_numbers(arrays: Mapping[str, NDArray[Any]], *, cut: Collection[str] = ()) -> None:
    """Raise ValueError if predictions hold nan, or infinity in places other than those of `cut`.

    An infinite logit is a score, or a share of a cell, of 0 or 1. A network that tells nan has
    diverged: what it finds would look like nothing found.
    """
    for name, array in arrays.items():
        # The least of an array is nan where any of it is: one pass, and no array beside it.
        if array.size and np.isnan(array.min()):
            raise ValueError(
                f"{name} holds nan in {int(np.isnan(array).sum())} of {array.size} places: the "
                "network has diverged; take the weights of an earlier epoch, or train again with a "
                "lower learning rate"
            )
        places = name in _PLACES and name not in cut
        if array.size and places and math.inf in (-array.min(), array.max()):
            raise ValueError(
                f"{name} holds infinity in {int(np.isinf(array).sum())} of {array.size} places: "
                "that tells no place; was it computed in float16?"
            )


def _floats(name: str, array: Any) -> NDArray[Any]:
    """Return an array as float32, of float64 as it is: the kernels know no other numbers."""
    told: NDArray[Any] = np.asarray(array)
    # "V": bfloat16 and the like, which NumPy itself does not know.
    if told.dtype.kind not in "fiubV" or told.dtype.names is not None:
        raise ValueError(f"{name} is of dtype {told.dtype}: expected floating numbers")
    return told.astype(np.float64 if told.dtype == np.float64 else np.float32, copy=False)


def detect_peaks(
    values: NDArray[np.float32],
    boxes_at: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    *,
    logits: bool = True,
    score_threshold: float = 0.05,
    max_detections: int = 100,
    iou_threshold: float | None = None,
) -> Annotations:
    """Return the detections that the peaks of an image's heat maps are, by falling score.

    A peak is a cell whose value none of its neighbours (eight, fewer on the border) exceeds in its
    class, and none of those before it by row, then column, equals. Of logits these are compared,
    not their sigmoids, which in float32 are equal from 17 on.

    Args:
        values: (H, W, C) logits, or scores, of every cell and class.
        boxes_at: cells, counted by row, then column, to their (M, 4) boxes, pixels.
        logits: whether `values` are logits; their score is the sigmoid.
        score_threshold: lowest score that is returned.
        max_detections: most detections returned; of equal scores those of the lower cell, then of
            the lower class.
        iou_threshold: of two detections of one class that overlap by more, the lower-scored one
            falls; None: none does.

    Raises:
        ValueError: a threshold out of range, named with its value.
    """
    _check_score(score_threshold)
    if iou_threshold is not None and not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold={iou_threshold}: expected a number in [0, 1], or None")
    rows, columns, classes = values.shape
    most = -(-rows // 2) * -(-columns // 2) * classes
    cells, labels = np.empty(most, np.int64), np.empty(most, np.int64)
    best = np.empty(most, values.dtype)
    least = values.dtype.type(_least_logit(score_threshold) if logits else score_threshold)
    count = find_peaks(np.ascontiguousarray(values), least, cells, labels, best)
    scores = sigmoid(best[:count]) if logits else best[:count].astype(np.float32)
    reach = np.flatnonzero(scores >= np.float32(score_threshold))
    order = reach[np.argsort(-scores[reach], kind="stable")[:max_detections]]
    boxes, labels, scores = boxes_at(cells[order]), labels[order], scores[order]
    if iou_threshold is None:
        return Annotations(boxes, labels, scores=scores)
    kept = _survivors(
        boxes, labels, scores, by_class=True, iou_threshold=iou_threshold, decay=0,
        least=score_threshold, most=max_detections,
    )  # fmt: skip
    return Annotations(boxes[kept], labels[kept], scores=scores[kept])


def detect_points(
    values: NDArray[Any],
    group: NDArray[Any],
    yx: NDArray[np.float32],
    sides: NDArray[np.float64],
    *,
    logits: bool = True,
    score_threshold: float = 0.05,
    duplicate_radius: float = 0.5,
    max_detections: int = 1000,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which slots are detections, by falling score, and their scores.

    A slot falls where a higher-scored one of its group lies within `duplicate_radius` of its
    cell's sides: the same point, told by a neighbouring cell or another grid.

    Args:
        values: (S,) logits, or scores, of each slot's class.
        group: (S,) whole numbers; points of different groups leave each other alone.
        yx: (S, 2) float32 points, pixels.
        sides: (S, 2) height and width of each slot's cell, pixels.
        logits: whether `values` are logits; their score is the sigmoid.
        score_threshold: lowest score that is returned.
        duplicate_radius: in sides of the cell, along each axis; below 0 for no suppression.
        max_detections: most detections returned.

    Raises:
        ValueError: an argument out of range, named with its value.
    """
    _check_score(score_threshold)
    if math.isnan(duplicate_radius):
        raise ValueError(f"duplicate_radius={duplicate_radius}: expected a number")
    scores = sigmoid(values) if logits else values.astype(np.float32)
    order = np.flatnonzero(scores >= score_threshold)
    order = order[np.argsort(-scores[order], kind="stable")[:CANDIDATES]]
    kept = np.empty(min(max_detections, order.size), np.int64)
    reach = (sides[order] * duplicate_radius).astype(np.float32)
    count = suppress_points(yx[order], reach, group[order], kept)
    rows = order[kept[:count]]
    return rows, scores[rows]


def _survivors(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    *,
    by_class: bool,
    iou_threshold: float,
    decay: float,
    least: float,
    most: int,
) -> NDArray[np.int64]:
    """Return the rows that survive suppression, by falling score; see the kernel `suppress`."""
    kept = np.empty(min(most, len(boxes)), np.int64)
    count = suppress(
        np.ascontiguousarray(boxes, np.float32), labels, scores, by_class,
        np.float32(iou_threshold), np.float32(decay), np.float32(least), kept,
    )  # fmt: skip
    return kept[:count]


def _check_score(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"score_threshold={threshold}: expected a number in [0, 1]")


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-logits)) without overflow, computed in float64."""
    values: NDArray[np.float32] = (0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))).astype(
        np.float32
    )
    return values


def _candidates(
    values: NDArray[Any], threshold: float, *, logits: bool, classes: Classes
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return anchors, classes and scores of what reaches the threshold, by rising anchor."""
    least = _least_logit(threshold) if logits else threshold
    if classes == "all":
        rows, labels = (axis.astype(np.int64) for axis in np.nonzero(values >= least))
        best = values[rows, labels]
    else:
        count = values.shape[0]
        rows, labels = np.empty(count, np.int64), np.empty(count, np.int64)
        best = np.empty(count, values.dtype)
        count = best_classes(values, values.dtype.type(least), rows, labels, best)
        rows, labels, best = rows[:count], labels[:count], best[:count]
    scores = sigmoid(best) if logits else best.astype(np.float32)
    reach = scores >= np.float32(threshold)
    return rows[reach], labels[reach], scores[reach]


def _least_logit(score: float) -> float:
    """Return a little less than a score's logit: scores decide, rounded like all scores."""
    if score in (0, 1):
        return -math.inf if score == 0 else math.inf
    return math.log(score / (1 - score)) - 1e-3
