"""`fit_anchors`: what it returns is a fixed point of its rounds, and nothing is left to chance."""

from dataclasses import replace

import numpy as np
import pytest

from ytrue import DataError
from ytrue.anchortuning import _ious, _sides, fit_anchors
from ytrue.datasets import load, write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zz-anchors")
    return load(write_shapes(folder, num_images=20, image_size=(192, 256), seed=2))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_anchors_are_the_medians_of_the_objects_nearest_to_them(shapes, count):
    anchors = fit_anchors(shapes, (96, 128), count)
    assert len(anchors) == count
    areas = [tall * wide for tall, wide in anchors]
    assert areas == sorted(areas)
    sides = _sides(shapes, (96, 128), "letterbox")
    nearest = _ious(sides, np.array(anchors)).argmax(axis=1)
    for k, anchor in enumerate(anchors):
        np.testing.assert_allclose(np.median(sides[nearest == k], axis=0), anchor, atol=0.01)
    assert fit_anchors(shapes, (96, 128), count) == anchors


def test_sides_are_those_of_the_input(shapes):
    truth = shapes[0].annotations
    first = truth.boxes[~truth.crowd][0]
    whole = _sides(shapes, (192, 256), "letterbox")
    np.testing.assert_allclose(whole[0], first[2:] - first[:2], rtol=1e-5)
    np.testing.assert_allclose(_sides(shapes, (96, 64), "stretch")[0], whole[0] * (0.5, 0.25))


def test_sides_end_where_the_image_ends(shapes):
    """As the encoder sees them: of a box that overhangs, what is inside."""
    first = np.flatnonzero(~shapes.objects.crowd)[0]
    xywh = shapes.objects.xywh.copy()
    xywh[first] = (-30, 150, 90, 100)  # of an image of 192 x 256
    hanging = replace(shapes, objects=replace(shapes.objects, xywh=xywh))
    np.testing.assert_allclose(_sides(hanging, (96, 512), "stretch")[0], (42 * 0.5, 60 * 2))


def test_what_cannot_be_fitted_is_named(shapes):
    with pytest.raises(ValueError, match="count=0: expected at least 1"):
        fit_anchors(shapes, (96, 128), 0)
    with pytest.raises(DataError, match="3 anchors for objects of 0 different sizes"):
        fit_anchors(shapes.subset([]), (96, 128), 3)
