"""`PoseEncoder`: boxes on anchors and keypoints in cells, taught together and put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations
from ytrue.contract import (
    POSITIVE,
    Given,
    JointAssignment,
    Spec,
    Target,
    part_of,
    parts_of,
)
from ytrue.encoders.anchor import AnchorEncoder
from ytrue.encoders.frozen import Configured, arguments_in, set_numbers
from ytrue.encoders.kernels.assembly import assemble
from ytrue.encoders.keypoints import KeypointGridEncoder

BOX: Final = "box"
KEYPOINTS: Final = "keypoints"
_POINTS: Final = 2000
"""Most points of an image that are put into boxes."""


@dataclass(frozen=True)
class PoseEncoder(Configured):
    """An `AnchorEncoder` and a `KeypointGridEncoder` as one, for objects with landmarks.

    The arrays of a target are those of both, named "box/..." and "keypoints/...", and so are the
    outputs of a network with both heads on one pyramid.

    Detections are put together by one rule: points are visited by falling score (equal scores: in
    the order of `KeypointGridEncoder.decode`). A point asks for the boxes that contain it (borders
    included), each grown by `margin` of its height and width on every side, and have no point of
    its landmark yet; of those whose score is at least `rival_share` of the highest of them, it
    goes to the smallest (equal areas: the higher score). A point without a box is left out.

    Args:
        boxes: makes the targets of the boxes.
        keypoints: makes those of the points; `slots="fixed"` or `classes="landmark"`.
        margin: share of a box's sides, for points that lie a little outside.
        rival_share: keeps points from the many boxes of a low score.

    Raises:
        ValueError: image sizes differ, points that have no landmarks, or a share out of range.

    Example:
        >>> from ytrue.encoders import preset
        >>> encoder = PoseEncoder(
        ...     preset("ytrue", (64, 64), 1), KeypointGridEncoder((64, 64), stride=8, num_classes=2)
        ... )
        >>> sorted(encoder.spec)[:2], len(encoder.spec)
        (['box/box', 'box/label'], 8)
    """

    boxes: AnchorEncoder
    keypoints: KeypointGridEncoder
    margin: float = 0.1
    rival_share: float = 0.5

    def __post_init__(self) -> None:
        sizes = {part.image_size for part in self.encoders.values()}
        if len(sizes) > 1:
            raise ValueError(f"image sizes differ: {sizes}")
        if not self.keypoints.tells_landmarks:
            raise ValueError(
                "keypoints tell no landmarks, of which a box has one each: expected slots='fixed' "
                "or classes='landmark'"
            )
        set_numbers(self, "margin", "rival_share")
        if not self.margin >= 0:
            raise ValueError(f"margin={self.margin}: expected a share of at least 0")
        if not 0 <= self.rival_share <= 1:
            raise ValueError(f"rival_share={self.rival_share}: expected a share in [0, 1]")

    @property
    def encoders(self) -> Mapping[str, AnchorEncoder | KeypointGridEncoder]:
        """Name -> encoder."""
        return {BOX: self.boxes, KEYPOINTS: self.keypoints}

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        return self.boxes.image_size

    @property
    def num_classes(self) -> int:
        """Number of the objects' classes."""
        return self.boxes.num_classes

    @property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target."""
        return _named({part: encoder.spec for part, encoder in self.encoders.items()})

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        return {
            "encoder": "pose",
            "boxes": self.boxes.config(),
            "keypoints": self.keypoints.config(),
            "margin": self.margin,
            "rival_share": self.rival_share,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PoseEncoder:
        """Return the encoder that `config()` described; see `Configured`."""
        values = arguments_in(config, "pose")
        return cls(
            AnchorEncoder.from_config(values.pop("boxes")),
            KeypointGridEncoder.from_config(values.pop("keypoints")),
            **values,
        )

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays, on all cores.

        Raises:
            ValueError: as the parts' `encode_batch`.
        """
        return _named({part: one.encode_batch(batch) for part, one in self.encoders.items()})

    def explain(self, annotations: Given) -> JointAssignment:
        """Return what each part decided."""
        return JointAssignment(
            {part: one.explain(annotations) for part, one in self.encoders.items()}
        )

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return where each part's losses count."""
        split = parts_of(target)
        return _named({part: one.masks(split[part]) for part, one in self.encoders.items()})

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the parts' dense layouts, "box/P3", "keypoints/32x24" and so on."""
        split = parts_of(target)
        return _named({part: one.pack(split[part]) for part, one in self.encoders.items()})

    def decode(self, arrays: Mapping[str, NDArray[Any]], **options: Any) -> Annotations:
        """Return the objects that one example's arrays stand for, with keypoints.

        Args:
            arrays: a target, as `encode` returns it: every object that owns an anchor comes back,
                with the points it owns as visible and the others as unlabelled. Or a prediction,
                {"box/class", "box/box", "keypoints/class", "keypoints/xy"}: scored boxes with the
                points that were put into them.
            options: for predictions: those of `detect`.

        Raises:
            ValueError: arrays that are neither.
        """
        split = parts_of(arrays)
        missing = [part for part in self.encoders if part not in split]
        if missing:
            raise ValueError(
                f"decode got arrays named {sorted(arrays)}: those of {', '.join(missing)} are missing"
            )
        if "class" in split[BOX]:
            return self.detect(
                partial(self.boxes.decode, split[BOX]),
                partial(self.keypoints.decode, split[KEYPOINTS]),
                **options,
            )
        boxes, points = (one.decode(split[part]) for part, one in self.encoders.items())
        owners, holders = (_owners(split[part]) for part in self.encoders)
        keypoints = np.zeros((len(boxes), self.keypoints.num_landmarks, 3), np.float32)
        _, row, found = np.intersect1d(owners, holders, return_indices=True)
        assert points.keypoints is not None  # the part decodes nothing else
        keypoints[row] = points.keypoints[found]
        return boxes.replace(keypoints=keypoints)

    def detect(
        self,
        boxes: Callable[..., Annotations],
        points: Callable[..., Annotations],
        *,
        score_threshold: float = 0.05,
        point_threshold: float = 0.05,
        duplicate_radius: float = 0.5,
        **options: Any,
    ) -> Annotations:
        """Return a prediction's boxes with the points that were put into them.

        Args:
            boxes: finds the boxes; takes the options of `AnchorEncoder.decode`.
            points: finds the points; takes those of `KeypointGridEncoder.decode`.
            score_threshold: lowest score of a box, which is the object's.
            point_threshold: lowest score of a point.
            duplicate_radius: see `KeypointGridEncoder.decode`.
            options: further ones of the boxes.
        """
        found = boxes(score_threshold=score_threshold, **options)
        parts = points(
            score_threshold=point_threshold, duplicate_radius=duplicate_radius,
            max_detections=_POINTS,
        )  # fmt: skip
        return found.replace(keypoints=self._assembled(found, parts))

    def _assembled(self, boxes: Annotations, points: Annotations) -> NDArray[np.float32]:
        """Return (N, K, 3) keypoints of boxes from points of one landmark each."""
        keypoints = np.zeros((len(boxes), self.keypoints.num_landmarks, 3), np.float32)
        given = points.keypoints
        assert given is not None  # the part decodes nothing else
        landmark = given[..., 2].argmax(axis=1) if len(given) else np.zeros(0, np.int64)
        yx = np.ascontiguousarray(given[np.arange(len(points)), landmark, :2])
        scores = np.asarray(boxes.scores, np.float32)
        margin, share = np.float32(self.margin), np.float32(self.rival_share)
        assemble(yx, landmark, boxes.boxes, scores, margin, share, keypoints)
        return keypoints


def _named(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {part_of(part, name): x for part in parts for name, x in parts[part].items()}


def _owners(target: Mapping[str, NDArray[Any]]) -> NDArray[np.int32]:
    """Return the objects that own something, by rising index."""
    owners: NDArray[np.int32] = np.unique(target["object"][target["state"] == POSITIVE])
    return owners
