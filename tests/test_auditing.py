"""The audit accounts for every object once, says what the numbers say, and stays light."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import ytrue
from ytrue import Annotations, Example
from ytrue.encoders import (
    AnchorEncoder,
    AnchorGrid,
    MaskEncoder,
    PolygonEncoder,
    YoloEncoder,
    preset,
)


class Listed:
    """A dataset of given annotations in 256 x 256 images."""

    def __init__(self, *annotations, classes=("cat", "dog")):
        self.annotations, self.classes = annotations, classes

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, index):
        return Example(
            f"im{index}", f"{index}.jpg", 256, 256, self.annotations[index], classes=self.classes
        )


def boxes_of(rng, n, low, high):
    sides = rng.uniform(low, high, (n, 2))
    corner = rng.uniform(0, 256 - high, (n, 2))
    return np.concatenate((corner, corner + sides), axis=1)


def test_every_object_is_counted_exactly_once():
    rng = np.random.default_rng(0)
    parts = []
    for n in (0, 1, 30, 7):
        boxes = boxes_of(rng, n, 2, 120)
        if n > 6:
            boxes[0] = (5, 5, 5, 9)
            boxes[1] = (300, 300, 310, 310)
            boxes[2] = np.nan
        parts.append(Annotations(boxes, rng.integers(0, 2, n), crowd=np.arange(n) == 3))
    encoder = preset("ytrue", 256, 2)
    report = ytrue.audit(Listed(*parts), encoder)
    assert (report.num_images, report.num_objects) == (4, 38)
    outcomes = report.outcomes()
    assert sum(outcomes.values()) == 38
    assert (
        outcomes["crowd"],
        outcomes["no-area"],
        outcomes["outside"],
        outcomes["not-finite"],
    ) == (2, 2, 2, 2)
    assert sum(report.owned().values()) == 36
    assert report.owned()["0"] == len(report.lost_objects()) == 6
    assert report.lost_share == pytest.approx(6 / 36)
    for table in (report.by_size(), report.by_class(), report.by_ratio()):
        counted = sum(row["objects"] for row in table.values())
        assert counted == (32 if table.keys() == report.by_ratio().keys() else 36)
    explained = [encoder.explain(p) for p in parts]
    np.testing.assert_array_equal(
        report.rows.positives, np.concatenate([e.positives for e in explained])
    )
    np.testing.assert_array_equal(report.image_positives, [(e.state == 1).sum() for e in explained])
    np.testing.assert_array_equal(report.image_ignored, [(e.state == -1).sum() for e in explained])
    assert (
        sum(row["positives"] for row in report.by_class().values()) == report.image_positives.sum()
    )


def test_objects_are_measured_at_the_networks_input():
    report = ytrue.audit(Listed(Annotations([(0, 0, 100, 200)], [0])), preset("ytrue", 512, 2))
    np.testing.assert_array_equal((report.rows.height[0], report.rows.width[0]), (200, 400))
    assert report.by_size()["large (>= 96 px)"]["objects"] == 1
    assert report.by_ratio()["1.5:1 to 3:1"]["objects"] == 1


ADVICE = [
    (
        [(10, 10, 15, 15)] * 3,
        {},
        r"100% of your objects are under 12 px at 256x256: a larger input",
    ),
    (
        [(10, 10, 15, 15)] * 299 + [(10, 10, 90, 90)],
        {},
        r"^over 99% of your objects are under 12 px",
    ),
    ([(10, 10, 12, 200)] * 3, {}, "are thinner than 1:3: add aspect_ratios such as 4.0 and 0.25"),
    (
        [(10, 10, 12, 12)] * 3,
        {"force": "none"},
        r"3 of 3 objects own no position and teach nothing \(3 low-iou\)",
    ),
    (
        [(10, 10, 12, 12)] * 3,
        {"force": "none"},
        "3 of them would own a position under the preset ytrue",
    ),
    ([(10, 10, 90, 90)], {}, r"1 class has fewer than 10 objects: cat \(1\)"),
    ([(10, 10, 90, 90)], {}, "1 of 2 classes has no object: dog"),
]


@pytest.mark.parametrize(("boxes", "options", "sentence"), ADVICE)
def test_advice_says_its_numbers(boxes, options, sentence):
    encoder = AnchorEncoder(AnchorGrid(256), 2, **options)
    report = ytrue.audit(Listed(Annotations(boxes, [0] * len(boxes))), encoder)
    assert any(re.search(sentence, line) for line in report.advice()), report.advice()


CELLS = (48, 48, 80, 80)
CELL_ADVICE = [
    (
        [CELLS] * 3,
        {"stride": 32},
        r"1 of them found no free anchor in their cells: a stride below 32, more levels or more "
        r"anchors than 2 a cell \(--set stride, --set anchors\) would hold them",
    ),
    (
        [CELLS] * 2,
        {"stride": 32},
        r"50% of your objects own only forced places, those they did not ask for first",
    ),
    (
        [CELLS] * 2,
        {"stride": 32},
        r"1 of these asked for a place that went to another object: a stride below 32",
    ),
    (
        [(8, 8, 12, 200)],
        {"stride": 16, "match": "ratio", "ratio": 3.0},
        r"1 of these are of no anchor's shape: more anchors than 2 a cell, fitted to your objects "
        r"\(--set anchors, or ytrue.anchortuning.fit_anchors\), or a larger ratio than 3\.",
    ),
    (
        [(8, 8, 12, 200)],
        {"stride": (16, 32)},
        r"100% of your objects have an IoU below 0.4 with every anchor put on their centre "
        r"\(median of all 0\.\d\d\): more anchors than 2 a cell",
    ),
    (
        [(10, 10, 15, 15)],
        {"stride": (16, 32)},
        r"100% of your objects are under 12 px at 256x256: a larger input, tiles, or a stride "
        r"below 16 \(--set stride\) would keep them apart",
    ),
    (
        [(0, 0, 256, 256)],
        {"stride": 128, "ignore_iou": 0.1, "anchors": [(100, 100), (120, 120)]},
        r"of all positions are ignored: crowds, or anchors above ignore_iou, cover much",
    ),
]


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize(("boxes", "options", "sentence"), CELL_ADVICE)
def test_advice_on_cells_speaks_of_their_options(boxes, options, sentence, polygons):
    anchors = [[(30, 30), (60, 60)]] * np.size(options["stride"])
    encoder = YoloEncoder(256, num_classes=2, **({"anchors": anchors} | options))
    encoder = PolygonEncoder(encoder) if polygons else encoder
    report = ytrue.audit(Listed(Annotations(boxes, [0] * len(boxes))), encoder)
    assert any(re.search(sentence, line) for line in report.advice()), report.advice()
    said = " ".join(report.advice())
    for name in ("aspect_ratios", "anchor_scale", "num_scales", "min_level", "reserved", "padding"):
        assert name not in said


def test_masks_get_the_advice_and_the_thresholds_of_their_boxes():
    from ytrue import viz

    boxes = AnchorEncoder(AnchorGrid(256), 2, force="none")
    report = ytrue.audit(Listed(Annotations([(10, 10, 12, 12)], [0])), MaskEncoder(boxes))
    assert any("would own a position under the preset ytrue" in said for said in report.advice())
    titles = [axes.get_title() for axes in viz.show_audit(report).axes]
    assert "best IoU of each object (dashed: thresholds)" in titles


def test_what_is_forced_is_called_so_everywhere():
    from rich.console import Console

    from ytrue import viz
    from ytrue.viz.page import audit_fragment

    encoder = YoloEncoder(256, [(30, 30), (60, 60)], stride=32, num_classes=2)
    report = ytrue.audit(Listed(Annotations([CELLS] * 2, [0, 1])), encoder)
    console = Console(record=True, width=140)
    viz.print_audit(report, console)
    figure = viz.show_audit(report)
    keys = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert keys == ["matched", "only forced", "lost"]
    for said in (console.export_text(), audit_fragment(report), figure.get_suptitle()):
        assert "forced" in said
        assert not any(other in said for other in ("reserved", "second choice"))
    anchors = ytrue.audit(Listed(Annotations([(8, 8, 12, 200)], [0])), preset("ytrue", 256, 2))
    assert "100.0% only forced" in viz.show_audit(anchors).get_suptitle()


def test_a_sound_dataset_gets_no_advice():
    rng = np.random.default_rng(1)
    parts = [Annotations(boxes_of(rng, 4, 40, 80), [0, 1, 0, 1]) for _ in range(10)]
    report = ytrue.audit(Listed(*parts), preset("ytrue", 256, 2))
    assert report.advice() == []
    assert report.worst_images() == []


def test_an_empty_dataset_is_said_to_be_empty():
    report = ytrue.audit(Listed(Annotations()), preset("ytrue", 256, 2))
    assert report.advice() == ["No object in the dataset: a network would learn background only."]
    assert report.num_objects == 0
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["objects"] == 0


def test_json_holds_everything_without_nan():
    report = ytrue.audit(
        Listed(Annotations([(1, 1, 1, 5), (9, 9, 90, 90)], [0, 1])), preset("ytrue", 256, 2)
    )
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["outcomes"] == report.outcomes()
    assert plain["lost_objects"] == [
        {
            "image_id": "im0",
            "object": 0,
            "class": "cat",
            "reason": "no-area",
            "best_iou": 0.0,
            "size": 0.0,
        }
    ]
    assert plain["encoder"]["positive_iou"] == 0.5


def test_worst_images_come_first():
    good, bad = Annotations([(9, 9, 90, 90)], [0]), Annotations([(9, 9, 9, 9)] * 2, [0, 0])
    report = ytrue.audit(Listed(good, bad, good), preset("ytrue", 256, 2))
    assert report.worst_images() == [{"image_id": "im1", "objects": 2, "lost": 2, "forced": 0}]


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="the encoder knows 1 classes, the dataset has 2"):
        ytrue.audit(Listed(Annotations()), preset("ytrue", 256, 1))


def test_crowd_masks_count_in_the_audit(tmp_path):
    from ytrue.datasets import load, write_shapes

    dataset = load(write_shapes(tmp_path, num_images=6, image_size=(128, 128)))
    report = ytrue.audit(dataset, preset("ytrue", 128, 4))
    assert report.outcomes()["crowd"] == 1
    assert report.image_ignored[5] > 0


def test_it_imports_neither_pictures_nor_tensorflow():
    code = (
        "import sys, ytrue.auditing, ytrue.advising, ytrue.datasets.loading, ytrue.datasets.coco\n"
        "heavy = {'matplotlib', 'tensorflow', 'keras', 'numba', 'cv2', 'albumentations', 'rich'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_size_at_a_bound_is_in_the_bin_that_begins_there():
    sides = [11.5, 12, 31.5, 32, 95.5, 96]
    boxes = [(8, 8, 8 + side, 8 + side) for side in sides]
    encoder = preset("ytrue", 256, 2)
    parts = [Annotations(boxes, [0] * len(boxes))]
    found = ytrue.audit(Listed(*parts), encoder).by_size()
    counts = {name.split()[0]: row["objects"] for name, row in found.items()}
    assert counts == {"tiny": 1, "small": 2, "medium": 2, "large": 1}
