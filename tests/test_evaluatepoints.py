"""Evaluation of points and keypoints: equal to a plain reference, and to pycocotools."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from datafiles import coco
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from reference import points as plain
from ytrue import Annotations, DataError, viz
from ytrue.datasets import load, write_shapes
from ytrue.encoders import KeypointGridEncoder
from ytrue.model.evaluatepoints import (
    evaluate_keypoints,
    evaluate_points,
    keypoint_records,
    point_records,
)

NAMES = ["nose", "left_eye", "right_eye"]
CATEGORIES = [{"id": 7, "name": "cat", "keypoints": NAMES}, {"id": 3, "name": "dog"}]
SIZED = {"id": 1, "file_name": "not_written.jpg", "height": 100, "width": 200}


def dataset_of(folder, annotations, *, images=None, categories=None):
    """A dataset of one 100 x 200 image (id 1), dogs (3) and cats (7), of three landmarks."""
    images, categories = images or [SIZED], categories or CATEGORIES
    return load(coco(folder, annotations, images=images, categories=categories, write_images=False))


def animal(*points, box=(0, 0, 50, 40), **fields):
    """An annotation with these (x, y, visibility), the others unlabelled."""
    flat = [number for point in points for number in point] + [0] * (3 * (3 - len(points)))
    return {"bbox": list(box), "keypoints": flat, **fields}


def found(landmark, x, y, score=0.5, image_id=1):
    return {"image_id": image_id, "landmark": landmark, "point": [x, y], "score": score}


def row_of(report, name):
    return next(row for row in report.rows if row.name == name)


# Points, by hand.


def test_points_are_found_missed_or_false_alarms(tmp_path):
    dataset = dataset_of(
        tmp_path,
        [
            animal((10, 10, 2), (40, 10, 1)),  # radius: 0.05 * 200 = 10
            animal((100, 50, 2)),
        ],
    )
    report = evaluate_points(
        dataset,
        [
            found("nose", 13, 14, 0.9),  # 5 from the first nose
            found("nose", 10, 12, 0.8),  # nearer, but it is taken: a false alarm
            found("nose", 110, 50, 0.7),  # exactly on the border of the second
            found("left_eye", 40, 21, 0.6),  # 11: beyond
            found("left_eye", 40, 10, 0.2),  # below the threshold
            found("right_eye", 5, 5, 0.6),  # nobody has one
        ],
    )
    nose = row_of(report, "nose")
    assert (nose.points, nose.detections, nose.hits, nose.pck) == (2, 3, 2, 1.0)
    assert nose.precision == pytest.approx(2 / 3)
    assert nose.f1 == pytest.approx(4 / 5)
    assert (nose.mean_error, nose.median_error) == (7.5, 7.5)
    assert nose.nearest_error == (2 + 10) / 2  # the nearer one, though it took nothing
    assert nose.ap == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    eye = row_of(report, "left_eye")
    assert (eye.hits, eye.pck, eye.precision, eye.f1, eye.mean_error) == (0, 0, 0, 0, None)
    assert (eye.nearest_error, eye.without) == (11, 0)
    assert eye.ap == 1 / 2  # at any score
    right = row_of(report, "right_eye")
    assert (right.points, right.detections, right.pck, right.ap) == (0, 1, None, None)
    assert (right.precision, right.f1, right.nearest_error) == (0, 0, None)
    overall = report.overall
    assert (overall.points, overall.detections, overall.hits) == (3, 5, 2)
    assert overall.pck == pytest.approx(2 / 3)
    assert overall.nearest_error == pytest.approx((2 + 10 + 11) / 3)
    assert overall.ap == pytest.approx((nose.ap + eye.ap) / 2)
    assert report.image_f1 == pytest.approx([4 / 8])
    assert (report.num_points, report.num_detections) == (3, 6)
    np.testing.assert_array_equal(report.point_row, [0, 1, 0])
    np.testing.assert_array_equal(report.point_error, [5, np.nan, 10])
    np.testing.assert_array_equal(report.point_nearest, [2, 11, 10])


def test_a_detection_takes_the_nearest_and_the_higher_score_is_first(tmp_path):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2)), animal((20, 10, 2))])
    results = [found("nose", 14, 10, 0.8), found("nose", 13, 10, 0.9)]
    # The second takes the first point; the first, nearer to that one, is left with the other.
    report = evaluate_points(dataset, results)
    np.testing.assert_array_equal(report.point_error, [3, 6])
    np.testing.assert_array_equal(
        evaluate_points(dataset, [found("nose", 18, 10)]).point_error, [np.nan, 2]
    )
    # At equal scores the first goes first, and of points equally near the first is taken.
    level = [found("nose", 15, 10), found("nose", 12, 10)]
    np.testing.assert_array_equal(evaluate_points(dataset, level).point_error, [5, 8])


def test_the_radius_is_of_the_image_or_of_the_object(tmp_path):
    small, large = animal((10, 10, 2), box=(0, 0, 20, 10)), animal((90, 50, 2), box=(0, 0, 40, 80))
    dataset = dataset_of(tmp_path, [small, large])
    for radius, of, distance, hits in (
        (0.1, "image", 20, 2),
        (0.1, "image", 20.001, 0),
        (0.1, "object", 2, 2),
        (0.1, "object", 2.001, 1),
        (0.1, "object", 8.001, 0),
    ):
        results = [found("nose", x, y + distance) for x, y in ((10, 10), (90, 50))]
        report = evaluate_points(dataset, results, radius=radius, of=of)
        assert report.overall.hits == hits, (of, distance)


def test_points_of_crowds_count_neither_way(tmp_path):
    crowd = animal((50, 50, 2), iscrowd=1)
    other = animal((150, 20, 1), iscrowd=1)
    dataset = dataset_of(tmp_path, [crowd, animal((52, 50, 2)), other])
    results = [
        found("nose", 150, 30, 0.95),  # excused, on the border of the other crowd's
        found("nose", 50, 50, 0.9),  # on the crowd's point, but it finds the other
        found("nose", 51, 50, 0.8),  # excused
        found("nose", 53, 50, 0.1),  # excused, below the threshold
        found("nose", 100, 50, 0.8),
        found("left_eye", 50, 50, 0.8),  # another landmark
    ]
    report = evaluate_points(dataset, results)
    nose = row_of(report, "nose")
    assert (nose.points, nose.hits, nose.detections, nose.excused) == (1, 1, 2, 2)
    assert nose.ap == 1  # as if the excused were not there
    assert row_of(report, "left_eye").detections == 1
    assert (report.num_points, report.num_crowd_points) == (1, 2)
    assert report.image_f1 == pytest.approx([2 / (1 + 3)])
    assert evaluate_points(dataset.subset([0]), results[:1]).overall.without == 0


def test_points_without_a_detection_of_their_landmark_are_counted(tmp_path):
    images = [SIZED, {**SIZED, "id": 2, "file_name": "not_written_2.jpg"}]
    annotations = [animal((10, 10, 2)), animal((10, 10, 2), image_id=2)]
    dataset = dataset_of(tmp_path, annotations, images=images)
    report = evaluate_points(dataset, [found("nose", 10, 50), found("left_eye", 10, 10, 0.9, 2)])
    nose = row_of(report, "nose")
    assert (nose.nearest_error, nose.without, nose.mean_error) == (40, 1, None)
    np.testing.assert_array_equal(report.image_f1, [0, 0])
    high = evaluate_points(dataset, [found("nose", 10, 50)], score_threshold=0.6)
    assert (high.overall.without, high.overall.precision, high.overall.f1) == (2, None, 0)


def test_by_class_any_landmark_of_the_class_is_a_hit(tmp_path):
    dataset = dataset_of(
        tmp_path, [animal((10, 10, 2), (50, 10, 2)), animal((90, 50, 2), category_id=7)]
    )
    results = [
        {"image_id": 1, "category_id": c, "point": [x, y], "score": 0.9}
        for c, x, y in ((3, 50, 10), (3, 11, 10), (3, 90, 50), (7, 90, 52))
    ]
    report = evaluate_points(dataset, results, by="class")
    dog, cat = (row_of(report, name) for name in ("dog", "cat"))
    assert (dog.points, dog.hits, dog.detections) == (2, 2, 3)
    assert (cat.points, cat.hits, cat.mean_error) == (1, 1, 2)
    assert "classes" in report.to_json()
    scored = {
        1: Annotations(
            np.zeros((4, 4)), [0, 0, 0, 1], scores=[0.9] * 4,
            keypoints=[[(10, 50, 2)], [(10, 11, 2)], [(50, 90, 1)], [(52, 90, 2)]],
        )
    }  # fmt: skip
    assert evaluate_points(dataset, scored, by="class").to_json() == report.to_json()
    records = point_records(scored, dataset.keypoint_names, class_ids=dataset.class_ids)
    assert sorted(map(str, records)) == sorted(map(str, [
        each | {"point": [float(n) for n in each["point"]], "score": float(np.float32(0.9))}
        for each in results
    ]))  # fmt: skip


# Points, against the plain reference.

COORDINATES = st.integers(0, 12)


@st.composite
def scenes(draw):
    """Points and detections of few images and landmarks, close together, with ties of all kinds."""
    images, keys = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1, 2, 3]))
    places = st.tuples(COORDINATES, COORDINATES)
    objects = draw(
        st.lists(
            st.tuples(
                st.integers(0, images - 1), st.sampled_from([False, False, False, True]), st.sampled_from([3, 7]),
                st.lists(st.one_of(places, places, st.none()), min_size=keys, max_size=keys),
                st.tuples(st.integers(1, 30), st.integers(1, 30)),
            ),
            min_size=3,
            max_size=8,
        )
    )  # fmt: skip
    detections = draw(
        st.lists(
            st.tuples(
                st.integers(0, images - 1), st.integers(0, keys - 1), places,
                st.sampled_from([0.1, 0.25, 0.5, 0.75]),
            ),
            min_size=4,
            max_size=16,
        )
    )  # fmt: skip
    return images, keys, objects, detections


def as_dataset(tmp_path_factory, images, keys, objects):
    names = [f"landmark {k}" for k in range(keys)]
    categories = [{"id": 7, "name": "cat", "keypoints": names}, {"id": 3, "name": "dog"}]
    annotations = [
        {
            "image_id": image + 1, "category_id": category, "iscrowd": int(crowd),
            "bbox": [0, 0, *size],
            "keypoints": [n for at in places for n in ((*at[::-1], 2) if at else (0, 0, 0))],
        }
        for image, crowd, category, places, size in objects
    ]  # fmt: skip
    sizes = [{**SIZED, "id": i + 1, "file_name": f"{i}.jpg", "width": 40 + 20 * i, "height": 40}
             for i in range(images)]  # fmt: skip
    folder = tmp_path_factory.mktemp("scene")
    return dataset_of(folder, annotations, images=sizes, categories=categories)


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([0.05, 0.125, 0.25]), st.sampled_from(["image", "object"]),
       st.sampled_from(["landmark", "class"]), st.sampled_from([0.2, 0.25, 0.6, 0.9]))  # fmt: skip
def test_every_number_is_the_plain_references(
    tmp_path_factory, scene, radius, of, by, score_threshold
):
    images, keys, objects, detections = scene
    dataset = as_dataset(tmp_path_factory, images, keys, objects)
    order = [0, 1] if by == "class" else list(range(keys))
    detections = [d for d in detections if by == "landmark" or d[1] < 2]
    label_of = {class_id: label for label, class_id in enumerate(dataset.class_ids)}
    if by == "class":
        results = [{"image_id": i + 1, "category_id": dataset.class_ids[k], "point": [x, y], "score": s}
                   for i, k, (y, x), s in detections]  # fmt: skip
    else:
        results = [found(f"landmark {k}", x, y, s, i + 1) for i, k, (y, x), s in detections]
    wanted = [
        (
            image, landmark if by == "landmark" else label_of[category],
            place, radius * (40 + 20 * image if of == "image" else max(size)), crowd,
        )
        for image, crowd, category, places, size in objects
        for landmark, place in enumerate(places)
        if place
    ]  # fmt: skip
    if dataset.objects.keypoints is None:
        wanted = []
    report = evaluate_points(
        dataset, results, radius=radius, of=of, by=by, score_threshold=score_threshold
    )
    for scores, key in ((report.overall, None), *zip(report.rows, order, strict=True)):
        expected = plain.numbers(wanted, detections, score_threshold, key)
        for name in ("points", "detections", "excused", "hits", "without"):
            assert getattr(scores, name) == expected[name], name
        for values, number in ((expected["errors"], scores.mean_error),
                               (expected["nearest"], scores.nearest_error)):  # fmt: skip
            assert number == pytest.approx(np.mean(values), rel=1e-12) if values else number is None
        if expected["errors"]:
            assert scores.median_error == np.median(expected["errors"])
        if key is not None:
            ap = plain.average_precision(wanted, detections, key)
            assert scores.ap == (ap if ap is None else pytest.approx(ap, abs=1e-12))
    taken_by, _ = plain.match(wanted, [d for d in detections if d[3] >= score_threshold])
    above = [d for d in detections if d[3] >= score_threshold]
    errors = [
        math.nan if by_ is None else plain.distance(point[2], above[by_][2])
        for point, by_ in zip(wanted, taken_by, strict=True)
        if not point[4]
    ]
    np.testing.assert_array_equal(report.point_error, errors)


def test_it_is_the_same_in_blocks_of_any_length(shapes, monkeypatch):
    results = noisy_points(shapes, 3)
    whole = evaluate_points(shapes, results, radius=0.2).to_json()
    monkeypatch.setattr("ytrue.model.evaluating.points._PAIRS", 3)
    assert evaluate_points(shapes, results, radius=0.2).to_json() == whole


# Points, in and out.


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return load(write_shapes(tmp_path_factory.mktemp("shapes"), num_images=12))


def noisy_points(dataset, seed):
    """Image id -> every second object with its keypoints moved, and a false alarm."""
    rng = np.random.default_rng(seed)
    scored = {}
    for example in dataset:
        objects = example.annotations
        moved = objects.keypoints[::2] + 0
        moved[..., :2] += rng.normal(0, 8, moved[..., :2].shape).astype(np.float32)
        scored[example.image_id] = Annotations(
            objects.boxes[::2], objects.labels[::2], keypoints=moved,
            scores=rng.random(len(moved)),
        )  # fmt: skip
    return scored


def test_annotations_their_records_and_a_file_are_the_same_to_it(shapes, tmp_path):
    scored = noisy_points(shapes, 1)
    report = evaluate_points(shapes, scored)
    assert 0 < report.overall.pck < 1
    records = point_records({np.int64(i): one for i, one in scored.items()}, shapes.keypoint_names)
    assert len(records) == report.num_detections
    (tmp_path / "r.json").write_text(json.dumps(records))
    numbered = point_records(scored)
    assert {type(record["landmark"]) for record in numbered} == {int}
    for results in (records, numbered, tmp_path / "r.json", str(tmp_path / "r.json")):
        assert evaluate_points(shapes, results).to_json() == report.to_json()


def test_what_is_right_is_perfect_whatever_the_dataset(shared_data, shapes):
    for name in (
        None,
        "coco_tiny50_ccby_train/annotations/person_keypoints_train2017.json",
        "mmpose_kp_a/ap10k/test_ap10k.json",
        "mmpose_kp_a/zebra/test_zebra.json",
        "mmpose_kp_a/fly/test_fly.json",
        "mmpose_kp_a/locust/test_locust.json",
    ):
        dataset = shapes if name is None else load(shared_data / name)
        scored = {
            example.image_id: example.annotations.replace(scores=np.ones(len(example.annotations)))
            for example in dataset
        }
        for of in ("image", "object"):
            for by in ("landmark", "class"):
                overall = evaluate_points(dataset, scored, of=of, by=by).overall
                assert overall.points > 0
                assert overall.hits == overall.points
                assert overall.detections == overall.points
                assert (overall.precision, overall.ap) == (1, pytest.approx(1))
                assert overall.mean_error == pytest.approx(0, abs=1e-4)
                assert overall.without == 0
        # Every keypoint of a detected object is a place: those that nobody labelled would be wrong.
        whole = {
            image: one.select(~one.crowd & (one.keypoints[..., 2] > 0).any(axis=1))
            for image, one in scored.items()
        }
        exact = evaluate_keypoints(dataset, whole)
        assert exact.num_detections == exact.num_objects
        assert exact.ap == pytest.approx(1, abs=1e-12), name


@pytest.mark.parametrize("classes", ["landmark", "object"])
def test_an_encoders_targets_come_back_as_hits(shapes, classes):
    size = (int(shapes.images.height[0]), int(shapes.images.width[0]))
    encoder = KeypointGridEncoder(size, stride=4, num_classes=4, points_per_cell=4, classes=classes)
    decoded = {}
    for example in shapes:
        target = encoder.encode(example.annotations)
        logits = {"class": np.where(target["label"] > 0, 8.0, -8.0)}
        with np.errstate(divide="ignore"):
            logits["xy"] = np.log(target["offset"] / (1 - target["offset"]))
        decoded[example.image_id] = encoder.decode(logits, max_detections=1000)
    by = "landmark" if classes == "landmark" else "class"
    overall = evaluate_points(shapes, decoded, by=by).overall
    # Two points of one corner (a square's left and bottom) are one to an encoder of object classes.
    assert overall.pck == 1 if classes == "landmark" else 0.9 < overall.pck < 1
    assert overall.precision == 1
    assert overall.mean_error < 1e-4


def test_landmarks_without_names_are_numbers(tmp_path):
    categories = [{"id": 3, "name": "dog"}]
    dataset = dataset_of(tmp_path, [animal((10, 10, 2), (50, 10, 2))], categories=categories)
    report = evaluate_points(dataset, [found(1, 50, 11), found("0", 10, 10)])
    assert [row.name for row in report.rows] == ["0", "1", "2"]
    assert report.overall.hits == 2
    dog = Annotations([[0, 0, 9, 9]], [0], scores=[1], keypoints=[[(4, 3, 0), (2, 1, 2)]])
    alike = {"image_id": 5, "landmark": 1, "point": [1.0, 2.0], "score": 1.0}
    assert point_records({5: dog}) == point_records({5: dog}, ["a", "a"]) == [alike]
    assert point_records({5: dog}, ["a", "b"]) == [alike | {"landmark": "b"}]


def test_nothing_found_is_a_result(tmp_path):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2))])
    for nothing in ([], {}, {1: Annotations(scores=[])}):
        report = evaluate_points(dataset, nothing)
        assert (report.overall.pck, report.overall.ap, report.overall.f1) == (0, 0, 0)
        assert (report.overall.precision, report.overall.mean_error) == (None, None)
        assert report.overall.without == 1
    empty = evaluate_points(dataset_of(tmp_path / "b", []), [])
    assert empty.overall.pck is None
    assert np.isnan(empty.image_f1).all()
    json.dumps(empty.to_json(), allow_nan=False)


BAD_POINTS = [
    ({"image_id": 9}, "no image 9 in .*; name the dataset that the results were made for"),
    ({"image_id": "1"}, "no image '1' in the dataset, which has 1"),
    ({"landmark": "tail"}, r"no landmark 'tail' in .*of its 3 landmarks \(nose, left_eye, right"),
    ({"landmark": 3}, "no landmark 3 in .*; expected a name or a number from 0 of its 3"),
    ({"landmark": -1}, "no landmark -1 in"),
    ({"landmark": True}, "no landmark True in"),
    ({"landmark": None}, "no landmark None in"),
    ({"landmark": "absent"}, "landmark missing.*; expected image_id, landmark, point"),
    ({"point": [1]}, r"the point is \[1\].*; expected x, y"),
    ({"point": 3}, "the point is 3"),
    ({"point": [1, math.nan]}, r"the point \[1, nan\] is not two finite numbers"),
    ({"point": [1, "2"]}, "is not two finite numbers"),
    ({"point": [1, 1e200]}, "is beyond all measure"),
    ({"score": math.inf}, "the score inf is no finite number"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_POINTS)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_point_that_does_not_belong_is_told_with_its_place(tmp_path, fields, message, from_file):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2))])
    good = found("nose", 10, 10)
    bad = {key: value for key, value in (good | fields).items() if value != "absent"}
    results = [good, bad, good, bad]
    if from_file:
        (tmp_path / "r.json").write_text(json.dumps(results))
        results = tmp_path / "r.json"
    with pytest.raises(DataError, match=message) as raised:
        evaluate_points(dataset, results)
    assert "record 1 (image_id" in str(raised.value)
    assert "(1 more of 4 records are refused)" in str(raised.value)


def test_landmarks_of_one_name_are_told_by_number(tmp_path):
    categories = [{"id": 3, "name": "dog", "keypoints": ["wing", "wing", "tail"]}]
    dataset = dataset_of(tmp_path, [animal((10, 10, 2), (50, 10, 2))], categories=categories)
    with pytest.raises(DataError, match="several landmarks are named 'wing'.*; give their number"):
        evaluate_points(dataset, [found("wing", 50, 10)])
    assert evaluate_points(dataset, [found(1, 50, 10)]).rows[1].hits == 1


BAD_ANNOTATIONS = [
    ({9: Annotations(scores=[])}, "the detections of image 9: no image 9 in"),
    ({1: Annotations([[0, 0, 9, 9]], [0], scores=[1])}, "they have no keypoints; give Annot"),
    (
        {1: Annotations([[0, 0, 9, 9]], [0], scores=[1], keypoints=[[(math.inf, 0, 2)] * 3])},
        "image 1: keypoint 0 of detection 0 is not two finite numbers; mend the point",
    ),
    (
        {1: Annotations([[0, 0, 9, 9]], [0], scores=[math.nan], keypoints=[[(1, 0, 2)] * 3])},
        "image 1: the score nan of detection 0 is no finite number",
    ),
]


def test_annotations_that_do_not_belong(tmp_path):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2))])
    beyond = Annotations([[0, 0, 9, 9]], [0], scores=[1], keypoints=[[(1, 0, 2)] * 4])
    with pytest.raises(DataError, match="landmark 3 is none of the dataset's 3; number the landm"):
        evaluate_points(dataset, {1: beyond})
    with pytest.raises(DataError, match="they have 4 keypoints each; expected the dataset's 3"):
        evaluate_keypoints(dataset, {1: beyond})
    unlabelled = beyond.replace(keypoints=[[(1, 0, 2)] * 3 + [(1, 0, 0)]])
    assert evaluate_points(dataset, {1: unlabelled}).num_detections == 3
    other = beyond.replace(labels=[2], keypoints=[[(1, 0, 2)] * 3])
    assert evaluate_points(dataset, {1: other}).num_detections == 3  # a landmark needs no label
    with pytest.raises(DataError, match="label 2 is none of the dataset's 2 classes"):
        evaluate_points(dataset, {1: other}, by="class")
    with pytest.raises(DataError, match="label 2 is none of the dataset's 2 classes"):
        evaluate_keypoints(dataset, {1: other})
    hidden = beyond.replace(keypoints=[[(1, 0, 2), (math.nan, 0, 0), (1, 0, 2)]])
    with pytest.raises(DataError, match="there are unlabelled keypoints that are not finite"):
        evaluate_keypoints(dataset, {1: hidden})
    for evaluate in (evaluate_points, evaluate_keypoints):
        for results, message in BAD_ANNOTATIONS:
            with pytest.raises(DataError, match=message):
                evaluate(dataset, results)
        unscored = Annotations([[0, 0, 9, 9]], [0], keypoints=[[(1, 0, 2)] * 3])
        with pytest.raises(ValueError, match="the detections of image 1 have no scores"):
            evaluate(dataset, {1: unscored})
        with pytest.raises(ValueError, match="results is a int, expected a path, a list"):
            evaluate(dataset, 3)
        with pytest.raises(DataError, match="1 images are in the dataset more than once"):
            evaluate(dataset.subset([0, 0]), [])
        (tmp_path / "r.json").write_text("{}")
        with pytest.raises(DataError, match="a dict, not a list of results; expected .*image_id"):
            evaluate(dataset, tmp_path / "r.json")


def test_arguments_out_of_range_are_named(tmp_path):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2))])
    for options, message in (
        ({"radius": 0}, "radius=0, expected a number above 0"),
        ({"radius": math.nan}, "radius=nan, expected"),
        ({"of": "box"}, "of='box': expected one of image, object"),
        ({"by": "name"}, "by='name': expected one of landmark, class"),
        ({"score_threshold": math.nan}, "score_threshold=nan, expected a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_points(dataset, [], **options)
    for sigmas in ([0.1], [0.1, 0.1, 0.0], [0.1, 0.1, math.nan]):
        with pytest.raises(ValueError, match="sigmas=.*: expected 3 numbers above 0"):
            evaluate_keypoints(dataset, [], sigmas=sigmas)
    pointless = load(
        coco(tmp_path / "b", [{"bbox": [0, 0, 9, 9]}], images=[SIZED], write_images=False)
    )
    for evaluate in (evaluate_points, evaluate_keypoints):
        with pytest.raises(DataError, match="there are no keypoints to compare with; name a"):
            evaluate(pointless, [])


def test_writers_name_what_they_cannot_write():
    bare = Annotations([[0, 0, 9, 9]], [2], keypoints=[[(1, 0, 2)] * 2])
    with pytest.raises(ValueError, match="the detections of image 'a' have no scores"):
        point_records({"a": bare})
    with pytest.raises(ValueError, match="the detections of image 'a' have no scores"):
        keypoint_records({"a": bare}, [1])
    scored = bare.replace(scores=[1])
    with pytest.raises(
        ValueError, match="image 'a' has points of landmark number 0 to 1, expected 0 to 0"
    ):
        point_records({"a": scored}, ["nose"])
    with pytest.raises(ValueError, match="points of category_id number 2 to 2, expected 0 to 1"):
        point_records({"a": scored}, class_ids=[1, 2])
    with pytest.raises(ValueError, match="image 'a' has labels 2 to 2, expected 0 to 1"):
        keypoint_records({"a": scored}, [1, 2])
    with pytest.raises(ValueError, match="the detections of image 'a' have no keypoints"):
        keypoint_records({"a": Annotations([[0, 0, 9, 9]], [0], scores=[1])}, [1])
    assert keypoint_records({"a": Annotations(scores=[])}, [1]) == []


# Keypoints of objects, against pycocotools.


def directly(file, results, sigmas=None):
    """pycocotools' evaluator after its own reader."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        if sigmas is not None:
            evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def assert_equals_pycocotools(file, results, *, sigmas=None, given=None):
    expected = directly(file, results, sigmas)
    report = evaluate_keypoints(load(file), results, sigmas=given)
    numbers = [-1.0 if number is None else number for number in report.coco.values()]
    np.testing.assert_array_equal(numbers, expected.stats)
    by_class = expected.eval["precision"][:, :, :, 0, 0]
    np.testing.assert_array_equal(np.nan_to_num(report.precision, nan=-1.0), by_class)
    return report


