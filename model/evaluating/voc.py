"""Pascal VOC's average precision at IoU 0.5, in the form since 2010 and in that of 2007."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ytrue.model.evaluating.columns import Detections, Truth
from ytrue.model.evaluating.overlaps import Overlaps, by_score

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VocScores:
    """VOC's AP of each class, nan where the class has no object that counts.

    Attributes:
        ap: (C,) the area under the whole curve (VOC2010 and later).
        ap_11: (C,) the mean over 11 recalls (VOC2007).
    """

    ap: NDArray[np.float64]
    ap_11: NDArray[np.float64]


def voc_scores(truth: Truth, detections: Detections, overlaps: Overlaps) -> VocScores:
    """Return VOC's AP at IoU 0.5 of each class.

    By falling score, a detection is held against the object of its class that it overlaps most,
    taken or not. An IoU of 0.5 or more is a hit the first time and a false alarm afterwards.
    What falls on a difficult object counts neither way, nor does the object; crowds, which VOC
    does not know, are treated alike.

    Reference: VOCevaldet.m of the VOC development kit.
    """
    skipped = truth.difficult | truth.crowd
    hit, counts = _judged(truth, detections, overlaps, skipped)
    wanted = truth.count(~skipped)
    order = by_score(detections)
    order = order[counts[order]]
    ap, ap_11 = (np.full(truth.num_classes, np.nan) for _ in range(2))
    for label in np.flatnonzero(wanted):
        hits = hit[order[detections.label[order] == label]]
        recall, precision = curve(hits, int(wanted[label]))
        ap[label] = area_under(recall, precision)
        ap_11[label] = eleven_points(recall, precision)
    return VocScores(ap, ap_11)


def _judged(
    truth: Truth, detections: Detections, overlaps: Overlaps, skipped: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections (D,) are hits, and which count at all."""
    same = truth.label[overlaps.object] == detections.label[overlaps.detection]
    detection, object_ = overlaps.detection[same], overlaps.object[same]
    # Pairs come by falling score, then falling IoU: the first of each detection is its object.
    first = np.ones(len(detection), bool)
    first[1:] = detection[1:] != detection[:-1]
    detection, object_ = detection[first], object_[first]
    counts = np.ones(len(detections), bool)
    counts[detection[skipped[object_]]] = False
    detection, object_ = detection[~skipped[object_]], object_[~skipped[object_]]
    hit = np.zeros(len(detections), bool)
    hit[detection[np.unique(object_, return_index=True)[1]]] = True
    return hit, counts


def curve(hits: NDArray[np.bool_], wanted: int) -> tuple[Curve, Curve]:
    """Return recall and precision (D,) after each of a class's detections, by falling score."""
    found = np.cumsum(hits)
    return found / wanted, found / np.arange(1, len(hits) + 1)


def area_under(recall: Curve, precision: Curve) -> float:
    """Return the area under the curve, precision being the highest at that recall or beyond."""
    reached = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * reached).sum())


def eleven_points(recall: Curve, precision: Curve) -> float:
    """Return the mean of the highest precision at recalls of at least 0, 0.1, ..., 1."""
    return float(np.mean([precision[recall >= k / 10].max(initial=0.0) for k in range(11)]))
