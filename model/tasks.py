"""How an encoder meets a network: the heads it needs, its loss, and what a detector is scored by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ytrue import boxes
from ytrue.contract import Encoder, part_of
from ytrue.encoders import (
    AnchorEncoder,
    KeypointGridEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
)
from ytrue.encoders.pose import BOX, KEYPOINTS
from ytrue.errors import DataError
from ytrue.model.losses import (
    DetectionLoss,
    JointLoss,
    KeypointLoss,
    Loss,
    PolygonLoss,
    YoloLoss,
)

if TYPE_CHECKING:
    from ytrue.annotations import Annotations
    from ytrue.datasets.dataset import Dataset, Id
    from ytrue.model.pyramidnet import PyramidNet
    from ytrue.model.recipe import Recipe

YOLO: Final = "yolo"
POLYGON: Final = "polygon"

Heads = dict[str, dict[str, Any]]
"""Name -> kind and arguments of a head, as `PyramidNet` takes them."""
Scores = dict[str, float]
"""Name -> score; the first one says which weights are the best."""


@dataclass(frozen=True)
class Task:
    """What a kind of target asks of the parts around it.

    Attributes:
        name: as `--task` has it.
        heads: of an encoder, for a network of these pyramid levels.
        loss: of an encoder and a recipe.
        scores: of an encoder's detector and what it found in a dataset: image id -> scored
            annotations in the image's own pixels.
        missing: says what a dataset lacks to be learnt or scored, "" where it lacks nothing.
    """

    name: str
    heads: Callable[[Any, tuple[int, ...]], Heads]
    loss: Callable[[Any, Recipe], Loss]
    scores: Callable[[Any, Dataset, Mapping[Id, Annotations]], Scores]
    missing: Callable[[Dataset], str]


def task_of(encoder: Encoder) -> Task:
    """Return the task of an encoder's targets."""
    return TASKS[encoder.config()["encoder"]]


def build_model(encoder: Encoder, variant: str, *, pretrained: str | None = None,
                drop_connect_rate: float = 0.2, dtype: Any = None) -> PyramidNet:  # fmt: skip
    """Return an untrained network whose outputs answer the encoder's targets.

    Args:
        encoder: makes the targets.
        variant: of `EfficientDet`, whose backbone and pyramid the network has.
        pretrained: weights of the backbone, "lite0-imagenet".
        drop_connect_rate: of the backbone.
        dtype: a Keras dtype policy.

    Raises:
        ValueError: the variant has no such levels.
    """
    from ytrue.model.efficientdet import EfficientDet
    from ytrue.model.pyramidnet import PyramidNet, levels_of

    common: dict[str, Any] = {
        "pretrained": pretrained,
        "drop_connect_rate": drop_connect_rate,
        "dtype": dtype,
    }
    heads = task_of(encoder).heads(encoder, levels_of(variant))
    if heads.keys() == {BOX}:  # under its published name, so that official weights can be loaded
        own = {name: value for name, value in heads[BOX].items() if name != "kind"}
        return EfficientDet(variant, **own, **common)
    return PyramidNet(variant, heads, **common)


def check_fits(model: PyramidNet, encoder: Encoder) -> None:
    """Raise ValueError if the model's outputs do not answer the encoder's targets."""
    wanted = task_of(encoder).heads(encoder, model.levels)
    given = model.head_settings
    if wanted.keys() != given.keys():
        raise ValueError(
            f"the model has heads {', '.join(given)}, the encoder needs {', '.join(wanted)}"
        )
    differ = [
        f"the model's {part_of(head, name)} is {given[head].get(name)}, the encoder's {value}"
        for head, values in wanted.items()
        for name, value in values.items()
        if given[head].get(name) != value
    ]
    if differ:
        raise ValueError("; ".join(differ))


