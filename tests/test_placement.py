"""One map into the frame: exact values, at every scale, and the same wherever it is asked for."""

from fractions import Fraction

import numpy as np
import pytest
from made import Made, example, taught

import ytrue
from ytrue import Annotations
from ytrue.cutting import EVERYWHERE, cut
from ytrue.datasets import load
from ytrue.datasets.augment import Light, Plain, as_augment
from ytrue.encoders import MaskEncoder, preset
from ytrue.resizing import Placement, check_pixels, place, swap_keypoints


def test_what_is_audited_is_what_is_taught():
    """At 384 pixels the box overhangs by 86, and the image is enlarged by 7/6."""
    dataset = Made(example(384, 384, Annotations([(300, 100, 470, 380)], [0])))
    encoder = preset("ytrue", 448, 1)
    target = taught(dataset, encoder)
    report = ytrue.audit(dataset, encoder)
    assert report.image_positives.tolist() == [(target["state"] == 1).sum()]
    assert report.rows.height.tolist() == [98]  # 384 - 300 at 7/6: what is seen of it
    placed = place((384, 384), (448, 448), "letterbox").apply(dataset[0].annotations)
    np.testing.assert_array_equal(placed.boxes, np.float32([(350, 350 / 3, 448, 1330 / 3)]))


# Boxes: image, frame, resized to, first, flip, box, what is taught (None: dropped).
CUT = [
    ((40, 60), (80, 90), (60, 90), (0, 0), False, (10, 20, 30, 40), (15, 30, 45, 60)),
    ((40, 60), (80, 90), (60, 90), (0, 0), True, (10, 20, 30, 45), (15, 22.5, 45, 60)),
    ((40, 60), (20, 30), (20, 30), (0, 0), False, (-8, 4, 46, 70), (0, 2, 20, 30)),
    ((40, 60), (30, 30), (20, 30), (0, 0), False, (10, 4, 60, 8), (5, 2, 20, 4)),  # not the padding
    ((40, 60), (40, 60), (80, 120), (10, 30), False, (0, 0, 20, 40), (0, 0, 30, 50)),
    ((40, 60), (40, 60), (80, 120), (10, 30), True, (0, 0, 20, 40), (0, 10, 30, 60)),
    # What the crop leaves of it: 1 pixel stays, less does not; both sides count.
    ((40, 60), (40, 60), (40, 60), (0, 0), False, (39.5, 10, 50, 20), (39.5, 10, 40, 20)),
    ((80, 60), (40, 60), (80, 60), (0, 0), False, (39, 10, 50, 20), (39, 10, 40, 20)),
    ((80, 60), (40, 60), (80, 60), (0, 0), False, (39.5, 10, 50, 20), None),
    ((80, 90), (80, 60), (80, 90), (0, 0), False, (10, 59.5, 50, 70), None),
    ((80, 60), (40, 60), (80, 60), (0, 0), False, (39.5, 10, 40, 20), (39.5, 10, 40, 20)),
    ((80, 60), (40, 60), (80, 60), (0, 0), False, (39.5, 10.2, 39.9, 10.6), (39.5, 10.2, 39.9, 10.6)),
    ((80, 60), (40, 60), (80, 60), (0, 0), False, (40, 10, 50, 20), None),
    ((80, 60), (40, 60), (80, 60), (40, 0), False, (30, 10, 40, 20), None),
]  # fmt: skip


@pytest.mark.parametrize(("source", "frame", "size", "first", "flip", "box", "seen"), CUT)
def test_boxes_end_where_the_frame_ends(source, frame, size, first, flip, box, seen):
    placement = Placement(source, frame, size, first, flip)
    moved, counts = placement.apply_counted(Annotations([box], [0]))
    np.testing.assert_array_equal(moved.boxes, np.float32([seen] if seen else []).reshape(-1, 4))
    assert counts["dropped: left the frame"] == (seen is None)
    if seen is not None:
        whole = placement.boxes(np.float32([box]))
        assert counts["clipped at the frame"] == (whole != moved.boxes).any()


