"""Augmentation: the library's own `light`, and the border to albumentations.

What comes out depends on (seed, epoch, image id) only, never on which worker did it or when.
Everything that is dropped on the way is counted.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations, Example
from ytrue.cutting import EVERYWHERE, cut
from ytrue.datasets.pixels import (
    Pixels,
    pad_to,
    place_pixels,
    resize_pixels,
    shown_pixels,
)
from ytrue.resizing import Placement, ResizeMode, place, swap_keypoints

Result = tuple[Pixels, Annotations, Counter[str]]
Function = Callable[[Example, Pixels, np.random.Generator], tuple[Pixels, Annotations]]


@dataclass(frozen=True)
class Job:
    """One image to be brought into the frame: what an `Augment` works on."""

    example: Example
    read: Callable[[int], Pixels]  # reduction -> pixels
    frame: tuple[int, int]
    resize: ResizeMode
    pad: tuple[int, int, int]
    keypoint_flips: Sequence[tuple[int, int]] | None
    key: tuple[int, int, str]  # seed, epoch, image id

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.example.height, self.example.width

    @property
    def may_mirror(self) -> bool:
        """Whether it is known which landmarks a mirrored image exchanges."""
        return self.keypoint_flips is not None

    @property
    def where(self) -> str:
        """The image, for messages."""
        return f"{self.example.path}, image {self.example.image_id}"

    def number(self) -> int:
        """Return 63 bits from the key."""
        digest = hashlib.sha256(repr(self.key).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def generator(self) -> np.random.Generator:
        """Return the random numbers of this example in this epoch."""
        return np.random.Generator(np.random.Philox(key=self.number()))


class Augment(Protocol):
    """Brings an example into the frame, changed at random."""

    def __call__(self, job: Job) -> Result:
        """Return (height, width, 3) uint8 pixels, annotations in them, and what was lost."""
        ...


@dataclass(frozen=True)
class Plain:
    """No augmentation: the image is fitted into the frame."""

    def __call__(self, job: Job) -> Result:
        """Return the example fitted into the frame."""
        return _drawn(job, place(job.size, job.frame, job.resize))


@dataclass(frozen=True)
class Light:
    """EfficientDet's own augmentation: flip, scale jitter, crop or pad to the frame.

    The image is resized once, straight from the file's pixels (decoded at reduced size where the
    scale allows) to where it lands.

    Args:
        flip: probability of mirroring left to right.
        scale: (lowest, highest) factor on the size that fits the frame.
        min_side: an object is dropped when cropping leaves a side shorter than this, pixels.

    Reference:
        google/automl efficientdet/dataloader.py, InputProcessor (jitter_min 0.1, jitter_max 2.0).
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.1, 2.0)
    min_side: float = 1.0

    def __call__(self, job: Job) -> Result:
        """Return the example at a random scale and place."""
        random = job.generator()
        flip = bool(random.random() < self.flip) and job.may_mirror
        fitting = place(job.size, job.frame, job.resize).size
        factor = random.uniform(*self.scale)
        height, width = (max(1, round(side * factor)) for side in fitting)
        room = (height - job.frame[0], width - job.frame[1])
        top, left = (int(random.integers(0, slack + 1)) if slack > 0 else 0 for slack in room)
        placement = Placement(job.size, job.frame, (height, width), (top, left), flip)
        return _drawn(job, placement, min_side=self.min_side)


def _drawn(job: Job, placement: Placement, *, min_side: float = 1.0) -> Result:
    pixels = place_pixels(job.read, placement, pad=job.pad, where=job.where)
    annotations, counts = placement.apply_counted(
        job.example.annotations, keypoint_flips=job.keypoint_flips or (), min_side=min_side
    )
    return pixels, annotations, counts


@dataclass(frozen=True, eq=False)
class Called:
    """A function of the user's: (example, pixels, generator) -> (pixels, annotations).

    It is given the image fitted into the frame, without padding, and the annotations in it; what
    it returns is fitted again where its size changed.
    """

    function: Function

    def __call__(self, job: Job) -> Result:
        """Return what the function makes of the fitted example."""
        example, pixels, counts = _fitted(job)
        changed, annotations = self.function(example, pixels, job.generator())
        return _refitted(job, np.asarray(changed), annotations, counts)


