"""COCO's ten numbers of keypoints, by object keypoint similarity (OKS), by pycocotools itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import Params

from ytrue.model.evaluating.coco import CocoScores, compared, in_order, records
from ytrue.model.evaluating.columns import Truth, truth_of
from ytrue.model.evaluating.keypointresults import FoundKeypoints

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

NUMBERS: Final = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The order of `COCOeval.stats` with keypoints."""
MAX_DETECTIONS: Final = 20
"""Of each class in each image pycocotools looks at so many detections, by falling score."""
UNIFORM_SIGMA: Final = 0.05
"""Of every landmark where there are not COCO's 17."""


@dataclass(frozen=True, eq=False)
class TrueKeypoints:
    """G objects of a dataset with K keypoints.

    Attributes:
        truth: the objects.
        xyv: (G, K, 3) x, y, visibility, pixels; 0 where an object has none.
        empty: (G,) objects without labelled keypoints, or whose file says so.
    """

    truth: Truth
    xyv: NDArray[np.float64]
    empty: NDArray[np.bool_]

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """(G,) objects that nobody is asked for: crowds, and those without labelled keypoints."""
        return self.truth.crowd | self.empty


def true_keypoints(dataset: Dataset) -> TrueKeypoints:
    """Return a dataset's objects and their keypoints as columns."""
    objects, count = dataset.objects, dataset.num_keypoints
    keypoints = objects.keypoints
    if keypoints is None:
        keypoints = np.zeros((len(objects), count, 3))
    xyv = np.nan_to_num(keypoints)
    empty = np.asarray((xyv[..., 2] <= 0).all(axis=1))
    for row, extra in objects.extra.items():
        said = extra.get("num_keypoints")
        # A file that counts otherwise is believed, as pycocotools does.
        if isinstance(said, (int, float)) and not np.isnan(keypoints[row]).any():
            empty[row] = said == 0
    return TrueKeypoints(truth_of(dataset), xyv, empty)


def sigmas_of(count: int, given: Sequence[float] | None) -> NDArray[np.float64]:
    """Return the sigma of each landmark (K,): those given, COCO's of 17, else `UNIFORM_SIGMA`.

    Raises:
        ValueError: not one positive number for each landmark.
    """
    if given is not None:
        sigmas = np.asarray(given, np.float64)
        if sigmas.shape != (count,) or not (np.isfinite(sigmas) & (sigmas > 0)).all():
            raise ValueError(f"sigmas={given}: expected {count} numbers above 0, one a landmark")
        return sigmas
    coco = np.asarray(Params("keypoints").kpt_oks_sigmas, np.float64)
    return coco if count == len(coco) else np.full(count, UNIFORM_SIGMA)


def oks_scores(
    wanted: TrueKeypoints,
    found: FoundKeypoints,
    image_ids: Sequence[Any],
    sigmas: NDArray[np.float64],
) -> CocoScores:
    """Return COCO's numbers for keypoints, in the order of `NUMBERS`.

    Args:
        wanted: the objects; those ignored are places in which detections count neither way.
        found: held against them; beyond `MAX_DETECTIONS` of a class in an image not looked at.
        image_ids: of all images, as in the file: equal scores are ordered by them.
        sigmas: (K,) how exactly each landmark can be told: OKS is exp(-d^2 / (8 sigma^2 area)).

    Reference:
        https://cocodataset.org/#keypoints-eval; `COCOeval.computeOks`.
    """
    truth, detections = wanted.truth, found.detections
    number = in_order(image_ids)
    objects = records(
        truth,
        number,
        area=truth.area,
        iscrowd=truth.crowd.astype(int),
        num_keypoints=(~wanted.empty).astype(int),  # 0 or not is all that it asks
        keypoints=wanted.xyv.reshape(-1, 3 * len(sigmas)),
    )
    given = records(
        detections,
        number,
        area=detections.xywh[:, 2] * detections.xywh[:, 3],
        score=detections.score,
        keypoints=found.xyv.reshape(-1, 3 * len(sigmas)),
    )
    return compared(objects, given, images=len(image_ids), classes=truth.num_classes, sigmas=sigmas)