def test_a_crop_may_leave_as_little_as_is_said():
    crop = Placement((80, 60), (40, 60), (80, 60))
    for low, left in ((37.0, 1), (36.0, 1), (37.5, 0)):
        moved, _ = crop.apply_counted(Annotations([(low, 10, 70, 20)], [0]), min_side=3.0)
        assert len(moved) == left


def test_what_is_no_object_stays_for_the_encoder_to_say_so():
    """Without area, not finite, beside the image: never dropped, never in the padding."""
    boxes = [(5, 5, 5, 9), (9, 9, 4, 12), (np.nan, 0, 9, 9), (0, 0, np.inf, 9), (50, 2, 60, 9),
             (90, 2, 99, 9)]  # fmt: skip
    encoder = preset("ytrue", 64, 1)
    dataset = Made(example(40, 64, Annotations(boxes, np.zeros(6))))  # padded below, to 64 x 64
    told = encoder.explain(dataset[0])
    assert told.outcome == ("no-area", "no-area", "not-finite", "not-finite", "no-area", "outside")
    np.testing.assert_array_equal(told.state, taught(dataset, encoder)["state"][0])
    assert not (told.state == 1).any()


def test_keypoints_that_the_crop_hides_become_unlabelled():
    points = [(10, 10, 2), (50, 10, 1), (40, 60, 2), (90, 10, 2), (41, 10, 0)]
    objects = Annotations([(0, 0, 80, 60)], [0], keypoints=[points])
    cropped, counts = Placement((80, 60), (40, 60), (80, 60)).apply_counted(objects)
    assert cropped.keypoints[0, :, 2].tolist() == [2, 0, 2, 2, 0]  # beside the image: as it was
    assert counts["keypoints: left the frame"] == 1
    plain, counts = Placement((80, 60), (80, 60), (80, 60)).apply_counted(objects)
    assert plain.keypoints[0, :, 2].tolist() == [2, 1, 2, 2, 0]
    assert not counts
    gone, counts = cut(objects, EVERYWHERE, (0, 0, 80, 60))
    assert gone.keypoints[0, :, 2].tolist() == [2, 1, 2, 0, 0]
    assert counts["keypoints: left the frame"] == 1


def test_outlines_end_where_the_frame_ends():
    ring = np.float32([(-10, 10), (-10, 50), (30, 50), (30, 10)])
    objects = Annotations([(0, 10, 30, 50)], [0], polygons=[[ring, ring + 200]])
    (moved,) = place((40, 40), (60, 80), "stretch").apply(objects).polygons
    assert len(moved) == 1  # the other part lies beside the image
    assert (*moved[0].min(axis=0), *moved[0].max(axis=0)) == (0, 20, 45, 80)


def test_outlines_with_vertices_on_the_edge_keep_them():
    """A triangle that ends on the window's upper edge, and one that the left edge cuts at 20, 30."""
    on_edge = np.float32([(10, 30), (20, 40), (20, 20)])
    crossing = np.float32([(20, 0), (20, 20), (30, 20), (30, 0)])
    objects = Annotations([(10, 0, 40, 40)], [0], polygons=[[on_edge, crossing]])
    cropped, _ = cut(objects, EVERYWHERE, (10, 10, 40, 60))
    first, second = cropped.polygons[0]
    np.testing.assert_array_equal(first, on_edge)
    assert sorted(map(tuple, second.tolist())) == [(20, 10), (20, 20), (30, 10), (30, 20)]
    ends = np.float32(
        [(20, 10), (20, 0), (30, 10), (30, 20)]
    )  # leaves from, and comes back to, x 10
    cropped, _ = cut(objects.replace(polygons=[[ends]]), EVERYWHERE, (10, 10, 40, 60))
    found = set(map(tuple, cropped.polygons[0][0].tolist()))
    assert found == {(20, 10), (30, 10), (30, 20)}
    touching = np.float32([(15, 30), (20, 10), (25, 30), (35, 0)])  # one on the edge, one beyond
    cropped, _ = cut(objects.replace(polygons=[[touching]]), EVERYWHERE, (10, 10, 40, 60))
    assert (20, 10) in set(map(tuple, cropped.polygons[0][0].tolist()))


