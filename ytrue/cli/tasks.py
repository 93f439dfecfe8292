"""From `--task` and its settings to an encoder: one function a task, and a line for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ytrue.cli.options import check_choice, sides_of
from ytrue.errors import DataError

if TYPE_CHECKING:
    from ytrue.contract import Encoder
    from ytrue.datasets.dataset import Dataset
    from ytrue.encoders import AnchorEncoder, KeypointGridEncoder, YoloEncoder
    from ytrue.resizing import ResizeMode

TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        help="box, fcos, centernet, yolo, polygon, mask, keypoints, or pose (boxes and keypoints).",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="NAME=VALUE of the task's encoder, such as stride=8,16 or points_per_cell=2; may be "
        "given again.",
    ),
]


@dataclass(frozen=True)
class Choices:
    """What the command line says of an encoder.

    Attributes:
        size: "SIDE" or "HEIGHTxWIDTH".
        preset, anchor_scale: of boxes.
        resize: how images are fitted, for anchors that are fitted to the objects.
        settings: "NAME=VALUE" of the task's encoder.
        grid: what the network asks of the anchors, for presets that have none of their own.
    """

    size: str
    preset: str = "ytrue"
    anchor_scale: float | None = None
    settings: Iterable[str] | None = None
    grid: Mapping[str, Any] | None = None
    resize: ResizeMode = "letterbox"


def encoder_of(task: str, choices: Choices, dataset: Dataset) -> Encoder:
    """Return the task's encoder for the dataset's classes or landmarks.

    Raises:
        DataError: the dataset has nothing of the kind.
        ValueError: no such task or setting, or a value out of range.
    """
    check_choice("--task", task, tuple(TASK_BUILDERS))
    if task not in _ON_ANCHORS:
        for option, said in (
            ("--preset", choices.preset != Choices.preset),
            ("--anchor-scale", choices.anchor_scale is not None),
        ):
            if said:
                raise ValueError(f"{option} is of anchors: --task {task} has none of presets")
    if dataset.num_classes == 0:
        raise DataError(
            "the dataset has no classes", where=dataset.source, do="check the annotation file"
        )
    return TASK_BUILDERS[task](choices, dataset, settings_of(choices.settings or ()))


def encoder_named(name: str, choices: Choices, dataset: Dataset) -> Encoder:
    """Return the encoder of a preset of boxes, or of a task, for the dataset's classes.

    Raises:
        DataError: as `encoder_of`.
        ValueError: no such preset or task.
    """
    from ytrue.encoders import PRESETS

    if name in PRESETS:
        return encoder_of("box", replace(choices, preset=name), dataset)
    return encoder_of(name, choices, dataset)


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """Return name -> value of texts such as "stride=8,16", "grid=32x24" or "slots=fixed"."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--set {text}: expected NAME=VALUE, such as stride=8,16")
        values = [_value(one) for one in value.split(",")]
        found[name] = values[0] if len(values) == 1 else tuple(values)
    return found


def _value(text: str) -> Any:
    if text == "none":
        return None
    sides = text.split("x")
    if len(sides) == 2 and all(side.isdigit() for side in sides):
        return int(sides[0]), int(sides[1])
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_ON_ANCHORS: Final = ("box", "mask", "pose")
"""The tasks whose boxes stand on the anchors of a preset."""
_UNWRITABLE: Final = ("shapes", "coder")
"""Arguments of boxes that no text NAME=VALUE says."""
_KEYPOINT_NAMES: Final = ("grid", "stride", "points_per_cell", "slots", "classes", "hidden")
_POSE_NAMES: Final = ("margin", "rival_share")
_YOLO_NAMES: Final = (
    "stride", "anchors", "match", "ratio", "neighbours", "collision", "ignore_iou", "crowd",
    "crowd_ioa",
)  # fmt: skip
_MASK_NAMES: Final = ("stride",)
_POLYGON_NAMES: Final = ("bins", "part_rule", "points")
_FCOS_NAMES: Final = ("stride", "ranges", "center_radius", "crowd", "padding")
_CENTERNET_NAMES: Final = ("stride", "radius", "min_overlap", "collision", "crowd", "padding")


