"""A comparison says of each encoder what its own audit says, in a table, JSON and a page."""

import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

import ytrue
from ytrue import Annotations, DataError, Example, viz
from ytrue.auditing import SIZE_BINS
from ytrue.cli.tasks import TASK_BUILDERS, Choices, encoder_named
from ytrue.comparing import SAMPLE_IMAGES
from ytrue.datasets import load, write_shapes
from ytrue.encoders import (
    PRESETS,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    PoseEncoder,
    preset,
)

SIZE = (128, 128)


class Listed:
    """A dataset of given annotations in 128 x 128 images."""

    classes = ("cat", "dog", "owl")

    def __init__(self, *annotations):
        self.annotations = annotations

    def __len__(self):
        return len(self.annotations)

    def __getitem__(self, index):
        return Example(
            f"im{index}", f"{index}.jpg", 128, 128, self.annotations[index], classes=self.classes
        )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zz-compared")
    return load(write_shapes(folder, num_images=9, image_size=(96, 128), bad=True))


@pytest.fixture(scope="module")
def encoders(shapes):
    names = (*PRESETS, "yolo", "fcos", "centernet", "polygon", "mask")
    return {name: encoder_named(name, Choices("128"), shapes) for name in names}


@pytest.fixture(scope="module")
def comparison(shapes, encoders):
    return ytrue.compare(shapes, encoders, resize="stretch")


def run(*arguments):
    """Run the command line in this process and return what it printed."""
    from typer.testing import CliRunner

    from ytrue.cli import app

    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_the_numbers_are_those_of_separate_audits(shapes, encoders, comparison):
    assert [row.name for row in comparison.rows] == list(encoders)
    for row, encoder in zip(comparison.rows, encoders.values(), strict=True):
        report = ytrue.audit(shapes, encoder, resize="stretch")
        assert row.audit.to_json() == report.to_json()
        assert row.lost == len(report.lost_objects())
        reasons = [lost["reason"] for lost in report.lost_objects()]
        assert row.lost_reasons() == {name: reasons.count(name) for name in set(reasons)}
        owned = report.rows.positives[report.matchable]
        assert row.positives_per_object == pytest.approx(owned.mean())
        size = report.size[report.matchable]
        for (name, low, high), mean in zip(
            SIZE_BINS, row.positives_by_size().values(), strict=True
        ):
            inside = (size >= low) & (size < high)
            assert comparison.objects_by_size()[name] == inside.sum()
            expected = owned[inside].mean() if inside.any() else math.nan
            assert mean == pytest.approx(expected, nan_ok=True)


def test_bytes_are_those_of_the_target(shapes, encoders, comparison):
    fixed = ("ytrue", "fcos", "centernet")
    assert comparison.sample_images == min(SAMPLE_IMAGES, len(shapes))
    for row in comparison.rows:
        assert row.encode_seconds > 0
        if row.name in fixed:
            target = encoders[row.name].encode(Annotations())
            assert row.target_bytes == sum(array.nbytes for array in target.values())
    of = {row.name: row.target_bytes for row in comparison.rows}
    assert of["mask"] > of["ytrue"]
    assert of["polygon"] > of["fcos"]


def test_class_balance_is_the_largest_classs_share_to_the_smallests():
    two_cats = Annotations([(0, 0, 40, 40), (60, 60, 100, 100)], [0, 0])
    a_dog = Annotations([(10, 10, 60, 60)], [1])
    compared = ytrue.compare(
        Listed(two_cats, a_dog), {"centre": CenterNetEncoder(SIZE, num_classes=3)}
    )
    # One cell each; of owls there is none, so they do not count.
    assert compared.object_balance() == ("cat", "dog", 2.0)
    assert compared.rows[0].balance() == ("cat", "dog", 2.0)


