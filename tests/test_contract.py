"""What every encoder promises, checked of all of them: a new one is listed in `CASES`."""

import importlib
import json
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path

import made
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies import Places, annotations, outlined, posed
from ytrue import Annotations, Encoder
from ytrue.boxes import clip
from ytrue.cli.tasks import TASK_BUILDERS, Choices, encoder_of
from ytrue.contract import (
    IGNORE,
    LOST,
    NEGATIVE,
    OUTCOMES,
    POINT_LOST,
    POINT_OUTCOMES,
    POSITIVE,
    Assignment,
    JointEncoder,
    PointAssignment,
    encoders_in,
    gives_slots_to_points,
    parts_of,
)
from ytrue.datasets import load, pipeline, write_shapes
from ytrue.datasets.augment import Light
from ytrue.encoders import (
    ENCODERS,
    AnchorEncoder,
    AnchorGrid,
    CenterNetEncoder,
    FCOSEncoder,
    KeypointGridEncoder,
    MaskEncoder,
    PolygonEncoder,
    PoseEncoder,
    YoloEncoder,
    from_config,
)
from ytrue.model import Recipe
from ytrue.model.evaluating.kinds import FINDS
from ytrue.model.exporting.decoding import DECODINGS, decoding_of
from ytrue.model.pyramidnet import HEADS
from ytrue.model.tasks import TASKS, build_model, check_fits, task_of
from ytrue.resizing import Placement, fit, place
from ytrue.viz import png_bytes, show_encoding

SIZE = (64, 96)
CLASSES = 5
LANDMARKS = 4
PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding-an-encoder.md"


# What encoders are shown.


def on_positions(encoder):
    """Boxes that have to do with the encoder's own positions."""
    return annotations(Places(encoder.explain(Annotations())), max_objects=6)


def on_pose(encoder):
    """Boxes as of the part, with keypoints."""
    return on_positions(encoder.boxes).map(with_points)


def with_points(objects):
    """Give every object landmarks, where it is finite inside it: visible, hidden and unlabelled."""
    shares = np.array([(0.2, 0.3), (0.8, 0.4), (0.5, 0.7), (0.6, 0.1)])
    low, high = np.split(objects.boxes.astype(np.float64)[:, None], 2, axis=2)
    with np.errstate(all="ignore"):
        points = (low + shares * (high - low)).astype(np.float32)
    seen = np.broadcast_to(np.float32([2, 1, 2, 0])[:, None], (len(objects), LANDMARKS, 1))
    return objects.replace(keypoints=np.concatenate((points, seen), axis=2))


def with_outlines(objects):
    """Give every finite object a diamond that fills its box, but each third one."""
    polygons = []
    for k, (y_min, x_min, y_max, x_max) in enumerate(objects.boxes.astype(np.float64).tolist()):
        y, x = (y_min + y_max) / 2, (x_min + x_max) / 2
        ring = np.array([(y_min, x), (y, x_max), (y_max, x), (y, x_min)])
        polygons.append([ring] if k % 3 < 2 and np.isfinite(ring).all() else [])
    return objects.replace(polygons=polygons)


@dataclass(frozen=True)
class Case:
    """A small encoder of frames of `SIZE` and `CLASSES` classes, and what it is about.

    Attributes:
        encoder: of which everything is checked.
        dress: gives plain boxes what it is about beside them.
        inputs: a hypothesis strategy of annotations for it.
    """

    encoder: Encoder
    dress: Callable[[Annotations], Annotations] = lambda objects: objects
    inputs: Callable[[Encoder], st.SearchStrategy[Annotations]] = on_positions


ANCHORS = AnchorEncoder(AnchorGrid(SIZE, 3, 4, 1, (1.0, 2.0)), CLASSES)
YOLO = YoloEncoder(SIZE, [[(12, 12)], [(30, 40)]], stride=(8, 16), num_classes=CLASSES)
POINTS = KeypointGridEncoder(SIZE, stride=(8, 16), num_classes=LANDMARKS, points_per_cell=2)

CASES = {
    "anchor": Case(ANCHORS),
    "centernet": Case(CenterNetEncoder(SIZE, CLASSES, stride=8)),
    "fcos": Case(FCOSEncoder(SIZE, CLASSES, stride=(8, 16))),
    "keypoint-grid": Case(POINTS, with_points, posed),
    "mask": Case(MaskEncoder(ANCHORS, stride=8), with_outlines, outlined),
    "polygon": Case(PolygonEncoder(YOLO, bins=8), with_outlines, outlined),
    "pose": Case(PoseEncoder(ANCHORS, POINTS), with_points, on_pose),
    "yolo": Case(YOLO),
}
VARIANTS = {
    "anchor, atss": Case(replace(ANCHORS, matcher="atss", force="none")),
    "anchor, center-prior": Case(replace(ANCHORS, matcher="center-prior", force="none")),
}


