"""Evaluation: equal to pycocotools, to VOC's kit and to what one counts by hand."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from datafiles import coco, voc
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from reference.voc import average_precision
from ytrue import Annotations, DataError, viz
from ytrue.datasets import convert, load, write_shapes
from ytrue.model.evaluate import evaluate, to_records
from ytrue.model.evaluating.results import annotations_of, by_image

SIZED = {"id": 1, "file_name": "not_written.jpg", "height": 400, "width": 600}


def dataset_of(folder, annotations, *, images=None, categories=None):
    """A dataset of one 400 x 600 image (id 1) and the categories cat (7) and dog (3)."""
    images = images or [SIZED]
    return load(coco(folder, annotations, images=images, categories=categories, write_images=False))


def record(bbox, score=0.5, category_id=3, image_id=1):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def perfect(dataset):
    objects = dataset.objects
    return [
        record(box, 0.5, dataset.class_ids[label], dataset.images.ids[image])
        for image, label, box in zip(
            objects.image.tolist(), objects.label.tolist(), objects.xywh.tolist(), strict=True
        )
    ]


def noisy(dataset, seed=0, *, ties=False):
    """The objects moved, some of them missing, twice or of another class, and false alarms."""
    rng = np.random.default_rng(seed)
    found = []
    for true in perfect(dataset):
        x, y, width, height = true["bbox"]
        for _ in range(rng.integers(0, 3)):
            moved = np.array([x, y, width, height]) + rng.normal(0, 0.08, 4) * ([width, height] * 2)
            other = rng.random() < 0.15
            category = dataset.class_ids[rng.integers(dataset.num_classes)]
            found.append(
                record(
                    [*moved[:2].tolist(), *np.abs(moved[2:]).tolist()],
                    float(rng.random()),
                    category if other else true["category_id"],
                    true["image_id"],
                )
            )
    for _ in range(len(found) // 3):
        i = int(rng.integers(len(dataset)))
        size = rng.uniform(2, 80, 2)
        corner = rng.uniform(0, 1, 2) * (dataset.images.width[i], dataset.images.height[i])
        category = dataset.class_ids[rng.integers(dataset.num_classes)]
        box = [*corner.tolist(), *size.tolist()]
        found.append(record(box, float(rng.random()), category, dataset.images.ids[i]))
    for each in found:
        each["score"] = round(each["score"], 1) if ties else each["score"]
    rng.shuffle(found)
    return found


# Against pycocotools.


def directly(file, results):
    """pycocotools' twelve numbers, through its own reader."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def assert_equals_pycocotools(dataset, results, file):
    dataset.to_coco(file)
    expected = directly(file, results)
    found = evaluate(dataset, results)
    numbers = [-1.0 if number is None else number for number in found.coco.values()]
    np.testing.assert_array_equal(numbers, expected.stats)
    by_class = expected.eval["precision"][:, :, :, 0, 2]
    np.testing.assert_array_equal(np.nan_to_num(found.precision, nan=-1.0), by_class)
    return found


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return load(write_shapes(tmp_path_factory.mktemp("shapes"), num_images=12))


@pytest.mark.parametrize("ties", [False, True])
def test_the_twelve_numbers_are_pycocotools_own(shapes, tmp_path, ties):
    assert shapes.objects.crowd.any()
    found = assert_equals_pycocotools(shapes, noisy(shapes, 1, ties=ties), tmp_path / "a.json")
    assert 0.1 < found.ap < found.ap50 < 1


@pytest.mark.parametrize(
    "name",
    [
        "coco_tiny80_ccby/annotations/instances_val2017.json",
        "coco_tiny80_ccby/annotations/instances_train2017.json",
        "coco_tiny50_ccby_train/annotations/instances_train2017.json",
    ],
)
def test_the_twelve_numbers_on_real_annotations(shared_data, tmp_path, name):
    dataset = load(shared_data / name)
    for seed, ties in ((2, False), (3, True)):
        assert_equals_pycocotools(dataset, noisy(dataset, seed, ties=ties), tmp_path / "a.json")
    # Also of the file as it was before loading, where no box was mended.
    if not any(problem.action != "kept" for problem in dataset.problems):
        results = noisy(dataset, 4)
        expected = directly(shared_data / name, results).stats
        np.testing.assert_array_equal(list(evaluate(dataset, results).coco.values()), expected)