def _boxes(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> AnchorEncoder:
    from ytrue.encoders import PRESETS, preset

    name = choices.preset
    grid: dict[str, Any] = {}
    # "none" is the preset's own: of these none has a meaning of its own.
    given = {key: value for key, value in settings.items() if value is not None}
    if name in PRESETS and not PRESETS[name].own_anchors:
        its = PRESETS[name].grid()
        grid = {key: value for key, value in (choices.grid or {}).items() if key not in its}
    if choices.anchor_scale is not None:
        grid["anchor_scale"] = choices.anchor_scale
    check_names("box", given)
    return preset(name, sides_of(choices.size), dataset.num_classes, **{**grid, **given})


def _box_names() -> tuple[str, ...]:
    from ytrue.encoders.presets import ENCODER_ARGUMENTS, GRID_ARGUMENTS

    return tuple(name for name in (*GRID_ARGUMENTS, *ENCODER_ARGUMENTS) if name not in _UNWRITABLE)


def _keypoints(
    choices: Choices, dataset: Dataset, settings: Mapping[str, Any]
) -> KeypointGridEncoder:
    from ytrue.encoders import KeypointGridEncoder

    landmarks = _landmarks(dataset)
    check_names("keypoints", settings)
    given = dict(settings)
    if "grid" not in given:
        given["stride"] = _strides(choices, settings, (8, 16, 32))  # the study's: levels 3 to 5
    if given.get("slots") == "fixed":
        given.setdefault("points_per_cell", landmarks)
        if dataset.num_classes == 1:
            # The slot tells the landmark, so one number for its presence will do.
            given.setdefault("classes", "object")
    by_object = given.get("classes") == "object"
    return KeypointGridEncoder(
        sides_of(choices.size), num_classes=dataset.num_classes if by_object else landmarks, **given
    )


def _pose(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder:
    from ytrue.encoders import PoseEncoder

    check_names("pose", settings)
    own, rest = _split(settings, _POSE_NAMES)
    of_points, of_boxes = _split(rest, _KEYPOINT_NAMES)
    return PoseEncoder(
        _boxes(choices, dataset, of_boxes), _keypoints(choices, dataset, of_points), **own
    )


def _yolo(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> YoloEncoder:
    from ytrue.anchortuning import fit_anchors
    from ytrue.encoders import YoloEncoder

    check_names("yolo", settings)
    # As YOLOv5: with one place for an object a network learns many times slower.
    given: dict[str, Any] = {"match": "ratio", "neighbours": 2, **settings}
    given.pop("stride", None)
    strides = _strides(choices, settings, (8, 16, 32))
    count = given.pop("anchors", 3)
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"--set anchors={count}: expected how many a cell has, such as 3")
    size = sides_of(choices.size)
    fitted = fit_anchors(dataset, size, count * len(strides), resize=choices.resize)
    anchors = [fitted[k * count : (k + 1) * count] for k in range(len(strides))]
    return YoloEncoder(size, anchors, stride=strides, num_classes=dataset.num_classes, **given)


def _points(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder:
    from ytrue.encoders import FCOSEncoder

    check_names("fcos", settings)
    given = {**settings, "stride": _strides(choices, settings, (8, 16, 32, 64, 128))}
    return FCOSEncoder(sides_of(choices.size), dataset.num_classes, **given)


def _strides(
    choices: Choices, settings: Mapping[str, Any], usual: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the strides that are set; else the usual ones whose grids differ, as small inputs ask."""
    from ytrue.encoders.cellgrid import strides_of

    if settings.get("stride") is not None:
        return strides_of(settings["stride"])
    height, width = sides_of(choices.size)
    grids = [(-(-height // stride), -(-width // stride)) for stride in usual]
    strides = tuple(stride for k, stride in enumerate(usual) if grids.index(grids[k]) == k)
    if strides != usual:
        typer.echo(
            f"--size {choices.size}: of the strides {', '.join(map(str, usual))} only "
            f"{', '.join(map(str, strides))} have grids of their own; the others are left out",
            err=True,
        )
    return strides


def _centers(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder:
    from ytrue.encoders import CenterNetEncoder

    check_names("centernet", settings)
    # The wider heat maps of the published code: with the correct ones a network learns slower.
    given = {"radius": "published", **settings}
    return CenterNetEncoder(sides_of(choices.size), dataset.num_classes, **given)


def _masks(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder:
    from ytrue.encoders import MaskEncoder

    check_names("mask", settings)
    own, rest = _split(settings, _MASK_NAMES)
    return MaskEncoder(_boxes(choices, dataset, rest), **own)


def _polygons(choices: Choices, dataset: Dataset, settings: Mapping[str, Any]) -> Encoder:
    from ytrue.encoders import PolygonEncoder

    check_names("polygon", settings)
    own, rest = _split(settings, _POLYGON_NAMES)
    # Outlines need fine levels, and points wherever a network is to tell their distance.
    yolo = _yolo(choices, dataset, {**rest, "stride": _strides(choices, rest, (8, 16))})
    return PolygonEncoder(yolo, **{"points": "outline"} | own)


def _split(
    settings: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of these names, and the others."""
    own = {name: value for name, value in settings.items() if name in names}
    return own, {name: value for name, value in settings.items() if name not in own}


def _landmarks(dataset: Dataset) -> int:
    """Return how many keypoints an object of the dataset has."""
    if not dataset.num_keypoints:
        raise DataError(
            "the dataset has no keypoints", where=dataset.source,
            do="take COCO person_keypoints, YOLO pose or LabelMe points, or another --task",
        )  # fmt: skip
    return dataset.num_keypoints


def settings_for(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return those of the texts "NAME=VALUE" that a preset of boxes or a task takes."""
    from ytrue.encoders import PRESETS
    from ytrue.encoders.presets import GRID_ARGUMENTS

    takes: tuple[str, ...]
    if name in PRESETS:
        own = GRID_ARGUMENTS if PRESETS[name].own_anchors else ()
        takes = tuple(one for one in _box_names() if one not in own)
    else:
        takes = _names_of(name)
    return tuple(text for text in texts if text.partition("=")[0] in takes)


def _names_of(task: str) -> tuple[str, ...]:
    boxes = _box_names() if task in _ON_ANCHORS else ()
    return tuple(dict.fromkeys((*boxes, *OWN_SETTINGS.get(task, ()))))


def check_names(task: str, settings: Mapping[str, Any]) -> None:
    names = _names_of(task)
    for name in settings:
        if name not in names:
            raise ValueError(f"--set {name}=...: --task {task} takes {', '.join(names)}, no {name}")


OWN_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "keypoints": _KEYPOINT_NAMES,
    "pose": (*_POSE_NAMES, *_KEYPOINT_NAMES),
    "yolo": _YOLO_NAMES,
    "polygon": (*_POLYGON_NAMES, *_YOLO_NAMES),
    "mask": _MASK_NAMES,
    "fcos": _FCOS_NAMES,
    "centernet": _CENTERNET_NAMES,
}

TASK_BUILDERS: Final[Mapping[str, Callable[[Choices, Dataset, Mapping[str, Any]], Encoder]]] = {
    "box": _boxes,
    "keypoints": _keypoints,
    "pose": _pose,
    "yolo": _yolo,
    "polygon": _polygons,
    "mask": _masks,
    "fcos": _points,
    "centernet": _centers,
}
