"""How an encoder meets a network: the heads it needs, its loss, and what a detector is scored by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ytrue import boxes
from ytrue.contract import Encoder, part_of
from ytrue.encoders import (
    AnchorEncoder,
    CellGrid,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
)
from ytrue.encoders.pose import BOX, KEYPOINTS
from ytrue.errors import DataError
from ytrue.model.losses import (
    CenterNetLoss,
    DetectionLoss,
    FCOSLoss,
    JointLoss,
    KeypointLoss,
    Loss,
    MaskLoss,
    PolygonLoss,
    YoloLoss,
)

if TYPE_CHECKING:
    from ytrue.annotations import Annotations
    from ytrue.datasets.dataset import Dataset, Id
    from ytrue.model.predict import Finder, Found
    from ytrue.model.pyramidnet import PyramidNet
    from ytrue.model.recipe import Recipe

MASK: Final = "mask"
YOLO: Final = "yolo"
FCOS: Final = "fcos"
CENTERNET: Final = "centernet"
POLYGON: Final = "polygon"

Heads = dict[str, dict[str, Any]]
"""Name -> kind and arguments of a head, as `PyramidNet` takes them."""
Scores = dict[str, float]
"""Name -> score; the first one says which weights are the best."""
Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """What a kind of target asks of the parts around it.

    Attributes:
        name: as `--task` has it.
        heads: of an encoder, for a network of these pyramid levels.
        loss: of an encoder and a recipe.
        scores: of an encoder's detector and what it found in a dataset: image id -> scored
            annotations in the image's own pixels.
        records: of a finder and what it found: results as plain JSON values.
        missing: says what a dataset lacks to be learnt or scored, "" where it lacks nothing.
        options: names of what the encoder's `decode` takes of `ytrue predict`, beside the least
            score and the most detections.
    """

    name: str
    heads: Callable[[Any, tuple[int, ...]], Heads]
    loss: Callable[[Any, Recipe], Loss]
    scores: Callable[[Any, Dataset, Mapping[Id, Annotations]], Scores]
    records: Callable[[Finder, Sequence[Found]], Records]
    missing: Callable[[Dataset], str]
    options: tuple[str, ...] = ("scope", "method", "iou_threshold")


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
            "on": "global" if encoder.grid == ((1, 1),) else _places(encoder.cells, levels),
        }
    }


def _mask_heads(encoder: MaskEncoder, levels: tuple[int, ...]) -> Heads:
    from ytrue.model.finefeatures import check_fine

    check_fine(encoder.stride, encoder.image_size)
    (head,) = _box_heads(encoder.boxes, levels).values()
    return {MASK: head | {"kind": "mask", "stride": encoder.stride}}


def _fcos_heads(encoder: FCOSEncoder, levels: tuple[int, ...]) -> Heads:
    head = {"kind": "fcos", "num_classes": encoder.num_classes}
    return {FCOS: head | {"on": _places(encoder.cells, levels)}}


def _center_heads(encoder: CenterNetEncoder, _levels: tuple[int, ...]) -> Heads:
    from ytrue.model.finefeatures import check_fine

    check_fine(encoder.stride, encoder.image_size)
    head = {"kind": "centernet", "num_classes": encoder.num_classes, "stride": encoder.stride}
    return {CENTERNET: head | {"on": [0]}}


def _yolo_heads(encoder: YoloEncoder, levels: tuple[int, ...]) -> Heads:
    return {
        YOLO: {
            "kind": "yolo",
            "num_classes": encoder.num_classes,
            "anchors": encoder.anchors_per_cell,
            "on": _places(encoder.cells, levels),
        }
    }


def _polygon_heads(encoder: PolygonEncoder, levels: tuple[int, ...]) -> Heads:
    (head,) = _yolo_heads(encoder.boxes, levels).values()
    return {POLYGON: head | {"kind": "polygon", "bins": encoder.bins}}


def _places(grids: CellGrid, levels: tuple[int, ...]) -> list[int]:
    """Return which of the pyramid's levels have the encoder's grids."""
    height, width = grids.image_size
    cells = [(-(-height // 2**level), -(-width // 2**level)) for level in levels]
    for rows, columns in grids.grid:
        if (rows, columns) not in cells:
            there = ", ".join(
                f"{tall}x{wide} on P{level}"
                for (tall, wide), level in zip(cells, levels, strict=True)
            )
            raise ValueError(
                f"no level of the network has a grid of {rows}x{columns}: there are {there}; one "
                'cell for the whole image is grid="global"'
            )
    places = [cells.index(grid) for grid in grids.grid]
    if places != sorted(places):
        raise ValueError(f"grids {grids.grid} are not in order: name the finest first")
    return places


def _pose_heads(encoder: PoseEncoder, levels: tuple[int, ...]) -> Heads:
    return _box_heads(encoder.boxes, levels) | _keypoint_heads(encoder.keypoints, levels)


def _box_loss(_encoder: AnchorEncoder, recipe: Recipe) -> DetectionLoss:
    return DetectionLoss(**_box_settings(recipe))


def _mask_loss(_encoder: MaskEncoder, recipe: Recipe) -> MaskLoss:
    return MaskLoss(mask_weight=recipe.mask_weight, **_box_settings(recipe))


def _box_settings(recipe: Recipe) -> dict[str, Any]:
    alpha = 0.25 if recipe.alpha is None else recipe.alpha
    return {"alpha": alpha, "gamma": recipe.gamma, "box_weight": recipe.box_weight}


def _fcos_loss(_encoder: FCOSEncoder, recipe: Recipe) -> FCOSLoss:
    alpha = 0.25 if recipe.alpha is None else recipe.alpha
    return FCOSLoss(alpha=alpha, gamma=recipe.gamma)


def _center_loss(_encoder: CenterNetEncoder, recipe: Recipe) -> CenterNetLoss:
    return CenterNetLoss(gamma=recipe.gamma)


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
    _encoder: AnchorEncoder | CenterNetEncoder | FCOSEncoder | YoloEncoder,
    dataset: Dataset,
    found: Mapping[Id, Annotations],
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


def _outline_scores(
    encoder: MaskEncoder | PolygonEncoder, dataset: Dataset, found: Mapping[Id, Annotations]
) -> Scores:
    from ytrue.model.evaluatemasks import evaluate_masks

    masks = evaluate_masks(dataset, found).coco
    return _beside("mask", masks, _box_scores(encoder.boxes, dataset, found))


def _pose_scores(encoder: PoseEncoder, dataset: Dataset, found: Mapping[Id, Annotations]) -> Scores:
    from ytrue.model.evaluatepoints import evaluate_keypoints

    points = evaluate_keypoints(dataset, found).coco
    return _beside("OKS", points, _box_scores(encoder.boxes, dataset, found))


def _beside(what: str, coco: Mapping[str, float | None], of_boxes: Scores) -> Scores:
    """Return COCO's AP and AP50 of something, and the scores of its boxes."""
    own = {f"{what} {name}": coco[name] or 0.0 for name in ("AP", "AP50")}
    return own | {f"box {name}": value for name, value in of_boxes.items()}


