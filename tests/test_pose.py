"""`PoseEncoder`: two encoders as one, and points put into the boxes that were found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue import Annotations, audit
from ytrue.contract import JointAssignment, JointEncoder
from ytrue.encoders import KeypointGridEncoder, PoseEncoder, preset
from ytrue.encoders.kernels.assembly import assemble

SIZE = (96, 128)


@pytest.fixture(scope="module")
def encoder():
    points = KeypointGridEncoder(SIZE, stride=8, num_classes=2, points_per_cell=2)
    return PoseEncoder(preset("ytrue", SIZE, 3), points)


def people():
    return Annotations(
        [(8, 8, 72, 40), (20, 60, 90, 120), (5, 5, 5, 9)], [0, 2, 1],
        keypoints=[
            [(10, 20, 2), (70.5, 30, 1)], [(30, 61, 2), (0, 0, 0)], [(6, 6, 2), (0, 0, 0)],
        ],
    )  # fmt: skip


def test_it_is_a_joint_encoder(encoder):
    assert isinstance(encoder, JointEncoder)
    assert not isinstance(encoder.boxes, JointEncoder)
    assert encoder.digest != PoseEncoder(encoder.boxes, encoder.keypoints, 0.2).digest
    assert (encoder.image_size, encoder.num_classes) == (SIZE, 3)


def test_the_target_is_both_parts(encoder):
    target = encoder.encode(people())
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec
    batch = encoder.encode_batch([people(), Annotations()])
    for part in ("boxes", "keypoints"):
        prefix = {"boxes": "box", "keypoints": "keypoints"}[part]
        own = getattr(encoder, part)
        for name, array in own.encode(people()).items():
            np.testing.assert_array_equal(target[f"{prefix}/{name}"], array)
            np.testing.assert_array_equal(batch[f"{prefix}/{name}"][0], array)
        for name, mask in own.masks(own.encode(people())).items():
            np.testing.assert_array_equal(encoder.masks(target)[f"{prefix}/{name}"], mask)
        for name, dense in own.pack(own.encode(people())).items():
            np.testing.assert_array_equal(encoder.pack(target)[f"{prefix}/{name}"], dense)


def test_a_target_decodes_to_the_objects_with_their_points(encoder):
    decoded = encoder.decode(encoder.encode(people()))
    # The third has no area, so no anchor.
    np.testing.assert_allclose(decoded.boxes, people().boxes[:2], atol=1e-4)
    np.testing.assert_array_equal(decoded.labels, [0, 2])
    wanted = people().keypoints[:2].copy()
    wanted[..., 2] = np.where(wanted[..., 2] > 0, 2, 0)
    np.testing.assert_allclose(decoded.keypoints, wanted, atol=1e-4)
    with pytest.raises(ValueError, match="those of keypoints are missing"):
        encoder.decode(encoder.boxes.encode(people()) | {"box/state": 0})


def test_explain_goes_part_by_part(encoder):
    explained = encoder.explain(people())
    assert isinstance(explained, JointAssignment)
    assert explained.parts["box"].outcome == ("matched", "matched", "no-area")
    assert explained.parts["keypoints"].lost == ()
    assert "JointAssignment(box: Assignment(" in repr(explained)


class People:
    """A dataset of one image."""

    classes = ("a", "b", "c")
    keypoint_names = ("head", "foot")

    def __len__(self):
        return 1

    def __getitem__(self, index):
        from ytrue import Example

        return Example(1, "one.jpg", *SIZE, people(), (1, 2, 3))


def test_the_audit_loses_what_its_worst_part_loses(encoder):
    report = audit(People(), encoder)
    assert report.lost_share == pytest.approx(1 / 3)
    assert report.parts["keypoints"].lost_share == 0
    assert report.to_json()["box"]["lost_share"] == pytest.approx(1 / 3)
    assert all(sentence.startswith(("box: ", "keypoints: ")) for sentence in report.advice())
    assert report.source == report.parts["box"].source


def slow_assembly(yx, landmark, boxes, scores, margin, share, count):
    found = np.zeros((len(boxes), count, 3), np.float32)
    for (y, x), k in zip(yx, landmark, strict=True):
        asked = []
        for n, (y_min, x_min, y_max, x_max) in enumerate(boxes):
            height, width = y_max - y_min, x_max - x_min
            inside = (
                y_min - margin * height <= y <= y_max + margin * height
                and x_min - margin * width <= x <= x_max + margin * width
            )
            if inside and found[n, k, 2] == 0:
                asked.append(n)
        if asked:
            highest = max(scores[n] for n in asked)
            sides = boxes[:, 2:] - boxes[:, :2]
            rivals = [(sides[n].prod(), n) for n in asked if scores[n] >= share * highest]
            found[min(rivals)[1], k] = (y, x, 2)
    return found


@settings(deadline=None)  # the first call compiles
@given(st.data())
def test_assembly_is_the_rule(data):
    number = st.integers(0, 12).map(np.float32)
    count, boxes = data.draw(st.integers(1, 3)), []
    for _ in range(data.draw(st.integers(0, 5))):
        y, x, height, width = (data.draw(number) for _ in range(4))
        boxes.append((y, x, y + height, x + width))
    points = data.draw(st.lists(st.tuples(number, number, st.integers(0, count - 1)), max_size=9))
    yx = np.array([point[:2] for point in points], np.float32).reshape(-1, 2)
    landmark = np.array([point[2] for point in points], np.int64)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.array([data.draw(st.integers(1, 8)) / 8 for _ in boxes], np.float32)
    scores = -np.sort(-scores)
    margin = np.float32(data.draw(st.sampled_from([0, 0.125, 0.5])))
    share = np.float32(data.draw(st.sampled_from([0, 0.5, 1])))
    found = np.zeros((len(boxes), count, 3), np.float32)
    assemble(yx, landmark, boxes, scores, margin, share, found)
    np.testing.assert_array_equal(
        found, slow_assembly(yx, landmark, boxes, scores, margin, share, count)
    )


def test_perfect_outputs_decode_to_the_objects(encoder):
    truth = people().select([0, 1])
    target = encoder.encode(truth)
    logits = np.where(target["box/label"][:, None] == np.arange(3), 9.0, -9.0)
    offset = np.clip(target["keypoints/offset"], 1e-6, 1 - 1e-6)
    outputs = {
        "box/class": logits.astype(np.float32),
        "box/box": target["box/box"],
        "keypoints/class": target["keypoints/label"] * 18 - 9,
        "keypoints/xy": np.log(offset / (1 - offset)),
    }
    decoded = encoder.decode(outputs, score_threshold=0.5, point_threshold=0.5)
    order = np.argsort(decoded.labels)
    np.testing.assert_allclose(decoded.boxes[order], truth.boxes, atol=1e-3)
    np.testing.assert_allclose(
        decoded.keypoints[order][..., :2], truth.keypoints[..., :2], atol=1e-3
    )
    assert decoded.scores is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda e: PoseEncoder(e.boxes, KeypointGridEncoder((64, 64), stride=8, num_classes=2)),
            r"image sizes differ: \{",
        ),
        (
            lambda e: PoseEncoder(
                e.boxes, KeypointGridEncoder(SIZE, stride=8, num_classes=2, classes="object")
            ),
            "keypoints tell no landmarks, .* expected slots='fixed'",
        ),
        (lambda e: PoseEncoder(e.boxes, e.keypoints, -1), "margin=-1.0: expected a share"),
        (lambda e: PoseEncoder(e.boxes, e.keypoints, rival_share=2), "rival_share=2.0: expected"),
    ],
)
def test_arguments_out_of_range_are_named(encoder, make, message):
    with pytest.raises(ValueError, match=message):
        make(encoder)


def test_slots_tell_landmarks_as_classes_do():
    points = KeypointGridEncoder(
        SIZE, stride=8, num_classes=3, points_per_cell=2, slots="fixed", classes="object"
    )
    encoder = PoseEncoder(preset("ytrue", SIZE, 3), points)
    found = Annotations(
        np.tile([(20, 30), (60, 100), (21, 31)], 2), [2, 0, 1], scores=[0.9, 0.8, 0.7],
        keypoints=[[(20, 30, 2), (0, 0, 0)], [(0, 0, 0), (60, 100, 2)], [(0, 0, 0), (21, 31, 2)]],
    )  # fmt: skip
    boxes = Annotations([(10, 10, 80, 40)], [0], scores=[0.5])
    np.testing.assert_array_equal(encoder._assembled(boxes, found), [[(20, 30, 2), (21, 31, 2)]])