def noisy_keypoints(dataset, seed, *, scale=0.05, ties=False):
    """COCO keypoint results: the objects' keypoints moved, some twice, some not at all."""
    rng = np.random.default_rng(seed)
    objects = dataset.objects
    results = []
    for row in range(len(objects)):
        for _ in range(rng.integers(0, 3)):
            points = np.nan_to_num(objects.keypoints[row])
            side = objects.xywh[row, 2:].max()
            points[:, :2] += rng.normal(0, scale * side, points[:, :2].shape)
            score = float(rng.random())
            results.append({
                "image_id": dataset.images.ids[objects.image[row]],
                "category_id": dataset.class_ids[objects.label[row]],
                "keypoints": points.ravel().tolist(),
                "score": round(score, 1) if ties else score,
            })  # fmt: skip
    rng.shuffle(results)
    return results


@pytest.fixture(scope="module")
def written(shapes, tmp_path_factory):
    """The shapes' file with the numbers of keypoints that pycocotools asks for, also of crowds."""
    file = tmp_path_factory.mktemp("written") / "shapes.json"
    shapes.to_coco(file)
    return with_every_keypoint(file, 4)


def with_every_keypoint(file, count):
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation.setdefault("keypoints", [0] * 3 * count)
        annotation.setdefault("num_keypoints", sum(v > 0 for v in annotation["keypoints"][2::3]))
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("ties", [False, True])
def test_the_ten_numbers_are_pycocotools_own(written, shapes, ties):
    assert shapes.objects.crowd.any()
    results = noisy_keypoints(shapes, 1, ties=ties)
    report = assert_equals_pycocotools(written, results, sigmas=[0.05] * 4)
    assert 0.02 < report.ap < report.coco["AP50"] < 1
    assert report.num_ignored == shapes.objects.crowd.sum()
    assert report.sigmas == (0.05,) * 4
    mine = [0.02, 0.1, 0.3, 0.05]
    other = assert_equals_pycocotools(written, results, sigmas=mine, given=mine)
    assert other.ap != report.ap
    boxed = [each | {"bbox": [3.0, 4.0, 30.0, 40.0]} for each in results]
    assert_equals_pycocotools(written, boxed, sigmas=[0.05] * 4)


