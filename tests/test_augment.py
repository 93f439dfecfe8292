"""Pixels and annotations stay in step, whatever is done to them, and nothing is dropped unsaid."""

import numpy as np
import pytest
from datafiles import image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ytrue import Annotations, DataError, Example
from ytrue.cutting import EVERYWHERE, cut
from ytrue.datasets.augment import Job, Light, Plain, as_augment
from ytrue.datasets.pixels import decode_image, read_image, shrink_for
from ytrue.resizing import Placement, place

FRAME = (96, 128)
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def painted(boxes, size=(120, 160)):
    """A black image with a filled rectangle for each box, its annotations and keypoints."""
    pixels = np.zeros((*size, 3), np.uint8)
    for box, colour in zip(boxes, COLOURS, strict=False):
        y0, x0, y1, x1 = (int(v) for v in box)
        pixels[y0:y1, x0:x1] = colour
    boxes = np.array(boxes, np.float32)
    corners = [[(b[0], b[1]), (b[0], b[3]), (b[2], b[3]), (b[2], b[1])] for b in boxes]
    keypoints = [[(b[0], b[1], 2), (b[0], b[3], 2)] for b in boxes]  # upper left, upper right
    masks = []
    for box in boxes.astype(int):
        mask = np.zeros(size, np.uint8)
        mask[box[0] : box[2], box[1] : box[3]] = 1
        masks.append(mask)
    annotations = Annotations(
        boxes,
        np.arange(len(boxes)),
        keypoints=keypoints,
        polygons=[[c] for c in corners],
        masks=masks,
    )
    return pixels, annotations


def job(pixels, annotations, *, frame=FRAME, key=(0, 0, "a"), resize="letterbox"):
    example = Example("a", "a.png", *pixels.shape[:2], annotations)
    return Job(example, lambda shrink: pixels, frame, resize, (9, 9, 9), [(0, 1)], key)


def assert_in_step(pixels, annotations, tolerance=2.5):
    """Each object's colour fills its box, polygon, mask and lies between its keypoints."""
    for k, label in enumerate(annotations.labels):
        colour = np.array(COLOURS[label])
        like = (np.abs(pixels.astype(int) - colour).max(axis=-1) < 90).nonzero()
        if len(like[0]) < 30:
            continue
        y0, x0, y1, x1 = annotations.boxes[k]
        tight = (like[0].min(), like[1].min(), like[0].max() + 1, like[1].max() + 1)
        np.testing.assert_allclose((y0, x0, y1, x1), tight, atol=tolerance)
        outline = np.concatenate(annotations.polygons[k])
        edges = (*outline.min(axis=0), *outline.max(axis=0))
        np.testing.assert_allclose(edges, tight, atol=tolerance)
        rows, columns = annotations.masks[k].decode().nonzero()
        edges = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        np.testing.assert_allclose(edges, tight, atol=tolerance)
        left, right = annotations.keypoints[k]
        if left[2] and right[2]:
            assert left[1] < right[1]  # also after a flip: their names are exchanged


BOXES = [(10, 20, 50, 60), (30, 90, 100, 150), (70, 10, 110, 40)]


@pytest.mark.parametrize("name", ["none", "light", "strong"])
@pytest.mark.parametrize("seed", range(12))
def test_augmentation_moves_annotations_with_the_pixels(name, seed):
    if name == "strong":
        import albumentations as A

        # Geometry as in `strong`, without the colours, which the test reads.
        augment = as_augment(
            A.Compose(
                [
                    A.HorizontalFlip(p=0.5),
                    A.Affine(scale=(0.7, 1.3), translate_percent=(-0.2, 0.2), p=1),
                ]
            )
        )
    else:
        augment = as_augment(name)
    pixels, annotations = painted(BOXES)
    out, moved, counts = augment(job(pixels, annotations, key=(seed, 0, "a")))
    assert out.shape == (*FRAME, 3)
    assert out.dtype == np.uint8
    assert_in_step(out, moved)
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped"))
    assert len(moved) + dropped == len(annotations)


