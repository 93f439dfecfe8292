"""The vocabulary: Annotations, RLE, boxes, resizing, errors."""

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ytrue import RLE, Annotations, DataError, Problem, boxes
from ytrue.resizing import place


def test_annotations_know_their_shapes_and_dtypes():
    objects = Annotations(
        [[1, 2, 3, 4]], [5], keypoints=[[[1, 2, 2]]], polygons=[[[[0, 0], [1, 1], [1, 0]]]]
    )
    assert (objects.boxes.dtype, objects.labels.dtype, objects.crowd.dtype) == (
        np.float32,
        np.int32,
        bool,
    )
    assert objects.polygons[0][0].shape == (3, 2)
    assert len(Annotations()) == 0
    assert Annotations().boxes.shape == (0, 4)


WRONG = [
    ({"boxes": [1, 2, 3, 4]}, r"boxes has shape \(4,\), expected \(N, 4\): y_min, x_min"),
    ({"boxes": [[1, 2, 3, 4]], "labels": [1, 2]}, r"labels has shape \(2,\), expected \(1,\)"),
    ({"boxes": [[1, 2, 3, 4]], "labels": [1.5]}, "labels must be whole numbers, got 1.5"),
    (
        {"boxes": [[1, 2, 3, 4]], "labels": [1], "keypoints": [[1, 2]]},
        r"keypoints has shape \(1, 2\)",
    ),
    ({"boxes": [[1, 2, 3, 4]], "labels": [1], "masks": []}, "masks has 0 entries, expected 1"),
    (
        {"boxes": [[1, 2, 3, 4]], "labels": [1], "polygons": [[[1, 2]]]},
        r"a polygon part has shape \(2,\)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_shapes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Annotations(**arguments)


def test_select_takes_everything_along():
    masks = [None, np.eye(4, dtype=np.uint8)]
    objects = Annotations(
        [[0, 0, 1, 1], [1, 1, 2, 2]], [3, 4], [True, False], masks=masks, scores=[0.1, 0.2]
    )
    chosen = objects.select([1])
    assert (chosen.labels[0], bool(chosen.crowd[0]), len(chosen.masks)) == (4, False, 1)
    assert chosen.masks[0].area == 4
    assert chosen == objects.select(np.array([False, True]))
    assert chosen != objects


masks = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.integers(0, 1)
)


@settings(deadline=None, max_examples=100)
@given(masks)
def test_run_lengths_agree_with_pycocotools(mask):
    coded = pycocotools.mask.encode(np.asfortranarray(mask))
    ours = RLE.from_coco(coded["size"], coded["counts"])
    np.testing.assert_array_equal(ours.decode(), mask)
    assert ours == RLE.from_mask(mask) == RLE.from_coco(**ours.to_coco())
    assert ours.area == mask.sum()


def test_damaged_masks_are_refused():
    with pytest.raises(DataError, match="mask runs sum to 5, a 2x3 mask has 6 pixels"):
        RLE.from_coco((2, 3), [5])
    with pytest.raises(DataError, match="cut short or holds a foreign character"):
        RLE.from_coco((2, 3), "\x01")


@settings(deadline=None)
@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3)))
def test_box_orders_come_back(array):
    np.testing.assert_array_equal(boxes.from_xyxy(boxes.to_xyxy(array)), array)
    np.testing.assert_allclose(boxes.from_xywh(boxes.to_xywh(array)), array, atol=1e-9)
    np.testing.assert_allclose(
        boxes.from_cxcywh(boxes.to_cxcywh(array, 7, 9), 7, 9), array, atol=1e-9
    )


def test_box_orders_by_example():
    box = np.array([10.0, 20.0, 40.0, 80.0])  # y_min, x_min, y_max, x_max
    np.testing.assert_array_equal(boxes.to_xyxy(box), [20, 10, 80, 40])
    np.testing.assert_array_equal(boxes.to_xywh(box), [20, 10, 60, 30])
    np.testing.assert_array_equal(boxes.to_cxcywh(box, 100, 100), [0.5, 0.25, 0.6, 0.3])
    assert boxes.iou(box, box + [0, 60, 0, 60]) == 0
    assert boxes.iou(box, box + [0, 30, 0, 30]) == pytest.approx(1 / 3)


PLACED = [
    # image, frame, mode, size, content
    ((480, 640), (512, 512), "letterbox", (384, 512), (0, 0, 384, 512)),
    ((640, 480), (512, 512), "letterbox", (512, 384), (0, 0, 512, 384)),
    ((256, 256), (512, 512), "letterbox", (512, 512), None),
    ((480, 640), (512, 512), "stretch", (512, 512), None),
    ((1, 4000), (512, 512), "letterbox", (1, 512), (0, 0, 1, 512)),
]


@pytest.mark.parametrize(("source", "frame", "mode", "size", "content"), PLACED)
def test_images_are_placed_in_the_frame(source, frame, mode, size, content):
    placement = place(source, frame, mode)
    assert placement.size == size
    assert placement.content == content
    whole = Annotations([[0, 0, *source]], [0], keypoints=[[[*source, 2]]], polygons=[[[(0, 0), (0, source[1]), source]]],
                        masks=[np.ones(source, np.uint8)])  # fmt: skip
    moved = placement.apply(whole)
    np.testing.assert_allclose(moved.boxes[0], (0, 0, *size), atol=1e-3)
    np.testing.assert_allclose(moved.keypoints[0, 0], (*size, 2), atol=1e-3)
    np.testing.assert_allclose(moved.polygons[0][0][2], size, atol=1e-3)
    assert moved.masks[0].area == size[0] * size[1]
    np.testing.assert_allclose(placement.undo(moved.boxes), whole.boxes, atol=1e-3)


def test_placing_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="resize='squash': expected one of letterbox, stretch"):
        place((4, 4), (8, 8), "squash")


def test_errors_say_where_what_and_what_to_do():
    assert str(DataError("is bad", where="a.json", do="mend it")) == "a.json: is bad; mend it"
    problem = Problem("box-empty", "no width", "dropped", "a.json", 7, 9)
    assert problem.where == "a.json, image 7, annotation 9"
    assert str(problem) == "a.json, image 7, annotation 9: no width [box-empty, dropped]"
    assert problem.to_json()["where"] == problem.where