def test_the_ten_numbers_are_those_of_the_parts_of_the_dataset(written, shapes):
    """Objects without labelled keypoints, too many detections, one class empty."""
    content = json.loads(written.read_text())
    for k, annotation in enumerate(content["annotations"]):
        if k % 4 == 0:
            annotation["keypoints"], annotation["num_keypoints"] = [0] * 12, 0
        if k % 7 == 1:
            annotation["num_keypoints"] = 0  # a file that counts otherwise is believed
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 9]
    file = written.with_name("parts.json")
    file.write_text(json.dumps(content))
    results = noisy_keypoints(shapes, 2)
    results += [each | {"score": 0.01 * k} for k, each in enumerate(results[:1] * 30)]
    report = assert_equals_pycocotools(file, results, sigmas=[0.05] * 4)
    assert report.detections_over_limit >= 10
    assert report.num_objects + report.num_ignored == len(content["annotations"])
    assert report.by_class[3].ap is None
    assert report.num_ignored > 10


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("coco_tiny50_ccby_train/annotations/person_keypoints_train2017.json", 17),
        ("mmpose_kp_a/ap10k/test_ap10k.json", 17),
        ("mmpose_kp_a/zebra/test_zebra.json", 9),
        ("mmpose_kp_a/locust/test_locust.json", 35),
    ],
)
def test_the_ten_numbers_on_real_annotations(shared_data, tmp_path, name, count):
    file = shared_data / name
    dataset = load(file)
    # COCO's own sigmas are those of 17 landmarks.
    sigmas = None if count == 17 else [0.05] * count
    for seed, scale in ((3, 0.01), (4, 0.05)):
        results = noisy_keypoints(dataset, seed, scale=scale)
        copied = tmp_path / "copied.json"
        copied.write_text(file.read_text())
        report = assert_equals_pycocotools(
            with_every_keypoint(copied, count), results, sigmas=sigmas
        )
        assert report.num_objects > 0