def test_the_named_strong_augmentation_runs_and_accounts():
    pixels, annotations = painted(BOXES)
    for seed in range(8):
        out, moved, counts = as_augment("strong")(job(pixels, annotations, key=(seed, 0, "a")))
        assert out.shape == (*FRAME, 3)
        dropped = sum(count for name, count in counts.items() if name.startswith("dropped"))
        assert len(moved) + dropped == len(annotations)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_light_crops_as_if_the_whole_image_had_been_resized(data):
    """The fast path resizes only what is shown: pixels agree with resizing everything."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    # Large enough for four blotches to be smooth: filters differ where neighbours do.
    size = (data.draw(st.integers(80, 200)), data.draw(st.integers(80, 200)))
    smooth = rng.integers(0, 255, (4, 4, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(smooth).resize(size[::-1], Image.Resampling.BICUBIC))
    low = data.draw(st.floats(0.3, 1.9))
    light = Light(flip=float(data.draw(st.booleans())), scale=(low, low + 0.05))
    task = job(
        pixels, Annotations([(0, 0, *size)], [0]), key=(data.draw(st.integers(0, 99)), 0, "b")
    )
    out, moved, _ = light(task)
    random = task.generator()
    flip = random.random() < light.flip
    factor = random.uniform(*light.scale)
    target = tuple(max(1, round(side * factor)) for side in place(size, FRAME, "letterbox").size)
    whole = np.asarray(
        Image.fromarray(pixels[:, ::-1] if flip else pixels).resize(
            target[::-1], Image.Resampling.BILINEAR
        )
    )
    room = [target[axis] - FRAME[axis] for axis in (0, 1)]
    shift = [int(random.integers(0, slack + 1)) if slack > 0 else 0 for slack in room]
    part = whole[shift[0] : shift[0] + FRAME[0], shift[1] : shift[1] + FRAME[1]].astype(int)
    assert np.abs(out[: part.shape[0], : part.shape[1]].astype(int) - part).mean() < 6
    assert (out[part.shape[0] :] == 9).all()
    content = moved.content or (0, 0, *FRAME)
    np.testing.assert_allclose(content[2:], part.shape[:2], atol=1e-6)


@pytest.mark.parametrize("name", ["light", "strong"])
def test_augmentation_depends_on_its_key_only(name):
    augment = as_augment(name)
    pixels, annotations = painted(BOXES)
    first = augment(job(pixels, annotations, key=(3, 1, "x")))
    augment(job(pixels, annotations, key=(4, 1, "x")))
    again = as_augment(name)(job(pixels, annotations, key=(3, 1, "x")))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    others = [
        augment(job(pixels, annotations, key=key))[0]
        for key in ((3, 2, "x"), (3, 1, "y"), (2, 1, "x"))
    ]
    assert any((other != first[0]).any() for other in others)


def test_float_dust_and_empty_images_abort_nothing():
    pixels, _ = painted(BOXES)
    dusty = Annotations([(-0.002, -1e-7, 120.0000001, 160.0001), (5, 5, 5, 9)], [0, 1])
    for name in ("none", "light", "strong"):
        for objects in (dusty, Annotations()):
            _, moved, counts = as_augment(name)(job(pixels, objects))
            lost = sum(number for what, number in counts.items() if what.startswith("dropped"))
            assert len(moved) + lost == len(objects)  # without area: the encoder says so of it


def test_a_function_gets_example_and_pixels():
    def invert(example, pixels, random):
        assert pixels.shape[:2] == (example.height, example.width)
        return 255 - pixels, example.annotations.select([0])

    pixels, annotations = painted(BOXES)
    out, moved, _ = as_augment(invert)(job(pixels, annotations))
    plain, _, _ = Plain()(job(pixels, annotations))
    np.testing.assert_array_equal(out[:96, :128], 255 - plain[:96, :128])
    assert len(moved) == 1


def test_unknown_augmentations_are_refused():
    with pytest.raises(
        ValueError, match="augment='x': expected one of none, flip, mild, light, strong"
    ):
        as_augment("x")
    with pytest.raises(ValueError, match="augment=3: expected a name, an albumentations.Compose"):
        as_augment(3)


def test_polygons_are_cut_at_the_frame():
    square = np.array([(-10, 10), (-10, 30), (20, 30), (20, 10)], np.float32)
    objects = Annotations([(-10, 10, 20, 30)], [0], polygons=[[square]])
    kept, counts = cut(objects, EVERYWHERE, (0, 0, 50, 20))
    np.testing.assert_array_equal(kept.boxes, [[0, 10, 20, 20]])
    points = kept.polygons[0][0]
    np.testing.assert_array_equal((*points.min(axis=0), *points.max(axis=0)), [0, 10, 20, 20])
    assert counts["clipped at the frame"] == 1
    gone, counts = cut(objects, EVERYWHERE, (0, 0, 50, 10))
    assert (len(gone), counts["dropped: left the frame"]) == (0, 1)


def test_placements_flip_boxes_points_and_masks_alike():
    pixels, annotations = painted([(10, 20, 50, 60)])
    mirrored = Placement((120, 160), (120, 160), (120, 160), flip=True)
    moved, _ = mirrored.apply_counted(annotations, keypoint_flips=[(0, 1)])
    assert_in_step(np.ascontiguousarray(pixels[:, ::-1]), moved, 0.01)


# Image files.


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = image(tmp_path / "a.jpg", 40, 64, exif=exif, quality=95)
    with Image.open(file) as stored:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(stored))
    for shrink in (1, 2):
        pixels = read_image(file, shrink=shrink)
        assert pixels.shape == (-(-expected.shape[0] // shrink), -(-expected.shape[1] // shrink), 3)
    assert np.abs(read_image(file).astype(int) - expected).mean() < 3


MODES = ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1"]


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_come_as_rgb(mode, tmp_path):
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (8, 1))
    if mode == "I;16":
        source = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        source = Image.fromarray(np.repeat(ramp[..., None], 3, -1)).convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source.save(file)
    pixels = read_image(file)
    assert (pixels.shape, pixels.dtype) == ((8, 32, 3), np.uint8)
    if mode not in ("1", "P"):
        assert np.abs(pixels[0, :, 1].astype(int) - ramp[0]).max() <= 2


def test_unreadable_images_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.jpg: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="^here: not a readable image"):
        decode_image(b"\xff\xd8 not at all", where="here")
    file = image(tmp_path / "a.jpg", 64, 64)
    with pytest.raises(DataError, match="not a readable image"):
        decode_image(file.read_bytes()[:400], where="cut short")
    pixels, annotations = painted(BOXES)
    task = job(pixels[:50], annotations)
    wrong = Job(
        Example("a", "a.png", 70, 160, annotations),
        task.read,
        FRAME,
        "letterbox",
        (0, 0, 0),
        [],
        task.key,
    )
    with pytest.raises(
        DataError, match=r"the image has 160x50 pixels, its annotations are for 160x70"
    ):
        Plain()(wrong)


def test_images_are_decoded_at_reduced_size_only_when_that_is_enough():
    assert [shrink_for(s) for s in (2, 1, 0.51, 0.5, 0.26, 0.25, 0.125, 0.01)] == [
        1,
        1,
        1,
        2,
        2,
        4,
        8,
        8,
    ]


def test_pixels_that_are_no_longer_bytes_are_refused():
    """Normalising inside the augmentation would be cut to bytes again, to black images."""
    import albumentations as A

    pixels, annotations = painted(BOXES)
    for bad in (A.Compose([A.Normalize()]), lambda e, p, r: (p / 255.0, e.annotations)):
        with pytest.raises(ValueError, match="expected uint8 .* leave normalising to pipeline"):
            as_augment(bad)(job(pixels, annotations))


@pytest.mark.parametrize("factor", [1.1, 1.37, 1.9])
def test_enlarged_crops_lie_where_their_boxes_say(factor):
    """A vertical edge in the image comes out at the box's edge to a tenth of a pixel."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, 60:] = 255
    annotations = Annotations([(0, 60, 120, 160)], [0])
    for seed in range(20):
        task = job(pixels, annotations, key=(seed, 0, "e"))
        out, moved, _ = Light(flip=0.0, scale=(factor, factor + 1e-9))(task)
        if len(moved) == 0 or not 2 < moved.boxes[0, 1] < FRAME[1] - 2:
            continue
        shown = out[10, :, 0].astype(float) / 255
        edge = len(shown) - shown.sum()
        assert abs(edge - moved.boxes[0, 1]) < 0.1
