"""What is checked in every dataset: bounds at equality, on images that are not square."""

import numpy as np
import pytest
from datafiles import coco

from ytrue.datasets import load
from ytrue.datasets.building import DatasetBuilder

WIDE = (40, 600)  # height, width: the tolerance is 6 px
SMALL = (40, 60)  # 2 px

# image, box x, y, width, height; problem, box kept as y_min, x_min, y_max, x_max
OVERHANGS = [
    (SMALL, [-0.005, 5, 10, 3], None, (5, -0.005, 8, 9.995)),
    (SMALL, [-0.0051, 5, 10, 3], "box-overhang", (5, 0, 8, 9.9949)),
    (SMALL, [5, -0.0051, 10, 3], "box-overhang", (0, 5, 2.9949, 15)),
    (SMALL, [-2, 5, 10, 3], "box-overhang", (5, 0, 8, 8)),
    (SMALL, [5, -2, 10, 3], "box-overhang", (0, 5, 1, 15)),
    (SMALL, [55, 5, 7, 3], "box-overhang", (5, 55, 8, 60)),
    (SMALL, [5, 35, 10, 7], "box-overhang", (35, 5, 40, 15)),
    (SMALL, [-2.001, 5, 10, 3], "box-overhang-large", (5, -2.001, 8, 7.999)),
    (SMALL, [5, 35, 10, 7.001], "box-overhang-large", (35, 5, 42.001, 15)),
    (WIDE, [-6, 5, 10, 3], "box-overhang", (5, 0, 8, 4)),
    (WIDE, [5, 35, 10, 11], "box-overhang", (35, 5, 40, 15)),
    (WIDE, [-6.001, 5, 10, 3], "box-overhang-large", (5, -6.001, 8, 3.999)),
    (WIDE, [5, 35, 10, 11.001], "box-overhang-large", (35, 5, 46.001, 15)),
    (SMALL, [60, 5, 1, 3], "box-outside", None),
    (SMALL, [5, 40, 1, 3], "box-outside", None),
    (SMALL, [59.999, 5, 1, 3], "box-overhang", (5, 59.999, 8, 60)),
    (SMALL, [5, 39.999, 1, 3], "box-overhang-large", (39.999, 5, 42.999, 6)),
    (SMALL, [-1, 5, 1, 3], "box-outside", None),
    (SMALL, [5, -3, 1, 3], "box-outside", None),
    (SMALL, [-1, 5, 1.5, 3], "box-overhang", (5, 0, 8, 0.5)),
]  # fmt: skip


@pytest.mark.parametrize(("size", "box", "problem", "left"), OVERHANGS)
def test_boxes_at_the_edge(size, box, problem, left, tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}]
    dataset = load(coco(tmp_path, [{"bbox": box}], images=images))
    assert [p.kind for p in dataset.problems] == ([problem] if problem else [])
    assert dataset.num_objects == (left is not None)
    if left is not None:
        np.testing.assert_allclose(dataset[0].annotations.boxes[0], left, rtol=1e-6)


def built(tmp_path, *, image=None, **shape):
    builder = DatasetBuilder(tmp_path, format="test", images=tmp_path)
    sizes = {"height": 40, "width": 60} | (image or {})
    row = builder.image(file="a.txt", image_id="a", file_name="a.jpg", **sizes)
    builder.object(row, label=0, box=(1, 2, 3, 4))
    builder.object(row, label=0, **({"box": (5, 6, 7, 9)} | shape))
    return builder.finish(classes=["x"], class_ids=[0])


HUGE = 10**400
SHAPES = [
    ({"box": (5, 6, HUGE, 9)}, "box-not-finite", 1),
    ({"box": (5, 6, float("nan"), 9)}, "box-not-finite", 1),
    ({"box": (5, 6, 7, 1e9 + 100)}, "box-not-finite", 1),
    ({"polygons": [[(1, 2), (3, HUGE), (5, 9)], [(1, 2), (3, 4), (5, 9)]]}, "polygon-invalid", 2),
    ({"polygons": [[(1, 2), (3, 4), (5, 9)], [(1, 2), (3, -2e9), (5, 9)]]}, "polygon-invalid", 2),
    ({"polygons": [[(1, 2), (3, float("nan")), (5, 9)], [(1, 2), (3, 4), (5, 9)]]}, "polygon-invalid", 2),
    ({"keypoints": [(1, HUGE, 2)]}, "keypoints-invalid", 2),
    ({"keypoints": [(-HUGE, 2, 2)]}, "keypoints-invalid", 2),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kind", "left"), SHAPES)
def test_every_format_is_checked_for_what_lies_nowhere(shape, kind, left, tmp_path):
    dataset = built(tmp_path, **shape)
    found = [p for p in dataset.problems if p.kind != "images-missing"]
    assert [(p.kind, p.file, p.annotation_id) for p in found] == [(kind, "a.txt", 2)]
    assert dataset.num_objects == left
    if kind == "polygon-invalid":
        (part,) = dataset[0].annotations.polygons[1]
        np.testing.assert_array_equal(part, [[1, 2], [3, 4], [5, 9]])


@pytest.mark.parametrize("side", [2**31, -1, HUGE, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["height", "width"])
def test_a_size_beyond_all_measure_costs_the_size(which, side, tmp_path):
    dataset = built(tmp_path, image={which: side})
    kinds = [problem.kind for problem in dataset.problems]
    assert kinds == ["image-size-invalid", "images-missing", "image-size-unknown"]
    assert len(dataset.problems[0].detail) < 200
    assert len(built(tmp_path, image={which: 2**31 - 1})) == 1


TALL = {"id": 1, "file_name": "a.jpg", "height": 60, "width": 40}
FORMS = [  # boxes as the file has them; what is said of all
    ([[0.1, 0.2, 0.3, 0.4 + 0.01 * k] for k in range(9)] + [[5, 5, 9, 9]], None),  # 9 of 10
    (
        [[0.1, 0.2, 0.3, 0.4 + 0.01 * k] for k in range(19)] + [[5, 5, 9, 9]],
        "boxes-look-normalised",
    ),
    ([[25, 2 + k, 39, 12 + k] for k in range(4)], "boxes-look-xyxy"),  # beyond in x alone
    ([[2 + k, 35, 12 + k, 58] for k in range(4)], "boxes-look-xyxy"),  # in y alone
    ([[25, 2 + k, 15, 12 + k] for k in range(4)], None),  # it ends at 40
]


@pytest.mark.parametrize(("boxes", "said"), FORMS)
def test_boxes_of_another_form_are_told_by_most_of_them(boxes, said, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": box} for box in boxes], images=[TALL]))
    found = [p.kind for p in dataset.problems if p.kind.startswith("boxes-look")]
    assert found == ([said] if said else [])