class Albumentations:
    """An `albumentations.Compose`: boxes, labels, crowds, keypoints, polygons and masks in step.

    Boxes and keypoints go through the Compose; a polygon's vertices go as keypoints and are cut to
    the frame afterwards; every worker thread has a copy of its own, seeded for each example. The
    Compose's own box and keypoint parameters are replaced, so that no object changes in silence.

    Args:
        compose: the transforms; `bbox_params` and `keypoint_params` need not be set.
        min_side: an object is dropped when a side gets shorter than this, pixels.
    """

    def __init__(self, compose: Any, *, min_side: float = 1.0) -> None:
        self.min_side = min_side
        self._compose = _rebuilt(compose)
        self._own = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"min_side": self.min_side, "_compose": self._compose}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local())

    def __call__(self, job: Job) -> Result:
        """Return the fitted example, transformed."""
        example, pixels, counts = _fitted(job)
        if not hasattr(self._own, "compose"):
            self._own.compose = copy.deepcopy(self._compose)
        compose = self._own.compose
        compose.set_random_seed(job.number() % 2**32)
        changed, annotations, lost, mirrored = _through(compose, pixels, example.annotations)
        counts["dropped: transformed away"] += lost
        if mirrored and annotations.keypoints is not None:
            if job.keypoint_flips is None:
                changed, annotations = _mirrored_back(changed, annotations)
            else:
                swapped = swap_keypoints(annotations.keypoints, job.keypoint_flips)
                annotations = annotations.replace(keypoints=swapped)
        return _refitted(job, changed, annotations, counts, min_side=self.min_side)


def _fitted(job: Job) -> tuple[Example, Pixels, Counter[str]]:
    """Return the example resized to its place in the frame, without the padding."""
    size = place(job.size, job.frame, job.resize).size
    placement = Placement(job.size, size, size)
    pixels = shown_pixels(job.read, placement, where=job.where)
    annotations, counts = placement.apply_counted(job.example.annotations)
    example = Example(
        job.example.image_id, job.example.path, *size, annotations, classes=job.example.classes
    )
    return example, pixels, counts


def _refitted(
    job: Job,
    pixels: Pixels,
    annotations: Annotations,
    counts: Counter[str],
    *,
    min_side: float = 1.0,
) -> Result:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"{job.where}: the augmentation returned {pixels.dtype} pixels of shape {pixels.shape}, "
            "expected uint8 (height, width, 3); leave normalising to pipeline(images=...)"
        )
    height, width = pixels.shape[:2]
    placement = place((height, width), job.frame, job.resize)
    if height <= job.frame[0] and width <= job.frame[1] and job.resize == "letterbox":
        placement = Placement((height, width), job.frame, (height, width))
    # What was moved out of the image by now is no object of it.
    moved, lost = cut(
        annotations.replace(content=None, image_size=None), EVERYWHERE,
        (0.0, 0.0, float(height), float(width)), min_side=min_side,
    )  # fmt: skip
    placed, left = placement.apply_counted(moved, min_side=min_side)
    resized = resize_pixels(np.ascontiguousarray(pixels), placement.size)
    return pad_to(resized, job.frame, job.pad), placed, counts + lost + left


def _albumentations() -> Any:
    # Its import asks the package index for a newer version unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _rebuilt(compose: Any) -> Any:
    """Return the Compose's transforms under box and keypoint parameters that lose nothing."""
    module = _albumentations()
    with warnings.catch_warnings():
        # Transforms of colours alone touch no boxes, which albumentations finds worth a warning.
        warnings.simplefilter("ignore", UserWarning)
        return module.Compose(
            list(compose.transforms),
            p=compose.p,
            # The format by place: AlbumentationsX has renamed it.
            bbox_params=module.BboxParams(
                "pascal_voc", label_fields=["object_index"], min_area=0.0, min_visibility=0.0
            ),
            keypoint_params=module.KeypointParams("xy", remove_invisible=False),
        )


def _mirrored_back(pixels: Pixels, annotations: Annotations) -> tuple[Pixels, Annotations]:
    """Return a mirrored image as it is not: nobody knows which landmarks change names."""
    size = (pixels.shape[0], pixels.shape[1])
    return pixels[:, ::-1], Placement(size, size, size, flip=True).apply(annotations)