def _box_heads(encoder: AnchorEncoder, levels: tuple[int, ...]) -> Heads:
    grid = encoder.grid
    if grid.levels != levels:
        raise ValueError(
            f"the model has levels {levels}, the encoder's grid {grid.levels}: build the grid with "
            "the model's"
        )
    counts = {len(shapes) for shapes in grid.anchor_shapes}
    if len(counts) > 1:
        raise ValueError(
            f"the grid has {sorted(counts)} anchors in a cell, by level: the heads are shared over "
            "levels and need one number"
        )
    return {BOX: {"kind": "anchor", "num_classes": encoder.num_classes, "anchors": counts.pop()}}


def _keypoint_heads(encoder: KeypointGridEncoder, levels: tuple[int, ...]) -> Heads:
    return {
        KEYPOINTS: {
            "kind": "keypoint-grid",
            "num_classes": encoder.num_classes,
            "points_per_cell": encoder.points_per_cell,
            "on": "global" if encoder.grid == ((1, 1),) else _places(encoder, levels),
        }
    }


def _yolo_heads(encoder: YoloEncoder, levels: tuple[int, ...]) -> Heads:
    return {
        YOLO: {
            "kind": "yolo",
            "num_classes": encoder.num_classes,
            "anchors": encoder.anchors_per_cell,
            "on": _places(encoder, levels),
        }
    }


def _polygon_heads(encoder: PolygonEncoder, levels: tuple[int, ...]) -> Heads:
    (head,) = _yolo_heads(encoder.boxes, levels).values()
    return {POLYGON: head | {"kind": "polygon", "bins": encoder.bins}}