def test_keypoints_on_the_edges_of_a_crop_are_in_it():
    points = [(10, 20, 2), (40, 60, 2), (9, 30, 2), (30, 61, 2), (30, 19, 2), (41, 30, 2)]
    objects = Annotations([(0, 0, 80, 80)], [0], keypoints=[points])
    cropped, counts = cut(objects, EVERYWHERE, (10, 20, 40, 60))
    assert cropped.keypoints[0, :, 2].tolist() == [2, 2, 0, 0, 0, 0]
    assert counts["keypoints: left the frame"] == 4


def test_a_pair_of_which_one_keypoint_is_missing_swaps_nothing():
    points = np.float32([[(1, 2, 2), (3, 4, 1), (5, 6, 0)]])
    swapped = swap_keypoints(points, [(0, 1), (2, 3), (3, 2)])
    assert swapped[0, :, 2].tolist() == [1, 2, 0]


MASKS = [
    # image, frame, resized to, first, flip
    ((6, 4), (7, 14), (7, 14), (0, 0), False),  # up, by odd factors: centres on edges
    ((12, 8), (18, 20), (15, 10), (0, 0), False),
    ((24, 18), (10, 6), (8, 6), (0, 0), False),  # down
    ((24, 18), (10, 6), (8, 6), (0, 0), True),
    ((9, 11), (8, 8), (27, 22), (13, 5), False),  # cropped
    ((9, 11), (8, 8), (27, 22), (13, 5), True),
    ((5, 7), (5, 7), (5, 7), (0, 0), True),
]


@pytest.mark.parametrize(("source", "frame", "size", "first", "flip"), MASKS)
def test_each_pixel_of_a_mask_has_what_its_centre_hits(source, frame, size, first, flip):
    pixels = np.random.default_rng(3).integers(0, 2, source).astype(np.uint8)
    seen = pixels[:, ::-1] if flip else pixels
    expected = np.zeros(frame, np.uint8)
    for row in range(min(frame[0], size[0] - first[0])):
        for column in range(min(frame[1], size[1] - first[1])):
            y = (row + first[0] + Fraction(1, 2)) * source[0] / size[0]
            x = (column + first[1] + Fraction(1, 2)) * source[1] / size[1]
            expected[row, column] = seen[int(y), int(x)]
    objects = Annotations([(0, 0, *source)], [0], masks=[pixels])
    moved = Placement(source, frame, size, first, flip).apply(objects)
    np.testing.assert_array_equal(moved.masks[0].decode(), expected)


def test_masks_come_back_by_their_centres():
    placement = place((5, 12), (10, 18), "letterbox")
    pixels = np.random.default_rng(0).integers(0, 2, (10, 18)).astype(np.uint8)
    back = placement.undo_mask(ytrue.RLE.from_mask(pixels)).decode()
    for row in range(5):
        for column in range(12):
            y, x = Fraction(2 * row + 1, 2) * 8 / 5, Fraction(2 * column + 1, 2) * 18 / 12
            assert back[row, column] == pixels[int(y), int(x)]


SIZES = [(384, 384), (300, 517), (97, 61)]


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", SIZES)
def test_light_that_changes_nothing_is_plain(size, resize):
    rng = np.random.default_rng(1)
    low = rng.uniform(-40, 300, (12, 2))
    boxes = np.hstack((low, low + rng.uniform(1, 150, (12, 2))))
    dataset = Made(example(*size, Annotations(boxes, np.zeros(12))))
    encoder = preset("ytrue", (256, 192), 1)
    plain = taught(dataset, encoder, resize=resize)
    light = taught(dataset, encoder, augment=Light(flip=0.0, scale=(1.0, 1.0)), resize=resize)
    for name, array in plain.items():
        np.testing.assert_array_equal(light[name], array)


@pytest.mark.parametrize(
    "name", ["coco128_ccby_train/detect", "coco128_ccby_train/segment", "okra_yolo_train"]
)
def test_real_boxes_are_taught_as_they_are_audited(name, shared_data):
    """No pixels: the images stand in as grey ones."""
    dataset = load(shared_data / name)
    encoder = preset("ytrue", 448, dataset.num_classes)
    made = Made(*dataset)
    made.num_classes, made.classes = dataset.num_classes, dataset.classes
    report = ytrue.audit(made, encoder)
    found = taught(made, encoder, count=len(made))
    for row, one in enumerate(made):
        expected = encoder.encode(one)
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key][row], array)
        assert report.image_positives[row] == (expected["state"] == 1).sum()