def _through(
    compose: Any, pixels: Pixels, annotations: Annotations
) -> tuple[Pixels, Annotations, int, bool]:
    """Return what a Compose makes of an image, how many objects it drops and whether it mirrors."""
    height, width = pixels.shape[:2]
    # Three corners travel along: their order afterwards says whether the image was mirrored.
    corners = np.array([(0, 0), (0, width), (height, 0)], np.float32)
    points, lengths = [corners], []
    if annotations.keypoints is not None:
        points.append(annotations.keypoints[..., :2].reshape(-1, 2))
    for outline in annotations.polygons or ():
        lengths.append([len(part) for part in outline])
        points.extend(outline)
    yx = np.concatenate(points)
    index = np.flatnonzero(boxes.has_area(annotations.boxes))
    arguments: dict[str, Any] = {
        "image": pixels,
        "bboxes": boxes.to_xyxy(boxes.clip(annotations.boxes[index], height, width)),
        "object_index": index.tolist(),
        "keypoints": boxes.points_to_xy(yx),
    }
    masked = [k for k, mask in enumerate(annotations.masks or ()) if mask is not None]
    if masked:
        arguments["masks"] = np.stack(
            [annotations.masks[k].decode() for k in masked]  # type: ignore[index, union-attr]
        )
    result = compose(**arguments)
    kept = np.asarray(result["object_index"], np.intp)
    moved = boxes.points_from_xy(np.asarray(result["keypoints"], np.float32).reshape(-1, 2))
    changes: dict[str, Any] = {"content": None, "image_size": None}
    start = 3
    if annotations.keypoints is not None:
        count = annotations.keypoints.shape[:2]
        placed = moved[start : start + count[0] * count[1]].reshape(*count, 2)
        start += count[0] * count[1]
        keypoints = np.concatenate((placed, annotations.keypoints[..., 2:]), axis=-1)
        changes["keypoints"] = keypoints
    if annotations.polygons is not None:
        changes["polygons"] = _outlines(moved[start:], lengths)
    if annotations.masks is not None:
        coded: list[NDArray[np.generic] | None] = [None] * len(annotations)
        for k, mask in zip(masked, result.get("masks", ()), strict=True):
            coded[k] = np.asarray(mask)
        changes["masks"] = coded
    new = annotations.replace(**changes).select(kept)
    xyxy = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
    new = new.replace(boxes=boxes.from_xyxy(xyxy))
    return result["image"], new, len(annotations) - len(kept), _mirrored(moved[:3])


def _mirrored(corners: NDArray[np.float32]) -> bool:
    across, down = corners[1] - corners[0], corners[2] - corners[0]
    return bool(across[1] * down[0] - across[0] * down[1] < 0)


def _outlines(
    points: NDArray[np.float32], lengths: list[list[int]]
) -> list[tuple[NDArray[np.float32], ...]]:
    outlines, start = [], 0
    for parts in lengths:
        outline = []
        for length in parts:
            outline.append(points[start : start + length])
            start += length
        outlines.append(tuple(outline))
    return outlines


def light() -> Light:
    """Return the default augmentation: flip, scale jitter 0.1 to 2, crop or pad."""
    return Light()


def flip() -> Light:
    """Return mirroring alone."""
    return Light(scale=(1.0, 1.0))


def mild() -> Light:
    """Return `light` with the scale jittered by 0.7 to 1.4 only: for short runs and small sets."""
    return Light(scale=(0.7, 1.4))


def strong() -> Albumentations:
    """Return a stronger one: also colour, blur, noise, small rotations and holes."""
    module = _albumentations()
    return Albumentations(
        module.Compose(
            [
                module.HorizontalFlip(p=0.5),
                module.Affine(scale=(0.5, 1.5), keep_ratio=True, rotate=(-7, 7), translate_percent=(-0.1, 0.1), p=0.9),
                module.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.03, 0.03), p=0.8),
                module.ToGray(p=0.05),
                module.GaussianBlur((3, 5), p=0.1),
                module.GaussNoise(std_range=(0.01, 0.05), p=0.1),
                module.CoarseDropout(
                    num_holes_range=(1, 4), hole_height_range=(0.02, 0.1),
                    hole_width_range=(0.02, 0.1), p=0.2,
                ),
            ]
        ),
        min_side=2.0,
    )  # fmt: skip


NAMED: Final[dict[str, Callable[[], Augment]]] = {
    "none": Plain, "flip": flip, "mild": mild, "light": light, "strong": strong,
}  # fmt: skip


def as_augment(augment: Any) -> Augment:
    """Return what `pipeline(augment=...)` was given as an `Augment`.

    Raises:
        ValueError: an unknown name or something that cannot be called.
    """
    if augment is None:
        return Plain()
    if isinstance(augment, str):
        if augment not in NAMED:
            raise ValueError(f"augment={augment!r}: expected one of {', '.join(NAMED)}")
        return NAMED[augment]()
    if isinstance(augment, (Plain, Light, Called, Albumentations)):
        return augment
    if hasattr(augment, "transforms") and hasattr(augment, "set_random_seed"):
        return Albumentations(augment)
    if callable(augment):
        return Called(augment)
    raise ValueError(
        f"augment={augment!r}: expected a name, an albumentations.Compose, or a function of "
        "(example, pixels, generator)"
    )


__all__ = [
    "Albumentations", "Augment", "Called", "Job", "Light", "NAMED", "Plain", "as_augment", "light",
    "strong",
]  # fmt: skip