def _places(encoder: KeypointGridEncoder | YoloEncoder, levels: tuple[int, ...]) -> list[int]:
    """Return which of the pyramid's levels have the encoder's grids."""
    height, width = encoder.image_size
    cells = [(-(-height // 2**level), -(-width // 2**level)) for level in levels]
    for rows, columns in encoder.grid:
        if (rows, columns) not in cells:
            there = ", ".join(
                f"{tall}x{wide} on P{level}"
                for (tall, wide), level in zip(cells, levels, strict=True)
            )
            raise ValueError(
                f"no level of the network has a grid of {rows}x{columns}: there are {there}; one "
                'cell for the whole image is grid="global"'
            )
    places = [cells.index(grid) for grid in encoder.grid]
    if places != sorted(places):
        raise ValueError(f"grids {encoder.grid} are not in order: name the finest first")
    return places


def _pose_heads(encoder: PoseEncoder, levels: tuple[int, ...]) -> Heads:
    return _box_heads(encoder.boxes, levels) | _keypoint_heads(encoder.keypoints, levels)


def _box_loss(_encoder: AnchorEncoder, recipe: Recipe) -> DetectionLoss:
    alpha = 0.25 if recipe.alpha is None else recipe.alpha
    return DetectionLoss(alpha=alpha, gamma=recipe.gamma, box_weight=recipe.box_weight)


def _keypoint_loss(_encoder: KeypointGridEncoder, recipe: Recipe) -> KeypointLoss:
    alpha = 0.5 if recipe.alpha is None else recipe.alpha
    return KeypointLoss(alpha=alpha, gamma=recipe.gamma, xy_weight=recipe.xy_weight)


def _pose_loss(encoder: PoseEncoder, recipe: Recipe) -> JointLoss:
    boxes, points = _box_loss(encoder.boxes, recipe), _keypoint_loss(encoder.keypoints, recipe)
    return JointLoss({BOX: boxes, KEYPOINTS: points})


def _yolo_loss(encoder: YoloEncoder, recipe: Recipe) -> YoloLoss:
    return YoloLoss(**_yolo_settings(encoder, recipe))


def _polygon_loss(encoder: PolygonEncoder, recipe: Recipe) -> PolygonLoss:
    yolo = encoder.boxes
    cells = np.arange(len(yolo.cells))
    scales = encoder.distance_scale[yolo.cells.level(cells)].reshape(-1)
    return PolygonLoss(scales, **_yolo_settings(yolo, recipe))


def _yolo_settings(encoder: YoloEncoder, recipe: Recipe) -> dict[str, Any]:
    height, width = encoder.image_size
    return {
        "areas": boxes.area(encoder.boxes) / (height * width),
        "offset_range": encoder.offset_range,
        "gamma": recipe.gamma,
        "alpha": 0.5 if recipe.alpha is None else recipe.alpha,
    }


def _box_scores(
    _encoder: AnchorEncoder | YoloEncoder, dataset: Dataset, found: Mapping[Id, Annotations]
) -> Scores:
    from ytrue.model.evaluate import evaluate

    measured = evaluate(dataset, found)
    # Defined where there are objects; None where all their images turned out unreadable.
    return {"AP": measured.ap or 0.0, "AP50": measured.ap50 or 0.0}


def _keypoint_scores(
    encoder: KeypointGridEncoder, dataset: Dataset, found: Mapping[Id, Annotations]
) -> Scores:
    from ytrue.model.evaluatepoints import evaluate_points

    measured = evaluate_points(dataset, found, by=told_by(encoder)).overall
    return {"AP": measured.ap or 0.0, "PCK": measured.pck or 0.0}


def told_by(encoder: KeypointGridEncoder) -> Literal["landmark", "class"]:
    """Return what the points that an encoder decodes are told apart by."""
    return "landmark" if encoder.tells_landmarks else "class"


def _polygon_scores(
    encoder: PolygonEncoder, dataset: Dataset, found: Mapping[Id, Annotations]
) -> Scores:
    from ytrue.model.evaluatemasks import evaluate_masks

    measured = evaluate_masks(dataset, found)
    of_boxes = _box_scores(encoder.boxes, dataset, found)
    return {
        "mask AP": measured.coco["AP"] or 0.0,
        "mask AP50": measured.coco["AP50"] or 0.0,
        **{f"box {name}": value for name, value in of_boxes.items()},
    }


def _pose_scores(encoder: PoseEncoder, dataset: Dataset, found: Mapping[Id, Annotations]) -> Scores:
    from ytrue.model.evaluatepoints import evaluate_keypoints

    measured = evaluate_keypoints(dataset, found)
    of_boxes = _box_scores(encoder.boxes, dataset, found)
    return {
        "OKS AP": measured.coco["AP"] or 0.0,
        "OKS AP50": measured.coco["AP50"] or 0.0,
        **{f"box {name}": value for name, value in of_boxes.items()},
    }


def _no_object(dataset: Dataset) -> str:
    return "there is no object to find in it" if dataset.objects.crowd.all() else ""


def _no_point(dataset: Dataset) -> str:
    objects = dataset.objects
    known = objects.keypoints is not None and (objects.keypoints[~objects.crowd, :, 2] > 0).any()
    return "" if known else "there is no labelled keypoint in it"


TASKS: Final[Mapping[str, Task]] = {
    "anchor": Task("box", _box_heads, _box_loss, _box_scores, _no_object),
    "keypoint-grid": Task(
        "keypoints", _keypoint_heads, _keypoint_loss, _keypoint_scores, _no_point
    ),
    "yolo": Task("yolo", _yolo_heads, _yolo_loss, _box_scores, _no_object),
    "polygon": Task("polygon", _polygon_heads, _polygon_loss, _polygon_scores, _no_object),
    "pose": Task("pose", _pose_heads, _pose_loss, _pose_scores, _no_point),
}
"""Name of the encoder -> its task."""


def check_scorable(task: Task, dataset: Dataset) -> None:
    """Raise DataError if nothing in the dataset can be scored."""
    missing = task.missing(dataset)
    if missing:
        raise DataError(
            f"{missing}, but AP is to be computed on it", where=dataset.source,
            do="take images with annotations",
        )  # fmt: skip
