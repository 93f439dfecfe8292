"""`--set NAME=VALUE`: every value is taken or ends in one line, on every verb and task."""

import json

import pytest
from typer.testing import CliRunner

import ytrue
from ytrue.cli import app
from ytrue.cli.tasks import TASK_BUILDERS, Choices, _names_of, encoder_of, settings_for


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    """Two shapes an image, each with two keypoints."""
    folder = tmp_path_factory.mktemp("posed")
    path = ytrue.datasets.write_shapes(folder, num_images=3, image_size=(96, 128))
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["keypoints"] = [x + 1, y + 1, 2, x + width - 1, y + height - 1, 2]
        annotation["num_keypoints"] = 2
    for category in content["categories"]:
        category |= {"keypoints": ["head", "tip"], "skeleton": []}
    path.write_text(json.dumps(content))
    return path


ODD = (
    "abc",
    "none",
    "nan",
    "inf",
    "-1",
    "0",
    "1",
    "8.5",
    "1,2",
    "1x2",
    "1x2,3",
    "a,b",
    "none,none",
)


@pytest.mark.parametrize("task", TASK_BUILDERS)
def test_a_value_that_is_none_is_told_by_its_name(posed, task):
    dataset = ytrue.datasets.load(posed)
    for name in _names_of(task):
        for value in ODD:
            said = outcome(task, f"{name}={value}", dataset)
            assert said == "" or (name in said and "\n" not in said), (name, value, said)
            assert said or value not in ("abc", "nan", "-1", "a,b"), (name, value)


def outcome(task, text, dataset):
    """Return what is said against a setting; "" where an encoder comes of it."""
    try:
        encoder = encoder_of(task, Choices("64x96", settings=(text,)), dataset)
    except ValueError as error:
        return str(error)
    json.dumps(encoder.config())
    return ""


def test_one_ratio_is_one_square_anchor_and_none_is_the_default(posed):
    dataset = ytrue.datasets.load(posed)

    def grid(*settings):
        return encoder_of("box", Choices("64x96", settings=settings), dataset).grid

    assert grid("aspect_ratios=1").aspect_ratios == (1.0,)
    assert grid("max_level=none", "num_scales=none") == grid()
    assert grid("cell_offset=0.25").cell_offset == 0.25


def test_the_boxes_of_poses_and_masks_take_the_settings_of_boxes(posed):
    dataset = ytrue.datasets.load(posed)
    pose = encoder_of("pose", Choices("64x96", settings=("positive_iou=0.6", "stride=16")), dataset)
    assert pose.boxes.positive_iou == 0.6
    assert pose.keypoints.grid == ((4, 6),)
    mask = encoder_of("mask", Choices("64x96", settings=("positive_iou=0.6", "stride=8")), dataset)
    assert mask.boxes.positive_iou == 0.6
    assert mask.stride == 8
    assert mask.boxes.grid.stride == "fractional"


@pytest.mark.parametrize(
    ("task", "size", "strides"),
    [("fcos", "64", (8, 16, 32, 64)), ("fcos", "40x160", (8, 16, 32, 64, 128)), ("fcos", "8", (8,)),
     ("yolo", "16", (8, 16)), ("keypoints", "16", (8, 16)), ("polygon", "8", (8,))],
)  # fmt: skip
def test_small_inputs_leave_out_strides_whose_grids_are_one(posed, task, size, strides, capsys):
    encoder = encoder_of(task, Choices(size), ytrue.datasets.load(posed))
    grids = getattr(encoder, "boxes", encoder).grid if task == "polygon" else encoder.cells.grid
    assert len(grids) == len(set(grids)) == len(strides)
    said = capsys.readouterr().err
    assert (f"only {', '.join(map(str, strides))} have grids of their own" in said) == (
        size != "40x160"
    )


def test_each_encoder_is_given_the_settings_that_it_takes():
    texts = ("positive_iou=0.6", "num_scales=2", "center_radius=2", "ratio=3")
    assert settings_for("ytrue", texts) == texts[:2]
    assert settings_for("retinanet", texts) == texts[:1]  # its anchors are its own
    assert settings_for("fcos", texts) == texts[2:3]
    assert settings_for("yolo", texts) == texts[3:]


def test_compare_sets_what_its_encoders_take(posed):
    def compare(*arguments):
        return CliRunner().invoke(
            app, ["compare", str(posed), "--size", "64x96", "--with", "ytrue,fcos", *arguments]
        )

    plain, strict = compare("--json"), compare("--json", "--set", "positive_iou=0.9")
    assert plain.exit_code == strict.exit_code == 0
    encoders = [json.loads(found.stdout)["encoders"] for found in (plain, strict)]
    assert encoders[0] != encoders[1]
    refused = compare("--set", "top=1")
    assert isinstance(refused.exception, ValueError)
    assert str(refused.exception) == "--set top=1: none of ytrue, fcos takes it"
