"""`evaluate_masks`: COCO's numbers of masks, equal to pycocotools on files."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ytrue import RLE, Annotations, DataError
from ytrue.datasets import load, write_shapes
from ytrue.model.evaluatemasks import evaluate_masks, mask_records
from ytrue.model.evaluating.coco import NUMBERS
from ytrue.model.evaluating.kinds import annotations_by_image, kind_of_results
from ytrue.model.evaluating.results import ResultsFile


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zz-masks")
    return load(write_shapes(folder, num_images=12, image_size=(192, 256), seed=5))


def moved(dataset, seed, *, copies=2):
    """Every object found `copies` times, a little beside its place, and false ones between."""
    rng, found = np.random.default_rng(seed), {}
    for index in range(len(dataset)):
        truth = dataset[index].annotations
        truth = truth.select(~truth.crowd)
        boxes, labels, polygons = [], [], []
        for k in range(len(truth)):
            for _ in range(copies):
                shift = rng.normal(0, 3, 2)
                boxes.append(truth.boxes[k] + np.tile(shift, 2))
                labels.append(truth.labels[k] if rng.random() < 0.8 else rng.integers(4))
                polygons.append([part + shift for part in truth.polygons[k]])
        scores = rng.random(len(boxes)).round(2)
        found[dataset.images.ids[index]] = Annotations(
            boxes, labels, scores=scores, polygons=polygons
        )
    return found


def sizes(dataset):
    return {
        i: (h, w)
        for i, h, w in zip(
            dataset.images.ids, dataset.images.height.tolist(), dataset.images.width.tolist(),
            strict=True,
        )
    }  # fmt: skip


def test_the_numbers_are_pycocotools_own(shapes, tmp_path):
    found = moved(shapes, 1)
    records = mask_records(found, sizes(shapes), shapes.class_ids)
    (tmp_path / "found.json").write_text(json.dumps(records))
    # With a box in the record pycocotools would take the box's area for the mask's.
    plain = [{k: v for k, v in record.items() if k != "bbox"} for record in records]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(shapes.source))
        evaluator = COCOeval(truth, truth.loadRes(plain), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    for results in (found, records, tmp_path / "found.json"):
        report = evaluate_masks(shapes, results)
        ours = np.array([report.coco[name] for name in NUMBERS], float)
        np.testing.assert_array_equal(ours, np.where(evaluator.stats < 0, np.nan, evaluator.stats))
    assert 0.05 < report.coco["AP"] < 0.95
    assert kind_of_results(ResultsFile(tmp_path / "found.json"))[0] == "mask"
    json.dumps(report.to_json())


def test_each_objects_best_iou_is_that_of_decoded_masks(shapes):
    found = moved(shapes, 2)
    report = evaluate_masks(shapes, found)
    rows = iter(report.best_iou)
    for index in range(len(shapes)):
        truth = shapes[index].annotations
        height, width = shapes[index].height, shapes[index].width
        one = found[shapes.images.ids[index]]
        pixels = [drawn(outline, height, width) for outline in one.polygons]
        rows_here = np.flatnonzero((shapes.objects.image == index) & ~shapes.objects.crowd)
        for k, row in zip(np.flatnonzero(~truth.crowd), rows_here, strict=True):
            outline = [part[:, ::-1] for part in shapes.objects.polygon(row)]  # not rounded
            own = drawn(outline, height, width)
            ious = [
                (own & other).sum() / (own | other).sum()
                for other, label in zip(pixels, one.labels, strict=True)
                if label == truth.labels[k]
            ]
            assert next(rows) == pytest.approx(max(ious, default=0))
    assert next(rows, None) is None


def drawn(outline, height, width):
    parts = [part[:, ::-1].ravel().astype(float).tolist() for part in outline]
    rle = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    return RLE.from_coco(rle["size"], rle["counts"]).decode().astype(bool)


def test_masks_polygons_and_boxes_are_taken(shapes):
    truth = shapes[0].annotations
    truth = truth.select(~truth.crowd)
    height, width = shapes[0].height, shapes[0].width
    masks = [RLE.from_mask(drawn(outline, height, width)) for outline in truth.polygons]
    one = shapes.subset([0])
    scores = np.ones(len(truth))
    image_id = one.images.ids[0]
    for given in (
        truth.replace(scores=scores),
        truth.replace(scores=scores, masks=masks, polygons=None),
    ):
        assert evaluate_masks(one, {image_id: given}).coco["AP"] == pytest.approx(1.0)
    boxes = evaluate_masks(one, {image_id: truth.replace(scores=scores, polygons=None)})
    assert boxes.mean_best_iou < 0.95
    by_image = annotations_by_image(
        one, {image_id: truth.replace(scores=scores, masks=masks, polygons=None)}, "mask"
    )
    assert by_image[0].masks == tuple(masks)


def test_three_hundred_masks_are_no_trouble(shapes):
    one = shapes.subset([0])
    count = 300
    found = Annotations(
        np.tile([(5, 5, 50, 60)], (count, 1)), np.zeros(count, int), scores=np.linspace(0, 1, count)
    )
    report = evaluate_masks(one, {one.images.ids[0]: found})
    assert report.num_detections == count
    assert report.detections_over_limit == count - 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "the mask is 3x3, the image 192x256"),
        ({"segmentation": 7}, "the segmentation 7 cannot be read"),
        ({"segmentation": [["a"]]}, "cannot be read"),
        ({"score": None}, "the score None is no finite number"),
        ({"image_id": 99}, "no image 99"),
    ],
)
def test_records_that_do_not_belong_are_named(shapes, change, message):
    record = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "score": 0.5}
    evaluate_masks(shapes, [record])
    with pytest.raises(DataError, match=message):
        evaluate_masks(shapes, [record, record | change])