def page_of(path):
    """Run a page's Python; return its module and file -> table -> the entries it adds."""
    module = types.ModuleType("added")
    sys.modules[module.__name__] = module  # where dataclass and pickle look
    text, entries = path.read_text(), []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, path.name, "exec"), vars(module))
    for file, table, lines in re.findall(r"```py\n# (\S+)\.py: (\w+)\n(.*?)```", text, re.DOTALL):
        entries.append((file, table, lines))
    return module, entries


def table_of(file, table):
    """Return a table of the library, and the names its file knows."""
    if file == "tests/test_contract":
        return CASES, globals()
    package = file.replace("/", ".")
    names = vars(
        importlib.import_module(package if file.startswith("ytrue/") else f"ytrue.{package}")
    )
    return names[table], names


ADDED, LINES = page_of(PAGE)


def entry(file, table, lines):
    _, names = table_of(file, table)
    return eval(f"{{{lines}}}", {**names, **vars(ADDED)})


ALL = CASES | VARIANTS | entry(*next(line for line in LINES if line[1] == "CASES"))
"""Those of the package, and the one that the documentation adds."""


def register(monkeypatch):
    """Add the page's lines to the library's tables, for one test."""
    for line in LINES:
        for key, value in entry(*line).items():
            monkeypatch.setitem(table_of(*line[:2])[0], key, value)


def test_every_registered_encoder_is_in_the_table():
    assert CASES.keys() == ENCODERS.keys()
    for name, case in CASES.items():
        assert type(case.encoder) is ENCODERS[name]
        assert case.encoder.config()["encoder"] == name
        assert case.encoder.image_size == SIZE


BOXES = {
    "empty": [],
    "one": [(10, 20, 30, 44)],
    "many": [
        (2, 3, 14, 17), (20, 5, 60, 33), (8, 40, 30, 61), (33, 50, 45, 90), (50, 60, 63, 71),
        (-8, 70, 21, 130), (1, 1, 62, 94), (40, 8, 47, 12), (12, 22, 12.5, 23),
    ],
    "crowd-only": [(5, 5, 40, 60), (30, 30, 64, 96)],
    "degenerate": [
        (10, 10, 10, 30), (9, 9, 9, 9), (30, 30, 20, 20), (np.nan, 0, 10, 10), (0, 0, np.inf, 10),
        (0, -np.inf, 8, 8), (70, 10, 90, 30), (-20, -20, -1, -1), (64, 0, 80, 10), (5, 5, 25, 29),
    ],
    "duplicates": [(10, 20, 30, 44)] * 3 + [(2, 3, 14, 17)] * 2,
}  # fmt: skip


def example(case, kind):
    """Return the annotations of one kind, dressed for an encoder."""
    boxes = BOXES[kind]
    crowd = np.full(len(boxes), kind == "crowd-only")
    return case.dress(Annotations(boxes, np.arange(len(boxes)) % CLASSES, crowd))


def scattered(seed, count=8):
    """Return objects of which no two are alike, one of them a crowd and one without area."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(3), np.log(50), (count, 2)))
    low = rng.uniform(-5, 60, (count, 2))
    size[1] = 0
    return Annotations(
        np.hstack((low, low + size)), rng.integers(0, CLASSES, count), np.arange(count) == 0
    )


def split(encoder, arrays):
    """Return part -> its arrays, as `encoders_in` names the parts."""
    return parts_of(arrays) if isinstance(encoder, JointEncoder) else {"": arrays}


def explained(encoder, objects):
    """Return part -> what it decided."""
    told = encoder.explain(objects)
    return told.parts if isinstance(encoder, JointEncoder) else {"": told}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def assert_fits(target, spec, count, ahead=()):
    """Check names, shapes and dtypes; `count` is what spec's None stands for."""
    assert list(target) == list(spec)
    for name, (shape, dtype) in spec.items():
        found = target[name].shape
        assert target[name].dtype == dtype
        assert found == (*ahead, *(count if side is None else side for side in shape)), name


# Laws: of an encoder and one image's objects.