def test_the_ten_numbers_on_real_results(shared_data, tmp_path):
    file = (
        shared_data / "cocoapi_results" / "person_keypoints_val2014_fakekeypoints100_results.json"
    )
    results = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    annotations = []
    for k, each in enumerate(results):
        if k % 4 == 0:
            continue
        points = np.array(each["keypoints"], np.float64).reshape(-1, 3)
        points[:, :2] += rng.normal(0, 4, (17, 2))
        low, size = points[:, :2].min(axis=0), np.ptp(points[:, :2], axis=0)
        annotations.append({
            "image_id": each["image_id"], "category_id": 1, "iscrowd": int(k % 20 == 1),
            "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum()),
            "bbox": [*low.tolist(), *size.tolist()], "area": float(size.prod() * 0.6),
        })  # fmt: skip
    images = [
        {"id": i, "file_name": f"not_written_{i}.jpg", "height": 900, "width": 900}
        for i in sorted({each["image_id"] for each in results})
    ]
    # Boxes reach below 0 here and there, which loading mends.
    made = coco(tmp_path / "made", annotations, images=images,
                categories=[{"id": 1, "name": "person"}], write_images=False)  # fmt: skip
    report = assert_equals_pycocotools(made, results)
    assert 0.05 < report.ap < 0.95
    assert report.coco["APm"] is not None
    assert evaluate_keypoints(load(made), file).to_json() == report.to_json()