# The frame that annotations say they are of.


def test_an_example_is_placed_by_whoever_is_given_it():
    objects = Annotations([(100, 60, 220, 300)], [0], image_size=(480, 640))
    one, encoder = example(480, 640, objects), preset("ytrue", 512, 1)
    placed = ytrue.fit(one, encoder)
    np.testing.assert_array_equal(placed.boxes, np.float32([(80, 48, 176, 240)]))
    assert (placed.image_size, placed.content) == ((512, 512), (0, 0, 384, 512))
    assert ytrue.fit(objects, encoder) == placed
    assert ytrue.fit(objects.replace(image_size=None), encoder, image_size=(480, 640)) == placed
    stretched = ytrue.fit(one, encoder, resize="stretch")
    np.testing.assert_allclose(stretched.boxes, [(106.6667, 48, 234.6667, 240)], rtol=1e-6)
    for name, array in encoder.encode(placed).items():
        np.testing.assert_array_equal(encoder.encode(one)[name], array)
        np.testing.assert_array_equal(encoder.encode_batch([placed, one])[name], [array] * 2)
    assert encoder.explain(one).annotations == placed
    assert ytrue.fit(placed, encoder) == placed  # where it is already


OTHER_FRAME = "annotations are of an image of 480x640, the network input is 512x512 .*ytrue.fit"


def test_annotations_of_another_frame_are_refused():
    objects = Annotations([(100, 60, 220, 300)], [0], image_size=(480, 640))
    encoder = preset("ytrue", 512, 1)
    for call in (encoder.encode, encoder.explain):
        with pytest.raises(ValueError, match=f"^the {OTHER_FRAME}"):
            call(objects)
    with pytest.raises(ValueError, match=f"^example 1 of the batch: the {OTHER_FRAME}"):
        encoder.encode_batch([Annotations(), objects])
    with pytest.raises(ValueError, match="are of an image of 480x640, this one is 640x480"):
        place((640, 480), (512, 512), "letterbox").apply(objects)
    with pytest.raises(ValueError, match="the annotations do not say of what image they are"):
        ytrue.fit(Annotations([(1, 2, 3, 4)], [0]), encoder)
    with pytest.raises(ValueError, match=r"image_size=\(4, 5\): the annotations say .* 480x640"):
        ytrue.fit(objects, encoder, image_size=(4, 5))


SHARES = [(0.1, 0.2, 0.5, 0.9), (0, 0, 1, 1)]
IN_PIXELS = [
    [(0.1, 0.2, 0.5, 1.1), (0, 0, 1, 1)],  # one of them is none
    [(0, 0, 1, 1), (30, 4, 50, 60)],
    [(-0.1, 0.2, 0.5, 0.9)],
    [(0, 0, 0, 0)],
    [(0.5, 0.5, 0.5, 0.9), (0, 0, 1, 1)],
    [(np.nan, 0, 1, 1)],
]


def test_shares_of_an_image_are_told_from_pixels():
    encoder = preset("ytrue", 512, 1)
    shares = Annotations(SHARES, [0, 0])
    for call in (encoder.encode, encoder.explain):
        with pytest.raises(
            ValueError, match="^the boxes lie within 0 and 1, all 2: they look norm"
        ):
            call(shares)
    with pytest.raises(ValueError, match="^example 0 of the batch: the boxes lie within 0 and 1"):
        encoder.encode_batch([shares, Annotations()])
    with pytest.raises(ValueError, match="pixels of 480x640"):
        encoder.encode(example(480, 640, shares))
    with pytest.raises(ValueError, match="pixels of 480x640"):
        ytrue.fit(shares, encoder, image_size=(480, 640))
    for boxes in IN_PIXELS:
        encoder.encode(Annotations(boxes, np.zeros(len(boxes))))
    encoder.encode(shares.replace(image_size=(512, 512)))  # so it is said
    check_pixels(shares, (159, 512))  # a frame this small
    with pytest.raises(ValueError, match="pixels of 160x512"):
        check_pixels(shares, (160, 512))


