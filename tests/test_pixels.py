"""Pixels: one rule for deep greys, one limit for all formats, damage and pipes in one sentence."""

import contextlib
import os
import struct
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from datafiles import coco, image
from PIL import Image, ImageOps

from ytrue import DataError
from ytrue.datasets import load
from ytrue.datasets.greys import _MAX_SAMPLE_TAGS, _said_by_tags
from ytrue.datasets.imagefiles import EXTENSIONS, read_header
from ytrue.datasets.pixels import decode_image, read_image, turned

RAMP = np.linspace(0, 1, 256, dtype=np.float64)


def deep(path, values, **save):
    Image.fromarray(np.tile(values, (4, 1))).save(path, **save)
    return path


DEEP = [
    # file, values that are the greys 0 to 255
    ("a.tif", RAMP.astype(np.float32)),
    ("a.tif", (RAMP * 65535).round().astype(np.uint16)),
    ("a.png", (RAMP * 65535).round().astype(np.uint16)),
    ("a.pfm", RAMP.astype(np.float32)),
    ("a.pgm", (RAMP * 65535).round().astype(np.int32)),
]


@pytest.mark.parametrize("brightest", [1, 20, 128, 255])
@pytest.mark.parametrize(("name", "values"), DEEP)
def test_equal_values_are_equal_greys_in_every_image(name, values, brightest, tmp_path):
    pixels = read_image(deep(tmp_path / name, values[: brightest + 1]))
    assert pixels.shape == (4, brightest + 1, 3)
    np.testing.assert_array_equal(pixels[0, :, 1], np.arange(brightest + 1))
    assert (pixels == pixels[..., :1]).all()


SAID = [
    # tag, value, values
    (281, 4095, (RAMP * 4095).round().astype(np.uint16)),
    (281, 65535, (RAMP * 65535).round().astype(np.int32)),
    (341, 255.0, (RAMP * 255).astype(np.float32)),
]


@pytest.mark.parametrize(("tag", "white", "values"), SAID)
def test_a_tiff_that_says_its_largest_sample_is_believed(tag, white, values, tmp_path):
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[tag] = white
    pixels = read_image(deep(tmp_path / "a.tif", values[:200], tiffinfo=tags))
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(200))