def test_the_twelve_numbers_on_real_results(shared_data, tmp_path):
    file = shared_data / "cocoapi_results" / "instances_val2014_fakebbox100_results.json"
    results = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    objects = [
        {"image_id": r["image_id"], "category_id": r["category_id"], "area": "absent",
         "bbox": (np.array(r["bbox"]) * rng.uniform(0.9, 1.1, 4)).tolist(), "iscrowd": k % 20 == 0}
        for k, r in enumerate(results)
        if k % 3
    ]  # fmt: skip
    images = [
        {"id": i, "file_name": f"not_written_{i}.jpg", "height": 900, "width": 900}
        for i in sorted({r["image_id"] for r in results})
    ]
    classes = [{"id": i, "name": str(i)} for i in sorted({r["category_id"] for r in results})]
    dataset = dataset_of(tmp_path / "made", objects, images=images, categories=classes)
    found = assert_equals_pycocotools(dataset, results, tmp_path / "again.json")
    assert found.ap == evaluate(dataset, file).ap


def test_more_than_a_hundred_detections_of_a_class_in_an_image(tmp_path):
    boxes = [[20.0 * (k % 25), 20.0 * (k // 25), 15.0, 15.0] for k in range(120)]
    dataset = dataset_of(tmp_path / "d", [{"bbox": box} for box in boxes])
    results = [record(box, 0.9 - 0.001 * k) for k, box in enumerate(boxes)] + [record(boxes[0])] * 9
    found = assert_equals_pycocotools(dataset, results, tmp_path / "a.json")
    assert found.coco["AR100"] == pytest.approx(100 / 120)
    assert (found.objects_over_limit, found.detections_over_limit) == (20, 29)
    assert found.voc_ap50 == 1.0


KINDS_OF_IDS = {
    "texts": lambda k: f"id-{k:03d}",
    "from 0": lambda k: k,
    "floats": lambda k: float(k),
    "huge": lambda k: 2**70 + k,
    "negative": lambda k: k - 50,
    "mixed": lambda k: k if k % 2 else f"id-{k}",
}


@pytest.mark.parametrize("kind", KINDS_OF_IDS)
def test_ids_of_any_kind_give_the_same_numbers(shapes, tmp_path, kind):
    results = noisy(shapes, 5)
    plain = evaluate(shapes, results)
    shapes.to_coco(tmp_path / "plain.json")
    content = json.loads((tmp_path / "plain.json").read_text())
    give = KINDS_OF_IDS[kind]
    image_of = {r["id"]: give(k) for k, r in enumerate(content["images"])}
    class_of = {r["id"]: give(k) for k, r in enumerate(content["categories"])}
    for image in content["images"]:
        image["id"] = image_of[image["id"]]
    for category in content["categories"]:
        category["id"] = class_of[category["id"]]
    for k, each in enumerate(content["annotations"]):
        each["id"] = give(k)
    for each in content["annotations"] + results:
        each["image_id"] = image_of[each["image_id"]]
        each["category_id"] = class_of[each["category_id"]]
    (tmp_path / "other.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    other = evaluate(load(tmp_path / "other.json"), tmp_path / "results.json")
    assert list(other.coco.values()) == pytest.approx(list(plain.coco.values()), abs=1e-12)
    assert other.voc_ap50 == pytest.approx(plain.voc_ap50, abs=1e-12)


def test_an_object_of_id_0_is_found_which_pycocotools_alone_misses(tmp_path):
    dataset = dataset_of(tmp_path, [{"id": 0, "bbox": [10, 10, 50, 50], "area": 2500.0}])
    results = [record([10, 10, 50, 50])]
    assert evaluate(dataset, results).ap == pytest.approx(1)
    assert directly(tmp_path / "data.json", results).stats[0] == 0


def test_areas_are_the_files_where_it_has_some(tmp_path):
    box = [10.0, 10.0, 100.0, 100.0]
    for area, name in ((500.0, "ARs"), ("absent", "ARl")):
        dataset = dataset_of(tmp_path, [{"bbox": box, "area": area}])
        found = evaluate(dataset, [record(box)])
        defined = [n for n in ("ARs", "ARm", "ARl") if found.coco[n] is not None]
        assert defined == [name]
        sizes = [part.size[0] for part in found.confusion if part.objects]
        assert sizes == [name[2]]


# Laws.


def test_what_is_right_has_an_average_precision_of_1_whatever_the_dataset(shared_data):
    tried = 0
    for name in (
        "bccd_train", "voc100_multi_a/voc", "voc100_multi_a/yolo",
        "voc100_multi_a/coco/instances_default.json", "fruits_labelme_a/labelme",
        "fruits_labelme_a/coco/trainval.json", "coco_tiny80_ccby/annotations/instances_train2017.json",
        "coco_tiny80_ccby/annotations/instances_val2017.json",
        "coco_tiny50_ccby_train/annotations/instances_train2017.json",
        "coco_tiny50_ccby_train/annotations/person_keypoints_train2017.json", "okra_yolo_train",
        "deepforest_a/coco_sample_file.json", "sahi_terrain/terrain_all_coco.json", "fridge_voc",
        "mmpose_kp_a/ap10k/test_ap10k.json", "mmpose_kp_a/zebra/test_zebra.json",
        "mmdet_samples/coco_sample.json", "mmdet_samples/unsorted_obj365_sample.json",
        "malformed_wider_val",
    ):  # fmt: skip
        dataset = load(shared_data / name)
        found = evaluate(dataset, perfect(dataset))
        assert found.num_objects > 0, name
        # Of objects on the same spot VOC finds only the first.
        if not any(problem.kind == "duplicate-object" for problem in dataset.problems):
            assert found.voc_ap50 == pytest.approx(1, abs=1e-12), name
        assert sum(part.found for part in found.confusion) == found.num_objects
        assert sum(part.false_alarms for part in found.confusion) == 0
        if found.objects_over_limit == 0:
            assert found.ap == pytest.approx(1, abs=1e-12), name
            tried += 1
    assert tried >= 18


def test_only_the_order_of_scores_counts(shapes):
    results = noisy(shapes, 6)
    found = evaluate(shapes, results)
    squashed = [each | {"score": math.atan(each["score"] - 3)} for each in reversed(results)]
    other = evaluate(shapes, squashed)
    assert other.coco == found.coco
    assert other.voc_ap50 == found.voc_ap50
    assert found.confusion[0].matrix.sum() > 0


def test_annotations_and_their_records_are_the_same_to_it(shapes):
    rng = np.random.default_rng(7)
    scored = {}
    for example in list(shapes)[2:]:
        objects = example.annotations
        moved = objects.boxes + rng.normal(0, 3, objects.boxes.shape).astype(np.float32)
        scored[np.int64(example.image_id)] = Annotations(
            moved, objects.labels, scores=rng.random(len(moved))
        )
    records = to_records(shapes, scored)
    assert json.loads(json.dumps(records)) == records
    found = evaluate(shapes, scored)
    assert 0 < found.ap < 1
    assert json.dumps(found.to_json()) == json.dumps(evaluate(shapes, records).to_json())


def test_it_is_the_same_in_blocks_of_any_length(shapes, monkeypatch):
    results = noisy(shapes, 11)
    whole = evaluate(shapes, results).to_json()
    monkeypatch.setattr("ytrue.model.evaluating.overlaps._CELLS", 7)
    assert evaluate(shapes, results).to_json() == whole


def test_it_prints_nothing(shapes, capsys):
    evaluate(shapes, perfect(shapes))
    assert capsys.readouterr() == ("", "")


# VOC.


def test_vocs_average_precision_by_hand(tmp_path):
    boxes = [[0, 0, 10, 10], [50, 0, 10, 10], [100, 0, 10, 10], [150, 0, 10, 10]]
    dataset = dataset_of(tmp_path, [{"bbox": box} for box in boxes])
    elsewhere = [300, 300, 10, 10]
    results = [
        record(boxes[0], 0.9),  # hit: precision 1, recall 1/4
        record(boxes[0], 0.8),  # again: 1/2
        record(boxes[1], 0.7),  # 2/3 at 2/4
        record(elsewhere, 0.6),  # 2/4
        record([100, 0, 10, 5], 0.5),  # an IoU of exactly 0.5: 3/5 at 3/4
    ]
    found = evaluate(dataset, results)
    # 1/4 * (1 + 2/3 + 3/5); recalls 0, .1, .2 at 1, .3 to .5 at 2/3, .6 and .7 at 3/5.
    assert found.voc_ap50 == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert found.voc_ap50_11 == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    cat, dog = sorted(found.by_class, key=lambda row: row.name)
    assert (cat.voc_ap50, cat.ap, cat.objects) == (None, None, 0)
    assert (dog.voc_ap50, dog.objects, dog.detections) == (found.voc_ap50, 4, 5)


def test_a_recall_of_exactly_three_tenths_reaches_that_point(tmp_path):
    boxes = [[20 * k, 0, 10, 10] for k in range(10)]
    dataset = dataset_of(tmp_path, [{"bbox": box} for box in boxes])
    found = evaluate(dataset, [record(box) for box in boxes[:3]])
    assert found.voc_ap50_11 == pytest.approx(4 / 11)
    assert found.voc_ap50 == pytest.approx(0.3)


def test_difficult_objects_count_for_voc_neither_way(tmp_path):
    objects = [("cat", (11, 11, 30, 30), 1), ("cat", (41, 11, 60, 30), 0)]
    voc(tmp_path / "a.xml", objects, size=(100, 100))
    dataset = load(tmp_path)
    image, label = dataset.images.ids[0], "cat"
    results = [
        record([10, 10, 20, 20], 0.9, label, image),  # the difficult one
        record([10, 10, 20, 20], 0.8, label, image),  # and again: ignored every time
        record([40, 10, 20, 20], 0.7, label, image),
    ]
    found = evaluate(dataset, results)
    assert found.voc_ap50 == found.voc_ap50_11 == 1
    assert found.ap50 < 1  # COCO knows no difficult objects: one was found twice
    assert evaluate(dataset, results[2:]).ap50 == pytest.approx(0.5, abs=0.01)
    convert(dataset, "coco", tmp_path / "coco" / "a.json")
    again = evaluate(load(tmp_path / "coco" / "a.json"), results)
    assert again.voc_ap50 == 1


@pytest.mark.parametrize("seed", range(6))
def test_vocs_average_precision_is_the_kits(tmp_path, seed):
    rng = np.random.default_rng(seed)
    images = [{**SIZED, "id": i, "file_name": f"not_written_{i}.jpg"} for i in range(3)]
    annotations = [
        {"bbox": [*map(int, rng.integers(0, 60, 2)), *map(int, rng.integers(5, 40, 2))],
         "image_id": int(rng.integers(3)), "category_id": int(rng.choice([3, 7])),
         "difficult": int(rng.random() < 0.2), "iscrowd": int(rng.random() < 0.1)}
        for _ in range(40)
    ]  # fmt: skip
    dataset = dataset_of(tmp_path, annotations, images=images)
    results = noisy(dataset, seed, ties=True)
    found = evaluate(dataset, results)
    for row in found.by_class:
        objects = [
            (a["image_id"], corners(a["bbox"]), a["difficult"] or a["iscrowd"])
            for a in annotations
            if a["category_id"] == row.class_id
        ]
        detections = [
            (r["image_id"], corners(r["bbox"]), r["score"])
            for r in results
            if r["category_id"] == row.class_id
        ]
        expected = average_precision(objects, detections)
        assert (row.voc_ap50, row.voc_ap50_11) == pytest.approx(expected, abs=1e-12)
        assert 0 < row.voc_ap50 < 1


def corners(xywh):
    x, y, width, height = xywh
    return x, y, x + width, y + height


# What became of the objects.


def confusion_of(tmp_path, annotations, results, **options):
    dataset = dataset_of(tmp_path, annotations)
    assert dataset.class_ids == (3, 7)
    return {part.size: part for part in evaluate(dataset, results, **options).confusion}


def test_objects_are_found_mistaken_or_missed(tmp_path):
    found = confusion_of(
        tmp_path,
        [
            {"bbox": [0, 0, 20, 20], "area": "absent"},  # small, found
            {"bbox": [50, 0, 20, 20], "area": "absent"},  # small, taken for a cat
            {"bbox": [0, 100, 50, 50], "area": "absent"},  # medium, found by too low a score
            {"bbox": [200, 100, 150, 150], "area": "absent", "category_id": 7},  # large, found
        ],
        [
            record([0, 0, 20, 20], 0.31),
            record([0, 0, 20, 20], 0.9, 7),  # the object is found as what it is: a false alarm
            record([50, 0, 20, 20], 0.9, 7),
            record([0, 100, 50, 50], 0.29),
            record([200, 100, 150, 120], 0.9, 7),
            record([400, 300, 100, 100], 0.9, 3),  # a large false alarm
        ],
    )
    np.testing.assert_array_equal(found["small"].matrix, [[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(found["medium"].matrix, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found["large"].matrix, [[0, 0, 0], [0, 1, 0], [1, 0, 0]])
    small = found["small"]
    assert (small.objects, small.found, small.wrong_class, small.missed) == (2, 1, 1, 0)
    assert small.false_alarms == 1
    assert small.mistaken() == [(0, 1, 1)]
    cells = small.to_json()["cells"]
    assert {"label": None, "found_as": 1, "count": 1} in cells
    assert len(cells) == 3
    assert found["medium"].to_json()["cells"] == [{"label": 0, "found_as": None, "count": 1}]


def test_the_threshold_is_inclusive_and_chosen(tmp_path):
    box = [0, 0, 20, 20]
    for threshold, n in ((0.5, 1), (0.51, 0)):
        found = confusion_of(tmp_path, [{"bbox": box}], [record(box)], score_threshold=threshold)
        assert found["small"].found == n
    with pytest.raises(ValueError, match="score_threshold=nan, expected a finite number"):
        confusion_of(tmp_path, [{"bbox": box}], [], score_threshold=math.nan)


def test_the_higher_score_takes_the_object_and_leaves_the_next_best(tmp_path):
    # The first detection overlaps both and takes the one it fits best, the second gets the other.
    found = confusion_of(
        tmp_path,
        [{"bbox": [0, 0, 20, 20]}, {"bbox": [0, 4, 20, 20]}],
        [record([0, 3, 20, 20], 0.8), record([0, 4, 20, 20], 0.9)],
    )
    assert found["small"].found == 2
    assert found["small"].false_alarms == 0


def test_crowds_are_no_objects_and_excuse_what_lies_in_them(tmp_path):
    crowd = {"bbox": [0, 0, 200, 200], "iscrowd": 1}
    found = confusion_of(
        tmp_path,
        [crowd],
        [
            record([10, 10, 20, 20]),
            record([190, 0, 20, 20]),  # half in it
            record([191, 0, 20, 20]),  # not quite
            record([10, 10, 20, 20], category_id=7),  # of another class
        ],
    )
    assert sum(part.objects for part in found.values()) == 0
    np.testing.assert_array_equal(found["small"].matrix[-1], [1, 1, 0])
    found = confusion_of(
        tmp_path,
        [crowd, {"bbox": [0, 0, 200, 150], "area": "absent"}],
        [
            record([0, 0, 200, 190]),  # more of the crowd than of the object, which it takes
            record([0, 0, 200, 190], category_id=7),
        ],
    )
    np.testing.assert_array_equal(found["large"].matrix, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_sizes_meet_at_cocos_bounds(tmp_path):
    areas = [1023.9, 1024.0, 9215.9, 9216.0]
    annotations = [{"bbox": [0, 0, 20, 20], "area": area} for area in areas]
    found = confusion_of(tmp_path, annotations, [])
    assert [part.missed for part in found.values()] == [1, 2, 1]


# What is refused, and what is not.

BAD = [
    (
        {"image_id": 9},
        "no image 9 in .*data.json.*; name the dataset that the results were made for",
    ),
    ({"image_id": "1"}, "no image '1' in the dataset, which has 1.*; write the ids as they stand"),
    ({"image_id": True}, "no image True in"),
    ({"image_id": [1]}, r"no image \[1\] in"),
    ({"image_id": None}, "no image None in"),
    ({"category_id": 0}, r"no category 0 in .*data.json.*; expected a class id .*\(3, 7\)"),
    ({"bbox": "absent"}, "bbox missing.*; expected image_id, category_id, bbox"),
    ({"bbox": "absent", "score": "absent"}, "bbox, score missing"),
    ({"bbox": [1, 2, 3]}, r"the bbox is \[1, 2, 3\].*; expected x, y, width, height"),
    ({"bbox": None}, "the bbox is None"),
    ({"bbox": [1, 2, 3, "4"]}, "is not four finite numbers"),
    ({"bbox": [1, 2, 3, math.nan]}, r"the bbox \[1, 2, 3, nan\] is not four finite numbers"),
    ({"bbox": [1, 2, 10**400, 3]}, "is not four finite numbers"),
    ({"bbox": [1, 2, 1e200, 1e200]}, "is beyond all measure"),
    ({"bbox": [30, 2, -10, 5]}, "has a negative width or height.*; expected x, y, width, height"),
    ({"score": math.inf}, "the score inf is no finite number"),
    ({"score": "0.5"}, "the score '0.5' is no finite number"),
    ({"score": True}, "the score True is no finite number"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_record_that_does_not_belong_is_told_with_its_place(tmp_path, fields, message, from_file):
    dataset = dataset_of(tmp_path, [{"bbox": [0, 0, 20, 20]}])
    good = record([0, 0, 20, 20])
    bad = {key: value for key, value in (good | fields).items() if value != "absent"}
    results = [good, bad, good, bad]
    if from_file:
        (tmp_path / "r.json").write_text(json.dumps(results))
        results = tmp_path / "r.json"
    with pytest.raises(DataError, match=message) as raised:
        evaluate(dataset, results)
    assert "record 1 (image_id" in str(raised.value)
    assert str(raised.value).startswith(str(results) if from_file else "the results, record 1 ")
    assert "(1 more of 4 records are refused)" in str(raised.value)


FILES = [
    ("", "the file is empty"),
    ("[{", "not valid JSON"),
    ("[" * 100_000, "not valid JSON"),
    ("{}", "the file holds a dict, not a list of results"),
    ('{"annotations": []}', "the file holds a COCO dataset, not a list of results"),
    ("[3]", "record 0: a int stands for a record; expected image_id, category_id"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_a_file_that_is_no_list_of_results_says_so(tmp_path, text, message):
    dataset = dataset_of(tmp_path, [{"bbox": [0, 0, 20, 20]}])
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate(dataset, tmp_path / "r.json")
    with pytest.raises(DataError, match="cannot be read"):
        evaluate(dataset, tmp_path / "nothing.json")


def test_annotations_that_do_not_belong(tmp_path):
    dataset = dataset_of(tmp_path, [{"bbox": [0, 0, 20, 20]}])
    box = [[0, 0, 20, 20]]
    for found, message in (
        ({9: Annotations(scores=[])}, "the detections of image 9: no image 9 in"),
        ({1: Annotations(box, [2], scores=[1])}, "label 2 is none of the dataset's 2 classes"),
        (
            {1: Annotations([[0, 0, 9, 9], [5, 0, 1, 9]], [0, 0], scores=[1, 1])},
            "image 1, detection 1 .*: the bbox .* has a negative width or height",
        ),
    ):
        with pytest.raises(DataError, match=message):
            evaluate(dataset, found)
    with pytest.raises(ValueError, match="the detections of image 1 have no scores"):
        evaluate(dataset, {1: Annotations(box, [0])})
    with pytest.raises(ValueError, match="results is a int, expected a path, a list of records"):
        evaluate(dataset, 3)
    with pytest.raises(DataError, match="1 images are in the dataset more than once"):
        evaluate(dataset.subset([0, 0]), [])


def test_results_of_an_image_that_loading_dropped_say_why(tmp_path):
    images = [SIZED, {"id": 2, "file_name": "b.jpg", "height": 0, "width": 0}]
    dataset = dataset_of(tmp_path, [{"bbox": [0, 0, 20, 20]}], images=images)
    with pytest.raises(DataError, match=r"image 2 was dropped when .* \[image-size-unknown\]"):
        evaluate(dataset, [record([0, 0, 20, 20], image_id=2)])


def test_nothing_found_is_a_result(tmp_path):
    dataset = dataset_of(tmp_path / "d", [{"bbox": [0, 0, 20, 20], "area": 400.0}])
    for nothing in ([], {}, {1: Annotations(scores=[])}):
        found = evaluate(dataset, nothing)
        assert found.ap == found.ap50 == found.voc_ap50 == found.voc_ap50_11 == 0
        assert found.coco["APm"] is None
        assert [part.missed for part in found.confusion] == [1, 0, 0]
    (tmp_path / "r.json").write_text("[]")
    assert evaluate(dataset, tmp_path / "r.json").ap == 0
    boxes_without_area = evaluate(dataset, [record([5, 5, 0, 0]), record([5, 5, 0, 3])])
    assert boxes_without_area.ap == 0


@pytest.mark.parametrize("annotations", [[], [{"bbox": [0, 0, 20, 20], "iscrowd": 1}]])
def test_without_objects_averages_are_not_defined(tmp_path, annotations):
    dataset = dataset_of(tmp_path, annotations)
    found = evaluate(dataset, [record([300, 0, 20, 20])])
    assert set(found.coco.values()) == {None}
    assert (found.ap, found.ap50, found.voc_ap50, found.voc_ap50_11) == (None,) * 4
    assert found.confusion[0].false_alarms == 1
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["coco"]["AP"] is None
    assert plain["classes"][0]["AP50"] is None
    assert viz.png_bytes(viz.show_evaluation(found))[:4] == b"\x89PNG"
    assert "averages are not defined" in printed(found)


# What is shown.


def printed(evaluation):
    console = Console(file=io.StringIO(), width=200)
    viz.print_evaluation(evaluation, console)
    return console.file.getvalue()


def test_tables_say_what_was_computed(shapes):
    found = evaluate(shapes, noisy(shapes, 8), score_threshold=0.25)
    said = printed(found)
    for value in (*found.coco.values(), found.voc_ap50, found.voc_ap50_11):
        assert f"{value:.3f}" in said
    for row in found.by_class:
        assert f"\n{row.name} " in said
        assert f"{row.ap50:.3f}" in said
    assert "of a score of 0.25 or more" in said
    assert "wrong" in said
    assert "COCO's numbers take 100" not in said


def test_json_holds_every_object_once(shapes):
    found = evaluate(shapes, noisy(shapes, 9))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["coco"] == found.coco
    sizes = [plain["confusion"][size] for size in ("small", "medium", "large")]
    assert sum(part["objects"] for part in sizes) == found.num_objects
    for part in sizes:
        assert part["found"] + part["wrong_class"] + part["missed"] == part["objects"]
        assert sum(cell["count"] for cell in part["cells"]) == (
            part["objects"] + part["false_alarms"]
        )
    assert sum(row["objects"] for row in plain["classes"]) == found.num_objects
    assert sum(row["detections"] for row in plain["classes"]) == found.num_detections


def test_curves_are_drawn_as_they_are(shapes):
    found = evaluate(shapes, noisy(shapes, 10))
    figure = viz.show_evaluation(found)
    classes, mean, sizes = figure.axes
    drawn = {line.get_label().split(":")[0]: line.get_ydata() for line in classes.get_lines()}
    for label, name in enumerate(shapes.classes):
        np.testing.assert_array_equal(drawn[name], found.precision[0, :, label])
    assert mean.get_lines()[0].get_label() == f"IoU 0.50: AP {found.ap50:.3f}"
    assert len(sizes.patches) == 9


def test_each_image_has_its_f1_and_its_detections(tmp_path):
    dataset = dataset_of(
        tmp_path,
        [{"bbox": [10, 10, 50, 50]}, {"bbox": [200, 10, 50, 50]}, {"bbox": [300, 200, 50, 50]}],
    )
    found = [
        record([300, 300, 20, 20], 0.6),  # nothing there
        record([10, 10, 50, 50], 0.9),
        record([200, 10, 50, 50], 0.8, 7),  # of another class
        record([10, 300, 20, 20], 0.1),  # below the threshold
    ]
    # One right of three; a false alarm, and one that took an object of another class.
    assert evaluate(dataset, found).image_f1 == pytest.approx([2 / (2 + 2 + 2)])
    (ordered,) = annotations_of(dataset, found)
    np.testing.assert_allclose(ordered.scores, [0.9, 0.8, 0.6, 0.1], rtol=1e-6)
    np.testing.assert_allclose(ordered.boxes[0], [10, 10, 60, 60])
    assert by_image(evaluate(dataset, found).detections, len(dataset)) == [ordered]
    assert np.isnan(evaluate(dataset_of(tmp_path / "b", []), []).image_f1).all()