def the_target_is_as_spec_says(encoder, objects):
    assert_fits(encoder.encode(objects), encoder.spec, len(objects))


def encoding_is_repeatable_and_leaves_its_input_alone(encoder, objects):
    before = pickle.dumps(objects)
    target = encoder.encode(objects)
    assert_same(encoder.encode(objects), target)
    encoder.explain(objects)
    assert pickle.dumps(objects) == before


def every_object_or_point_is_accounted_for_once(encoder, objects):
    target = split(encoder, encoder.encode(objects))
    for part, told in explained(encoder, objects).items():
        assert told.image_size == encoder.image_size
        state, owner = target[part]["state"].ravel(), target[part]["object"].ravel()
        np.testing.assert_array_equal(told.state, state)
        np.testing.assert_array_equal(owner >= 0, state == POSITIVE)
        if isinstance(told, PointAssignment):
            _points_are_accounted_for(told, objects, owner)
        else:
            _objects_are_accounted_for(told, objects, owner)
        assert all(told.why(k) for k in range(len(told)))


def _objects_are_accounted_for(told, objects, owner):
    assert isinstance(told, Assignment)
    assert len(told) == len(objects)
    assert set(told.outcome) <= set(OUTCOMES)
    np.testing.assert_array_equal(told.object, owner)
    owned = np.bincount(owner[owner >= 0], minlength=len(objects))
    np.testing.assert_array_equal(told.positives, owned)
    forced = np.bincount(owner[told.forced_positions], minlength=len(objects))
    np.testing.assert_array_equal(told.forced, forced)
    assert len(told.boxes) == len(told.position_level) == len(owner)
    for k, outcome in enumerate(told.outcome):
        assert (outcome == "crowd") == (objects.crowd[k] and np.isfinite(objects.boxes[k]).all())
        assert (owned[k] > 0) == (outcome in ("matched", "forced"))
        assert (k in told.lost) == (outcome in LOST)


def _points_are_accounted_for(told, objects, owner):
    each = 0 if objects.keypoints is None else objects.keypoints.shape[1]
    assert len(told) == len(objects) * each
    assert set(told.outcome) <= set(POINT_OUTCOMES)
    np.testing.assert_array_equal(told.owner, owner)
    own = told.slot[told.slot >= 0]
    assert len(np.unique(own)) == len(own) == (owner >= 0).sum()
    np.testing.assert_array_equal(
        owner[own], np.broadcast_to(told.object, told.slot.shape)[told.slot >= 0]
    )
    for k, outcome in enumerate(told.outcome):
        assert (told.positives[k] > 0) == (outcome == "matched")
        assert (k in told.lost) == (outcome in POINT_LOST)


def decoding_returns_all_that_is_not_lost(encoder, objects):
    told = list(explained(encoder, objects).values())
    found = encoder.decode(encoder.encode(objects))
    boxes = [one for one in told if isinstance(one, Assignment)]
    owned = [one.positives > 0 for one in boxes]
    owned += [
        np.isin(np.arange(len(objects)), one.object[one.positives > 0])
        for one in told[len(boxes) :]
    ]
    held = np.flatnonzero(
        owned[0]
    )  # of a joint encoder its first part says which objects there are
    assert len(found) == len(held)
    for _ in boxes:
        np.testing.assert_array_equal(found.labels, objects.labels[held])
        inside = clip(objects.boxes[held], *encoder.image_size)
        np.testing.assert_allclose(
            clip(found.boxes, *encoder.image_size), inside, rtol=0, atol=2e-3
        )
    for one in told[len(boxes) :]:
        for point in np.flatnonzero((one.positives > 0) & np.isin(one.object, held)):
            row, landmark = np.searchsorted(held, one.object[point]), one.landmark[point]
            true = objects.keypoints[one.object[point], landmark, :2]
            np.testing.assert_allclose(found.keypoints[row, landmark, :2], true, rtol=0, atol=1e-4)
            assert found.keypoints[row, landmark, 2] > 0


def masks_are_bool_and_never_where_ignored(encoder, objects):
    target = encoder.encode(objects)
    masks, arrays = split(encoder, encoder.masks(target)), split(encoder, target)
    for part in encoders_in(encoder):
        state, taught = arrays[part]["state"], []
        for name, mask in masks[part].items():
            assert mask.dtype == np.bool_
            # It stands for the axes in front of what it masks.
            assert mask.shape[: state.ndim] == state.shape
            assert any(array.shape[: mask.ndim] == mask.shape for array in arrays[part].values())
            taught.append(mask.reshape(*state.shape, -1).any(axis=-1))
            assert not taught[-1][state == IGNORE].any(), name
            # A loss counts all negatives, as one of classes does, or none, as one of boxes.
            assert taught[-1][state == NEGATIVE].all() or not taught[-1][state == NEGATIVE].any()
        assert any(one[state == POSITIVE].all() for one in taught)
        assert any(one[state == NEGATIVE].all() for one in taught)
        assert any(not one[state == NEGATIVE].any() for one in taught)