REFUSED = [
    (np.array([0, 1.01], np.float32), "grey values from 0 to 1.01, expected 0 to 1"),
    (np.array([-0.01, 1], np.float32), "grey values from -0.01 to 1, expected 0 to 1"),
    (np.array([0, 255], np.float32), "grey values from 0 to 255, expected 0 to 1"),
    (np.array([0, np.nan], np.float32), "grey values from nan to nan"),
    (np.array([0, np.inf], np.float32), "grey values from 0 to inf"),
    (np.array([0, 70000], np.int32), "32-bit integers, of which nothing tells what is white"),
    (np.array([0, 1], np.int32), "32-bit integers, of which nothing tells what is white"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_greys_that_can_only_be_guessed_are_refused(values, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        read_image(deep(tmp_path / "a.tif", values))
    assert "a.tif: not a readable image" in str(caught.value)


def test_what_rounding_leaves_beyond_white_is_white(tmp_path):
    values = np.array([-1 / 512, 1 + 1 / 512], np.float32)
    assert read_image(deep(tmp_path / "a.tif", values))[0, :, 0].tolist() == [0, 255]
    with pytest.raises(DataError):
        read_image(deep(tmp_path / "a.tif", np.array([0, 1 + 1 / 508], np.float32)))


GREYS = [
    # values, what is said of them at loading
    (np.array([0, 4095], np.uint16), "comes out as 16 of 255: if they hold 12 bits in 16"),
    (np.array([0, 4500], np.uint16), None),
    (np.array([0, 187], np.float32), "grey values from 0 to 187, expected 0 to 1"),
    (np.array([0, 1], np.float32), None),
]


@pytest.mark.parametrize(("values", "said"), GREYS)
def test_doubtful_greys_are_listed_once(values, said, tmp_path):
    images = [{"id": k, "file_name": f"{k}.tif", "height": 4, "width": 2} for k in range(20)]
    for record in images:
        deep(tmp_path / record["file_name"], values)
    dataset = load(coco(tmp_path, [], images=images, write_images=False))
    assert len(dataset) == 20
    if said is None:
        assert dataset.problems == ()
    else:
        assert [(p.kind, p.action) for p in dataset.problems] == [("image-grey", "kept")]
        assert "20 images hold greys of more than 8 bits" in dataset.problems[0].detail
        assert said in dataset.problems[0].detail


def test_one_bright_image_tells_that_16_bits_are_meant(tmp_path):
    images = [{"id": k, "file_name": f"{k}.png", "height": 4, "width": 2} for k in range(20)]
    for k in range(20):
        deep(tmp_path / f"{k}.png", np.array([0, 4500 if k == 18 else 9], np.uint16))
    assert load(coco(tmp_path, [], images=images, write_images=False)).problems == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_turn_as_viewers_do(orientation):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)[..., None].repeat(3, axis=-1)
    stored = Image.fromarray(pixels)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(turned(pixels, orientation), expected)


def test_deep_greys_are_turned_too(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png")[..., 0], np.rot90(values // 257, -1)
    )


def claiming(path, side):
    """An image file of a few hundred bytes whose header claims `side` x `side` pixels."""
    image(path, 8, 8)
    data = bytearray(path.read_bytes())
    if path.suffix == ".jpg":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    else:
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_one_limit_holds_for_every_format_before_pixels_are_asked_for(name, tmp_path, monkeypatch):
    import cv2

    decoded = []
    imdecode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *a: decoded.append(1) or imdecode(*a))
    monkeypatch.setattr(Image.Image, "convert", lambda *a: decoded.append(1))
    with pytest.raises(DataError, match="32000x32000 .* more than 500,000,000 pixels; YTRUE_MAX"):
        read_image(claiming(tmp_path / name, 32000))
    assert decoded == []


def test_the_limit_is_met_at_equality_and_can_be_set(tmp_path, monkeypatch):
    file = image(tmp_path / "a.jpg", 40, 60)
    monkeypatch.setenv("YTRUE_MAX_PIXELS", "2400")
    assert read_image(file).shape == (40, 60, 3)
    monkeypatch.setenv("YTRUE_MAX_PIXELS", "2399")
    with pytest.raises(DataError, match=r"a.jpg: the image is too large: 40x60"):
        read_image(file)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_header_is_read_at_any_size_without_a_warning(name, tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    file = claiming(tmp_path / name, 60000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = read_header(file)
    assert (header.height, header.width) == (60000, 60000)
    assert limit == Image.MAX_IMAGE_PIXELS  # Pillow's own limit is as its user left it


def test_large_images_cost_nothing_at_loading(tmp_path):
    claiming(tmp_path / "a.png", 30000)
    images = [{"id": 1, "file_name": "a.png", "height": 30000, "width": 30000}]
    source = coco(tmp_path, [{"bbox": [100, 100, 900, 700]}], images=images, write_images=False)
    dataset = load(source)
    assert (dataset.problems, dataset.num_objects) == ((), 1)


def unusual(folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    os.symlink("/dev/zero", folder / "device.jpg")
    os.symlink("loop.jpg", folder / "loop.jpg")
    return {
        "pipe.jpg": "a pipe, socket or device, expected a file",
        "folder.jpg": "a folder, expected a file",
        "device.jpg": "a pipe, socket or device, expected a file",
        "loop.jpg": "cannot be read",
        "gone.jpg": "No such file or directory",
        "x" * 300 + ".jpg": "File name too long",
        "a\0.jpg": "no file can have this name",
        "a\ud800.jpg": "no file can have this name",
    }


def test_what_is_no_file_is_never_opened(tmp_path):
    for name, said in unusual(tmp_path).items():
        for reader in (read_image, read_header):
            with pytest.raises(DataError, match=said):
                reader(tmp_path / name)


SAVED = [
    end for end in EXTENSIONS
    if Image.registered_extensions().get(end) in Image.SAVE and end not in (".iim", ".gbr")
]  # fmt: skip


@pytest.mark.parametrize("end", SAVED)
def test_damaged_pictures_of_every_kind_end_in_one_sentence(end, tmp_path):
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
    path = tmp_path / f"a{end}"
    for mode in ("RGB", "RGBA", "L", "P", "1"):
        try:
            Image.fromarray(pixels).convert(mode).save(path)
        except (OSError, ValueError, KeyError):
            continue
        break
    else:
        pytest.skip("Pillow writes none here")
    good = path.read_bytes()
    assert decode_image(good, where="good").shape[2] == 3
    for _ in range(60):
        bad = bytearray(good[: rng.integers(1, len(good) + 1)])
        for place in rng.integers(0, len(bad), rng.integers(1, 8)):
            bad[min(place, rng.integers(0, 200))] = rng.integers(0, 256)
        with contextlib.suppress(DataError):
            decode_image(bytes(bad), where="damaged")


@pytest.mark.parametrize(
    ("said", "white"),
    [
        ((4095,), 4095.0),
        (1.5, 1.5),
        ((0,), 0.0),
        ((np.inf,), 0.0),
        ((), 0.0),
        ("x", 0.0),
        (None, 0.0),
    ],
)
def test_what_is_white_by_a_tiffs_tags(said, white):
    image = SimpleNamespace(tag_v2={} if said is None else {_MAX_SAMPLE_TAGS[-1]: said})
    assert _said_by_tags(image) == white