def test_annotations_and_keypoint_records_are_the_same_to_it(shapes):
    scored = noisy_points(shapes, 6)
    records = keypoint_records({np.int64(i): one for i, one in scored.items()}, shapes.class_ids)
    assert json.loads(json.dumps(records)) == records
    report = evaluate_keypoints(shapes, scored)
    assert 0 < report.ap < 1
    assert evaluate_keypoints(shapes, records).to_json() == report.to_json()


@pytest.mark.parametrize("give", [lambda k: f"id-{k:03d}", lambda k: k, lambda k: 2**70 + k])
def test_ids_of_any_kind_give_the_same_numbers(written, shapes, give):
    results = noisy_keypoints(shapes, 7)
    expected = evaluate_keypoints(shapes, results)
    content = json.loads(written.read_text())
    image_of = {r["id"]: give(k) for k, r in enumerate(content["images"])}
    class_of = {r["id"]: give(k) for k, r in enumerate(content["categories"])}
    for kind, ids in (("images", image_of), ("categories", class_of)):
        for each in content[kind]:
            each["id"] = ids[each["id"]]
    for k, each in enumerate(content["annotations"]):
        each["id"] = give(k)
    for each in content["annotations"] + results:
        each["image_id"] = image_of[each["image_id"]]
        each["category_id"] = class_of[each["category_id"]]
    file = written.with_name("other.json")
    file.write_text(json.dumps(content))
    other = evaluate_keypoints(load(file), results)
    assert list(other.coco.values()) == pytest.approx(list(expected.coco.values()), abs=1e-12)