def packed_layouts_are_float32_of_whole_levels(encoder, objects):
    target = encoder.encode(objects)
    packed = encoder.pack(target)
    assert packed
    for name, array in packed.items():
        assert array.dtype == np.float32
        assert array.ndim >= 3, name
        assert np.isfinite(array).all(), name
    batch = encoder.encode_batch([objects, objects])
    for name, array in encoder.pack(batch).items():
        np.testing.assert_array_equal(array, np.stack([packed[name]] * 2), err_msg=name)


LAWS = (
    the_target_is_as_spec_says,
    encoding_is_repeatable_and_leaves_its_input_alone,
    every_object_or_point_is_accounted_for_once,
    decoding_returns_all_that_is_not_lost,
    masks_are_bool_and_never_where_ignored,
    packed_layouts_are_float32_of_whole_levels,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("name", ALL)
def test_of_every_kind_of_input(name, kind, law):
    law(ALL[name].encoder, example(ALL[name], kind))


@pytest.mark.parametrize("name", ALL)
@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=25,
    derandomize=True,
)
@given(data=st.data())
def test_of_whatever_is_drawn(name, data):
    case = ALL[name]
    objects = data.draw(case.inputs(case.encoder))
    for law in LAWS:
        law(case.encoder, objects)


# Laws: of an encoder and several images.


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_its_examples(name):
    case = ALL[name]
    batch = [example(case, kind) for kind in BOXES]
    target = case.encoder.encode_batch(batch)
    assert_fits(target, case.encoder.spec, max(map(len, batch)), (len(batch),))
    masks = case.encoder.masks(target)
    for i, objects in enumerate(batch):
        alone = case.encoder.encode(objects)
        own = {name: array[i] for name, array in target.items()}
        for name, (shape, _) in case.encoder.spec.items():
            if shape[0] is None:  # as many rows as the largest example has objects
                own[name] = own[name][: len(objects)]
        assert_same(own, alone)
        assert_same({name: mask[i] for name, mask in masks.items()}, case.encoder.masks(alone))


@pytest.mark.parametrize("name", ALL)
def test_no_batch_has_the_shapes_of_any(name):
    encoder = ALL[name].encoder
    target = encoder.encode_batch([])
    assert_fits(target, encoder.spec, 0, (0,))
    for mask in encoder.masks(target).values():
        assert len(mask) == 0
    for dense in encoder.pack(target).values():
        assert len(dense) == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ALL)