def test_a_class_without_positives_is_infinitely_less():
    lost = Annotations([(0, 0, 40, 40), (5, 5, 5, 5)], [0, 1])
    compared = ytrue.compare(Listed(lost), {"ytrue": preset("ytrue", SIZE, 3)})
    assert compared.rows[0].balance().ratio == math.inf
    assert compared.rows[0].lost_reasons() == {"no-area": 1}
    plain = json.loads(json.dumps(compared.to_json(), allow_nan=False))
    assert plain["encoders"][0]["class_balance"] == {
        "largest": "cat", "smallest": "dog", "ratio": None,
    }  # fmt: skip
    assert plain["class_balance_of_objects"]["ratio"] == 1


def test_crowds_are_no_objects_here():
    crowd = Annotations([(0, 0, 60, 60), (60, 60, 90, 90)], [0, 1], crowd=np.array([True, False]))
    compared = ytrue.compare(Listed(crowd), {"fcos": FCOSEncoder(SIZE, 3)})
    assert compared.num_objects == sum(compared.objects_by_size().values()) == 1
    assert compared.object_balance() == ("dog", "dog", 1.0)


def test_busiest_images_come_first():
    def of(count, crowds=0):
        boxes = [(4 * k, 4 * k, 4 * k + 20, 4 * k + 20) for k in range(count + crowds)]
        return Annotations(boxes, [0] * len(boxes), crowd=np.arange(len(boxes)) >= count)

    dataset = Listed(of(1), of(3), of(0, crowds=9), of(2), of(3))
    compared = ytrue.compare(dataset, {"fcos": FCOSEncoder(SIZE, 3)})
    assert compared.busiest(3) == [1, 4, 3]
    assert compared.busiest(9) == [1, 4, 3, 0]
    assert compared.busiest(0) == []


def test_progress_tells_of_all_audits(shapes):
    told = []
    fcos = FCOSEncoder(SIZE, shapes.num_classes)
    ytrue.compare(shapes, {"a": fcos, "b": fcos}, progress=lambda *done: told.append(done))
    assert told == [(len(shapes), 2 * len(shapes)), (2 * len(shapes), 2 * len(shapes))]


def test_what_cannot_be_compared_is_said(shapes):
    boxes, points = preset("ytrue", SIZE, 4), KeypointGridEncoder(SIZE, num_classes=4, stride=8)
    for encoder in (points, PoseEncoder(boxes, points)):
        with pytest.raises(ValueError, match="encoder mine: it gives slots to points, or has"):
            ytrue.compare(shapes, {"box": boxes, "mine": encoder})
    with pytest.raises(ValueError, match=r"several image sizes \(box 128x128, small 64x96\)"):
        ytrue.compare(shapes, {"box": boxes, "small": preset("ytrue", (64, 96), 4)})
    with pytest.raises(ValueError, match="expected one at least"):
        ytrue.compare(shapes, {})
    crowd = Annotations([(0, 0, 60, 60)], [0], crowd=[True])
    for dataset in (Listed(), Listed(Annotations()), Listed(crowd)):
        with pytest.raises(DataError, match="no object but crowds"):
            ytrue.compare(dataset, {"box": boxes})


def test_json_says_it_all(comparison, encoders):
    plain = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert plain["image_size"] == [128, 128]
    assert plain["resize"] == "stretch"
    assert sum(plain["objects_by_size"].values()) == plain["objects"]
    for told, row in zip(plain["encoders"], comparison.rows, strict=True):
        assert told["encoder"] == json.loads(json.dumps(encoders[row.name].config()))
        assert told["lost"] == sum(told["lost_reasons"].values()) == row.lost
        assert told["ignored_share"] == row.audit.ignored_share
        means = told["positives_per_object_by_size"]
        assert means["large"] is None  # none is, in an input of this size
        assert means["medium"] == row.positives_by_size()["medium"] > 0