def test_boxes_come_in_other_orders():
    size = (400, 1000)
    expected = Annotations([(10, 20, 50, 80)], [3])
    given = [
        Annotations.from_xyxy([(20, 10, 80, 50)], [3]),
        Annotations.from_xywh([(20, 10, 60, 40)], [3]),
        Annotations.from_cxcywh([(50, 30, 60, 40)], [3]),
        Annotations.from_xyxy([(0.02, 0.025, 0.08, 0.125)], [3], image_size=size, normalised=True),
        Annotations.from_xywh([(0.02, 0.025, 0.06, 0.1)], [3], image_size=size, normalised=True),
        Annotations.from_cxcywh([(0.05, 0.075, 0.06, 0.1)], [3], image_size=size, normalised=True),
    ]
    assert all(one == expected for one in given)
    assert [one.image_size for one in given] == [None] * 3 + [size] * 3
    crowd = Annotations.from_xywh([(0, 0, 2, 3)], [0], [True], image_size=size)
    assert (crowd.crowd.tolist(), crowd.image_size) == ([True], size)
    assert len(Annotations.from_xywh([], [])) == 0
    with pytest.raises(ValueError, match="normalised=True: the image's image_size"):
        Annotations.from_cxcywh([(0.5, 0.5, 1, 1)], [0], normalised=True)
    with pytest.raises(ValueError, match=r"boxes has shape \(1, 3\), expected \(N, 4\)"):
        Annotations.from_xyxy([(1, 2, 3)], [0])


def test_the_frame_travels_with_the_annotations_and_is_not_compared():
    objects = Annotations([(1, 2, 3, 4)] * 2, [0, 1], image_size=(np.int64(30), 40))
    assert objects.select([1]).image_size == objects.replace(labels=[1, 1]).image_size == (30, 40)
    assert objects == Annotations([(1, 2, 3, 4)] * 2, [0, 1])
    assert "image_size" not in repr(objects)


# Left and right.


@pytest.mark.parametrize("name", ["flip", "mild", "light", "strong"])
def test_nothing_is_mirrored_where_nobody_knows_left_from_right(name):
    """The image is dark on its left: it stays so, and the keypoint with it."""
    from ytrue.datasets.augment import Job

    pixels = np.full((120, 160, 3), 255, np.uint8)
    pixels[:, :80] = 0
    objects = Annotations([(0, 0, 120, 160)], [0], keypoints=[[(60, 40, 2), (60, 120, 2)]])
    mirrored = 0
    for seed in range(12):
        for flips in (None, [(0, 1)]):
            job = Job(
                example(120, 160, objects), lambda _: pixels, (96, 128), "letterbox", (9, 9, 9),
                flips, (seed, 0, "a"),
            )  # fmt: skip
            shown, moved, _ = as_augment(name)(job)
            (left, right) = moved.keypoints[0] if len(moved) else ((0, 0, 0), (0, 0, 0))
            if not (left[2] and right[2]):
                continue
            assert left[1] < right[1]
            dark = shown[int(left[0]), int(left[1])].mean()
            light = shown[int(right[0]), int(right[1])].mean()
            if flips is None:
                assert dark < light
            mirrored += dark > light
    assert mirrored


def test_masks_and_boxes_of_a_records_file_are_those_of_the_pipeline(tmp_path):
    from ytrue.datasets import write_records, write_shapes
    from ytrue.datasets.records import read_target

    write_shapes(tmp_path / "shapes", num_images=3, image_size=(90, 130), seed=2)
    dataset = load(tmp_path / "shapes")
    for size, resize in (((64, 128), "letterbox"), ((256, 192), "stretch")):
        encoder = MaskEncoder(preset("ytrue", size, dataset.num_classes), stride=8)
        folder = tmp_path / resize
        write_records(dataset, folder, encoder=encoder, resize=resize)
        records = load(folder)
        for row, one in enumerate(dataset):
            stored = read_target(records, one.image_id, encoder)
            found = taught(dataset.subset([row]), encoder, resize=resize)
            for name, array in stored.items():
                np.testing.assert_array_equal(found[name][0], array)


def test_plain_needs_no_random_numbers():
    assert Plain() == as_augment("none") == as_augment(None)