def _box_records(finder: Finder, found: Sequence[Found]) -> Records:
    from ytrue.model.predict import results

    return results(found, finder.class_ids)


def _keypoint_records(finder: Finder, found: Sequence[Found]) -> Records:
    from ytrue.model.evaluatepoints import point_records

    assert isinstance(finder.encoder, KeypointGridEncoder)  # as `TASKS` has it
    ids = None if finder.encoder.tells_landmarks else finder.class_ids
    return point_records(_by_image(found), finder.landmarks, class_ids=ids)


def _pose_records(finder: Finder, found: Sequence[Found]) -> Records:
    from ytrue.model.evaluatepoints import keypoint_records

    points = keypoint_records(_by_image(found), finder.class_ids)
    return [box | more for box, more in zip(_box_records(finder, found), points, strict=True)]


def _outline_records(finder: Finder, found: Sequence[Found]) -> Records:
    from ytrue.model.evaluatemasks import mask_records

    sizes = {one.image_id: one.size for one in found}
    return mask_records(_by_image(found), sizes, finder.class_ids)


def _by_image(found: Sequence[Found]) -> dict[Id, Annotations]:
    return {one.image_id: one.detections for one in found}


def _no_object(dataset: Dataset) -> str:
    return "there is no object to find in it" if dataset.objects.crowd.all() else ""


def _no_outline(dataset: Dataset) -> str:
    outlined = any(count for name, count in dataset.outlines.items() if name != "none")
    return "" if outlined else "there is no object with a polygon or a mask in it"


def _no_point(dataset: Dataset) -> str:
    objects = dataset.objects
    known = objects.keypoints is not None and (objects.keypoints[~objects.crowd, :, 2] > 0).any()
    return "" if known else "there is no labelled keypoint in it"


TASKS: Final[Mapping[str, Task]] = {
    "anchor": Task("box", _box_heads, _box_loss, _box_scores, _box_records, _no_object),
    "keypoint-grid": Task(
        "keypoints", _keypoint_heads, _keypoint_loss, _keypoint_scores, _keypoint_records, _no_point,
        options=("duplicate_radius",),
    ),
    "yolo": Task("yolo", _yolo_heads, _yolo_loss, _box_scores, _box_records, _no_object),
    "polygon": Task(
        "polygon", _polygon_heads, _polygon_loss, _outline_scores, _outline_records, _no_outline
    ),
    "fcos": Task("fcos", _fcos_heads, _fcos_loss, _box_scores, _box_records, _no_object),
    "centernet": Task(
        "centernet", _center_heads, _center_loss, _box_scores, _box_records, _no_object,
        options=("iou_threshold",),
    ),
    "mask": Task("mask", _mask_heads, _mask_loss, _outline_scores, _outline_records, _no_outline),
    "pose": Task(
        "pose", _pose_heads, _pose_loss, _pose_scores, _pose_records, _no_point,
        options=("scope", "method", "iou_threshold", "duplicate_radius"),
    ),
}  # fmt: skip
"""Name of the encoder -> its task."""


def check_learnable(task: Task, dataset: Dataset) -> None:
    """Raise DataError if the dataset has nothing of what the task learns."""
    _check_not_missing(task, dataset, f"but --task {task.name} is to learn from it")


def check_scorable(task: Task, dataset: Dataset) -> None:
    """Raise DataError if nothing in the dataset can be scored."""
    _check_not_missing(task, dataset, "but AP is to be computed on it")


def _check_not_missing(task: Task, dataset: Dataset, words: str) -> None:
    missing = task.missing(dataset)
    if missing:
        do = "take images with annotations of the kind"
        raise DataError(f"{missing}, {words}", where=dataset.source, do=do)