def test_the_order_of_objects_changes_nothing_but_their_indices(name, seed):
    """Of objects of which no two are alike: between equals the order may decide."""
    case = ALL[name]
    objects = case.dress(scattered(seed))
    order = np.random.default_rng(seed).permutation(len(objects))
    target, permuted = case.encoder.encode(objects), case.encoder.encode(objects.select(order))
    renamed = np.array([*np.argsort(order), -1], np.int32)
    for name, (shape, _) in case.encoder.spec.items():
        expected = target[name]
        if name.rpartition("/")[2] == "object":
            assert (expected >= 0).any()  # else this test shows nothing
            expected = renamed[expected]
        elif shape[0] is None:
            expected = expected[order]
        np.testing.assert_array_equal(permuted[name], expected, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_a_label_that_is_no_class_is_named(name):
    case = ALL[name]
    if gives_slots_to_points(case.encoder):
        pytest.skip("its classes are the landmarks")
    objects = case.dress(Annotations([(10, 20, 30, 44)] * 2, [0, CLASSES]))
    message = f"object 1 has label {CLASSES}, expected 0 to {CLASSES - 1}"
    with pytest.raises(ValueError, match=message):
        case.encoder.encode(objects)
    with pytest.raises(ValueError, match=f"example 1 of the batch: {message}"):
        case.encoder.encode_batch([example(case, "one"), objects])


# Laws: of an encoder as a value.


@pytest.mark.parametrize("name", ALL)
def test_it_is_a_frozen_value(name):
    encoder = ALL[name].encoder
    assert isinstance(encoder, Encoder)
    for field in fields(encoder):
        with pytest.raises(FrozenInstanceError):
            setattr(encoder, field.name, getattr(encoder, field.name))


def assert_equal_values(encoder, other, objects):
    assert other is not encoder
    assert other == encoder
    assert other.digest == encoder.digest
    assert other.spec == encoder.spec
    assert hash(other) == hash(encoder)
    assert_same(other.encode(objects), encoder.encode(objects))


@pytest.mark.parametrize("name", ALL)
def test_a_pickle_of_it_is_equal(name):
    case = ALL[name]
    objects = example(case, "many")
    case.encoder.encode(objects)  # what it has derived by now is of no account
    again = pickle.loads(pickle.dumps(case.encoder))
    assert_equal_values(case.encoder, again, objects)


@pytest.mark.parametrize("name", ALL)
def test_its_config_is_json_and_builds_an_equal_one(name, monkeypatch):
    case = ALL[name]
    config = json.loads(json.dumps(case.encoder.config()))
    register(monkeypatch)
    again = from_config(config)
    assert_equal_values(case.encoder, again, example(case, "many"))
    assert again.config() == case.encoder.config()
    with pytest.raises(ValueError, match="config of a 'other' encoder"):
        type(case.encoder).from_config(config | {"encoder": "other"})


USE = """
import pickle, sys
for encoder, batch in pickle.load(sys.stdin.buffer):
    target = encoder.encode(batch[1])
    encoder.masks(target), encoder.pack(target), encoder.decode(target)
    encoder.explain(batch[1]), encoder.encode_batch(batch), encoder.digest
heavy = {"tensorflow", "keras", "matplotlib", "rich", "cv2", "albumentations", "datasets", "encoders"}
print(sorted(heavy & sys.modules.keys()), "numba" in sys.modules)
"""


def test_using_them_loads_nothing_heavy():
    uses = [(c.encoder, [example(c, kind) for kind in BOXES]) for c in CASES.values()]
    done = subprocess.run(
        [sys.executable, "-P", "-c", USE], input=pickle.dumps(uses), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[] True"


# Laws: of an encoder and what carries and draws its targets.


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zz-contract")
    return load(write_shapes(folder, num_images=3, image_size=SIZE, seed=5))


@pytest.mark.parametrize("name", ALL)
def test_the_pipeline_carries_it(name, shapes):
    encoder = ALL[name].encoder
    batches = pipeline(shapes, encoder, batch_size=3, drop_remainder=True)
    images, targets = batches.element_spec
    assert images == tf.TensorSpec((3, *SIZE, 3), tf.uint8)
    assert targets == {
        name: tf.TensorSpec((3, *shape), tf.as_dtype(dtype))
        for name, (shape, dtype) in encoder.spec.items()
    }
    placed = [place((x.height, x.width), SIZE, "letterbox").apply(x.annotations) for x in shapes]
    _, found = next(iter(batches))
    assert_same(
        {name: array.numpy() for name, array in found.items()}, encoder.encode_batch(placed)
    )


def placed_in(source, rng):
    """Return objects all over an image and beyond its edges, one a crowd with a mask."""
    low = rng.uniform(-0.3, 0.9, (9, 2)) * source
    boxes = np.hstack((low, low + rng.uniform(0.02, 0.6, (9, 2)) * source))
    boxes[3] = boxes[2]
    mask = np.zeros(source, np.uint8)
    mask[source[0] // 3 : source[0] // 2 + 1, 3:-5] = 1
    crowd = np.arange(9) == 4
    return Annotations(
        boxes, np.arange(9) % CLASSES, crowd, masks=[mask if own else None for own in crowd]
    )


class Noted(Light):
    """A `Light` that keeps where it placed its examples."""

    def __call__(self, job):
        drawn = job.generator()
        flip = bool(drawn.random() < self.flip)
        fitting = place(job.size, job.frame, job.resize).size
        factor = drawn.uniform(*self.scale)
        size = tuple(max(1, round(side * factor)) for side in fitting)
        first = tuple(
            int(drawn.integers(0, max(0, side - room) + 1)) if side > room else 0
            for side, room in zip(size, job.frame, strict=True)
        )
        NOTES.append((Placement(job.size, job.frame, size, first, flip), job.example))
        return super().__call__(job)


NOTES = []
SOURCES = [(64, 96), (33, 50), (150, 130), (97, 310)]  # as it is, up, down, down


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ALL)
def test_the_pipeline_carries_it_at_every_scale(name, source, resize):
    """What is encoded of the placed annotations is what is taught: whole, cropped and mirrored."""
    case, rng = ALL[name], np.random.default_rng(4)
    classes = 1 if gives_slots_to_points(case.encoder) else CLASSES
    examples = [made.example(*source, case.dress(placed_in(source, rng)), k) for k in range(3)]
    dataset = made.Made(*examples, num_classes=classes)
    whole = [place(source, SIZE, resize).apply(one.annotations) for one in examples]
    found = made.taught(dataset, case.encoder, resize=resize, count=3)
    assert_same(found, case.encoder.encode_batch(whole))
    if resize == "letterbox":
        assert_same(found, case.encoder.encode_batch(examples))
    NOTES.clear()
    augment = Noted(flip=0.5, scale=(0.6, 2.0))
    found = made.taught(dataset, case.encoder, resize=resize, augment=augment, count=3, workers=1)
    assert len(NOTES) == 3
    placed = [
        placement.apply_counted(one.annotations, keypoint_flips=((0, 1),))[0]
        for placement, one in NOTES
    ]
    assert_same(found, case.encoder.encode_batch(placed))


@pytest.mark.parametrize("name", ALL)
def test_it_places_an_example_and_refuses_another_frame(name):
    case = ALL[name]
    objects = case.dress(placed_in((150, 130), np.random.default_rng(2)))
    one = made.example(150, 130, objects)
    placed = fit(one, case.encoder)
    assert_same(case.encoder.encode(one), case.encoder.encode(placed))
    assert_same(case.encoder.encode_batch([one]), case.encoder.encode_batch([placed]))
    for part, told in explained(case.encoder, one).items():
        assert told.annotations == placed
        assert told.outcome == explained(case.encoder, placed)[part].outcome
    for call in (case.encoder.encode, case.encoder.explain):
        with pytest.raises(
            ValueError, match="are of an image of 150x130, the network input is 64x96"
        ):
            call(objects.replace(image_size=(150, 130)))


@pytest.mark.parametrize("name", ALL)
def test_it_is_drawn(name):
    case = ALL[name]
    pixels, objects = np.zeros((*SIZE, 3), np.uint8), example(case, "many")
    if isinstance(case.encoder, JointEncoder):
        with pytest.raises(ValueError, match="a picture for each part"):
            show_encoding(pixels, case.encoder, objects)
    for part in encoders_in(case.encoder).values():
        assert png_bytes(show_encoding(pixels, part, objects)).startswith(b"\x89PNG")


def test_the_page_ends_with_a_network_that_is_trained_and_scored(shapes, monkeypatch):
    register(monkeypatch)
    assert {table for _, table, _ in LINES} == {
        "ENCODERS", "CASES", "HEADS", "TASKS", "OWN_SETTINGS", "TASK_BUILDERS", "FINDS", "DECODINGS",
    }  # fmt: skip
    encoder = encoder_of("dot", Choices("64x96", settings=["stride=16"]), shapes)
    model = build_model(encoder, "nano")
    check_fits(model, encoder)
    images, targets = next(iter(pipeline(shapes, encoder, batch_size=3)))
    loss = task_of(encoder).loss(encoder, Recipe())
    model.compile("sgd", loss)
    before = loss(targets, model(images))
    model.fit(images, targets, epochs=3, verbose=0)
    assert float(loss(targets, model(images))["loss"]) < float(before["loss"])
    raw = model(images)
    found = encoder.decode(
        {name: array[0].numpy() for name, array in raw.items()}, score_threshold=0.0
    )
    decoding = decoding_of(encoder)
    exported = {name: a[0].numpy() for name, a in decoding.graph(encoder)(raw).items()}
    again = decoding.found(encoder, exported, score_threshold=0.0)
    np.testing.assert_allclose(again.boxes, found.boxes, atol=1e-3)
    scores = task_of(encoder).scores(
        encoder, shapes, {example.image_id: found for example in shapes}
    )
    assert scores.keys() == {"AP", "AP50"}


def test_every_encoder_has_its_place_in_every_layer():
    assert TASKS.keys() == ENCODERS.keys()
    tasks = {task.name for task in TASKS.values()}
    assert TASK_BUILDERS.keys() == FINDS.keys() == tasks
    assert DECODINGS.keys() == ENCODERS.keys()
    assert HEADS.keys() == ENCODERS.keys() - {"pose"}  # which has those of its parts