BAD_KEYPOINTS = [
    ({"category_id": 1}, r"no category 1 in .*; expected a class id .*\(3, 7\)"),
    ({"keypoints": [1, 2]}, "the keypoints are 2 numbers.*; expected x, y, visibility of 3 landm"),
    ({"keypoints": 4}, "the keypoints are 4"),
    ({"keypoints": [1, 2, 2] * 2 + [1, math.inf, 2]}, "inf among the keypoints"),
    ({"keypoints": [1, 2, 2] * 2 + [1, 1e200, 2]}, "the keypoints .* is beyond all measure"),
    ({"bbox": [1, 2, 3]}, r"the bbox is \[1, 2, 3\]"),
    ({"keypoints": "absent"}, "keypoints missing.*; expected image_id, category_id, keypoints"),
    ({"score": None}, "the score None is no finite number"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_KEYPOINTS)
def test_keypoint_results_that_do_not_belong(tmp_path, fields, message):
    dataset = dataset_of(tmp_path, [animal((10, 10, 2))])
    good = {"image_id": 1, "category_id": 3, "keypoints": [10, 10, 2] * 3, "score": 0.5}
    bad = {key: value for key, value in (good | fields).items() if value != "absent"}
    with pytest.raises(DataError, match=message) as raised:
        evaluate_keypoints(dataset, [good, bad])
    assert "record 1 (image_id 1" in str(raised.value)


def test_without_objects_or_detections_averages_are_none_or_0(tmp_path):
    good = {"image_id": 1, "category_id": 3, "keypoints": [10, 10, 2] * 3, "score": 0.5}
    for annotations in ([], [animal()], [animal((10, 10, 2), iscrowd=1)]):
        for results in ([], [good]):
            report = evaluate_keypoints(dataset_of(tmp_path, annotations), results)
            assert set(report.coco.values()) == {None}
            assert report.num_objects == 0
            assert report.num_ignored == len(annotations)
            json.dumps(report.to_json(), allow_nan=False)
    nothing = evaluate_keypoints(dataset_of(tmp_path, [animal((10, 10, 2), area=900.0)]), {})
    assert (nothing.ap, nothing.coco["AR"], nothing.coco["APl"]) == (0, 0, None)


def test_they_print_nothing(shapes, capsys):
    evaluate_keypoints(shapes, noisy_keypoints(shapes, 1))
    evaluate_points(shapes, noisy_points(shapes, 1))
    assert capsys.readouterr() == ("", "")


# What is shown.


def printed(show, report):
    console = Console(file=io.StringIO(), width=200)
    show(report, console)
    return console.file.getvalue()


def test_tables_say_what_was_computed(shapes):
    report = evaluate_points(shapes, noisy_points(shapes, 8), score_threshold=0.25, of="object")
    said = printed(viz.print_point_evaluation, report)
    for row in (report.overall, *report.rows):
        shares = (row.pck, row.precision, row.f1, row.ap)
        errors = (row.mean_error, row.median_error, row.nearest_error)
        wanted = [row.name, str(row.points), str(row.detections), *(f"{n:.3f}" for n in shares),
                  *(f"{n:.1f}" for n in errors), str(row.without)]  # fmt: skip
        assert wanted in [line.split() for line in said.splitlines()]
    assert "a hit lies within 0.05 of the object's longer side" in said
    assert "of a score of 0.25 or more" in said
    keypoints = evaluate_keypoints(shapes, noisy_keypoints(shapes, 8))
    said = printed(viz.print_keypoint_evaluation, keypoints)
    for value in keypoints.coco.values():
        assert f"{value:.3f}" in said
    for row in keypoints.by_class:
        assert f"\n{row.name} " in said
        assert f"{row.ap50:.3f}" in said
    assert f"({shapes.objects.crowd.sum()} ignored)" in said
    assert "COCO's numbers take 20" not in said


def test_what_is_left_out_is_said(tmp_path):
    crowded = dataset_of(tmp_path, [animal((50, 50, 2), iscrowd=1), animal((90, 90, 2))])
    report = evaluate_points(crowded, [found("nose", 51, 50)])
    said = printed(viz.print_point_evaluation, report)
    assert "1 points and 1 of crowds" in said
    assert "1 more detections lie on points of crowds" in said
    good = {"image_id": 1, "category_id": 3, "keypoints": [10, 10, 2] * 3, "score": 0.5}
    said = printed(viz.print_keypoint_evaluation, evaluate_keypoints(crowded, [good] * 23))
    assert "3 detections are left out, 0 objects cannot be found" in said
    names = [f"n{k}" for k in range(50)]
    categories = [{"id": 3, "name": "dog", "keypoints": names}]
    many = dataset_of(
        tmp_path / "m", [{"bbox": [0, 0, 9, 9], "keypoints": [1, 1, 0] * 50}], categories=categories
    )
    said = printed(viz.print_point_evaluation, evaluate_points(many, []))
    assert "... and 10 more" in said
    assert "no point to find" in said
    assert "no object to find" in printed(
        viz.print_keypoint_evaluation, evaluate_keypoints(many, [])
    )


def test_curves_are_drawn_as_they_are(shapes, tmp_path):
    report = evaluate_points(shapes, noisy_points(shapes, 9), radius=0.02)
    precision, errors = viz.show_point_evaluation(report).axes
    for line, row in zip(
        precision.get_lines(), np.argsort([-r.points for r in report.rows]), strict=True
    ):
        scores = report.rows[row]
        assert line.get_label() == f"{scores.name}: AP {scores.ap:.3f}, PCK {scores.pck:.3f}"
        x, y = line.get_data()
        assert (np.diff(x) * y[1:]).sum() == pytest.approx(scores.ap)
    shares = [line.get_ydata()[-1] for line in errors.get_lines()]
    assert all(0.2 < s < 1 for s in shares)
    most = errors.get_xlim()[1]
    assert shares[0] == np.mean(report.point_nearest[report.point_row == 0] <= most)
    one = dataset_of(tmp_path, [animal((10, 10, 2))])
    for each, results in ((one, []), (one, [found("nose", 90, 90)]), (one.subset([]), [])):
        figure = viz.show_point_evaluation(evaluate_points(each, results))
        assert viz.png_bytes(figure)[:4] == b"\x89PNG"