def test_the_table_fits_a_hundred_columns(comparison):
    console = Console(width=100, record=True, file=io.StringIO())
    viz.print_comparison(comparison, console)
    lines = console.export_text().splitlines()
    assert all("…" not in line for line in lines)
    for row in comparison.rows:
        cells = next(line for line in lines if line.startswith(f"{row.name} ")).split()
        assert (
            cells[1] == f"{row.positives_per_object:.{2 if row.positives_per_object < 10 else 1}f}"
        )
        assert f"{row.audit.ignored_share:.2%}" in cells
        if row.lost:
            assert any(f"{row.name} loses {row.lost} of" in line for line in lines)


def test_a_notebook_shows_the_table(comparison):
    assert "<table>" in comparison._repr_html_()
    assert "keras_hub" in comparison._repr_html_()


def test_the_command_prints_and_writes_all_pictures(shapes, tmp_path, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    page = tmp_path / "new" / "page.html"
    said = run(
        "compare", shapes.source, "--with", "retinanet,fcos,polygon", "--size", "128", "--html",
        page, "--images-shown", "2",
    )  # fmt: skip
    assert f"wrote {page}" in said.replace("\n", "")
    assert "…" not in said
    html = page.read_text()
    alts = re.findall(r'<img alt="([^"]+)" src="data:image/jpeg;base64,', html)
    chosen = ytrue.compare(shapes, {"fcos": FCOSEncoder(SIZE, 4)}).busiest(2)
    names = [shapes[image].path.name for image in chosen]
    assert [alt.split(":")[0] for alt in alts] == [names[0]] * 3 + [names[1]] * 3
    assert [alt.split(", ")[1] for alt in alts] == ["retinanet", "fcos", "polygon"] * 2
    assert len(set(re.findall(r"base64,([^\"]+)", html))) == 6
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_the_commands_json(shapes, tmp_path):
    done = run(
        "compare", shapes.source, "--with", "efficientdet, box", "--size", "96x128", "--json"
    )
    plain = json.loads(done)
    assert [row["name"] for row in plain["encoders"]] == ["efficientdet", "box"]
    assert plain["image_size"] == [96, 128]
    assert plain["encoders"][1]["encoder"] == preset("ytrue", (96, 128), 4).config()


def test_every_name_but_those_of_points_is_taken(shapes):
    names = (*PRESETS, *(name for name in TASK_BUILDERS if name not in ("keypoints", "pose")))
    plain = json.loads(
        run("compare", shapes.source, "--with", ",".join(names), "--size", "128", "--json")
    )
    assert [row["name"] for row in plain["encoders"]] == list(names)


def test_a_preset_keeps_the_anchors_it_is_about(shapes):
    """What a network asks of the anchors is for presets that say nothing of it; a user is heard."""
    network = {"anchor_scale": 3.0, "max_level": 6}
    for name, scale in (("ytrue", 3.0), ("atss", 8.0), ("center_prior", 4.0)):
        grid = encoder_named(name, Choices("128", grid=network), shapes).grid
        assert (grid.anchor_scale, grid.max_level) == (scale, 6)
    own = encoder_named("atss", Choices("128", grid=network, anchor_scale=2.5), shapes)
    assert (own.grid.anchor_scale, len(own.grid.anchor_shapes[0])) == (2.5, 1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "fcos,ssd",
            "--with ssd: expected one of ytrue, efficientdet, retinanet, keras_hub, atss, center_prior, ",
        ),
        ("keypoints", "--with keypoints: expected one of "),
        ("", "--with : expected one of "),
        ("fcos,yolo,fcos", "--with fcos,yolo,fcos: fcos more than once"),
    ],
)
def test_wrong_names_are_said(shapes, names, said):
    with pytest.raises(ValueError) as caught:
        run("compare", shapes.source, "--with", names)
    assert str(caught.value).startswith(said)


def test_the_command_refuses_a_dataset_without_objects(tmp_path):
    file = tmp_path / "empty.json"
    file.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}],
                "annotations": [],
                "categories": [{"id": 1, "name": "cat"}],
            }
        )
    )
    with pytest.raises(DataError, match="no object but crowds, so there is nothing to compare"):
        run("compare", file, "--with", "yolo")
