"""Paths: one rule for what is found, what is outside, and where anything is written."""

import os
import unicodedata

import pytest
from datafiles import coco, image

from ytrue import DataError
from ytrue.datasets import load
from ytrue.datasets.imagefiles import (
    EXTENSIONS,
    Folder,
    choose_folder,
    leaves_folder,
    safe_name,
    safe_target,
    take_apart,
)

NAMES = [
    # name, parts, leads out, what a writer makes of it
    ("a.jpg", ["a.jpg"], False, "a.jpg"),
    ("./b/./a.jpg", ["b", "a.jpg"], False, "b/a.jpg"),
    ("b/../a.jpg", ["a.jpg"], False, "a.jpg"),
    ("b\\a.jpg", ["b", "a.jpg"], False, "b/a.jpg"),
    ("../a.jpg", ["a.jpg"], True, "a.jpg"),
    ("b/../../a.jpg", ["a.jpg"], True, "a.jpg"),
    ("..\\b\\a.jpg", ["b", "a.jpg"], True, "b/a.jpg"),
    ("/home/ann/a.jpg", ["home", "ann", "a.jpg"], True, "home/ann/a.jpg"),
    ("C:\\Users\\ann\\a.jpg", ["Users", "ann", "a.jpg"], True, "Users/ann/a.jpg"),
    ("C:a.jpg", ["a.jpg"], True, "a.jpg"),
    ("\\\\server\\share\\a.jpg", ["server", "share", "a.jpg"], True, "server/share/a.jpg"),
    ("https://host/a.jpg", ["host", "a.jpg"], True, "host/a.jpg"),
    ("file:///b/a.jpg", ["b", "a.jpg"], True, "b/a.jpg"),
    ("~/a.jpg", ["~", "a.jpg"], False, "~/a.jpg"),
    ("12:30.jpg", ["12:30.jpg"], False, "12:30.jpg"),
    ("..a/b..jpg", ["..a", "b..jpg"], False, "..a/b..jpg"),
    ("s\0/a.jpg", ["s\0", "a.jpg"], False, "s_/a.jpg"),
]


@pytest.mark.parametrize(("name", "parts", "outside", "written"), NAMES)
def test_a_name_is_taken_apart_by_one_rule(name, parts, outside, written, tmp_path):
    assert take_apart(name) == (parts, outside)
    assert leaves_folder(name) == outside
    assert safe_name(name) == written
    assert safe_target(tmp_path, name).resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("name", ["", "..", "/", "C:\\", "a/.."])
def test_a_name_of_nothing_is_written_nowhere(name):
    with pytest.raises(DataError, match="names no file"):
        safe_name(name)


COMPOSED, TWO_PARTS = (unicodedata.normalize(form, "dé/é.jpg") for form in ("NFC", "NFD"))
FOUND = [
    # the file there is, the name asked for, what is found, whether it is the one named
    ("a.jpg", "a.jpg", "a.jpg", True),
    ("b/a.jpg", "b/a.jpg", "b/a.jpg", True),
    ("b/a.jpg", "b\\a.jpg", "b/a.jpg", True),
    ("b/a.jpg", "./b//a.jpg", "./b//a.jpg", True),
    ("b/a.jpg", "c/../b/a.jpg", "b/a.jpg", True),
    ("b\\a.jpg", "b\\a.jpg", "b\\a.jpg", True),
    ("a:b.jpg", "a:b.jpg", "a:b.jpg", True),
    ("~/a.jpg", "~/a.jpg", "~/a.jpg", True),
    ("a.png", "a.jpg", "a.png", False),
    ("a.JFIF", "a.jpg", "a.JFIF", False),
    (COMPOSED, TWO_PARTS, COMPOSED, True),
    (TWO_PARTS, COMPOSED, TWO_PARTS, True),
    (TWO_PARTS.replace("jpg", "png"), COMPOSED, TWO_PARTS.replace("jpg", "png"), False),
    ("a.jpg", "images/a.jpg", "a.jpg", True),
    ("a.jpg", "set/images/a.jpg", "a.jpg", True),
    ("a.jpg", "images/../images/a.jpg", "a.jpg", True),
    ("a.jpg", "other/a.jpg", "", False),
    ("a.jpg", "images/b/a.jpg", "", False),
    ("a.txt", "a.jpg", "", False),
    ("a.jpg", "x" * 300 + ".jpg", "", False),
    ("a.jpg", "\ud800/a.jpg", "", False),
    ("a.jpg", "..", "", False),
]


@pytest.mark.parametrize(("there", "name", "found", "named"), FOUND)
def test_a_file_is_found_however_its_name_is_written(there, name, found, named, tmp_path):
    root = tmp_path / "set" / "images"
    (root / there).parent.mkdir(parents=True, exist_ok=True)
    (root / there).touch()
    place = Folder(root).find(name)
    assert (place.name, place.named) == (found, named)
    assert not found or os.path.samefile(place.path, root / there)


def test_the_likeliest_of_several_twins_is_taken(tmp_path):
    for name in ("a.xbm", "a.png", "a.bmp"):
        (tmp_path / name).touch()
    assert Folder(tmp_path).find("a.jpg").name == "a.png"


OUTSIDE = ["../{0}", "/home/ann/{0}", "C:\\set\\{0}", "\\\\server\\set\\{0}", "../../b/c/{0}"]


@pytest.mark.parametrize("spelled", OUTSIDE)
def test_a_name_from_elsewhere_is_looked_for_by_its_end(spelled, tmp_path):
    root = tmp_path / "images"
    for name in ("a.jpg", "val/a.jpg"):
        image(root / name)
    image(tmp_path / "a.jpg")  # where ../a.jpg leads
    for end in ("a.jpg", "val/a.jpg"):
        assert Folder(root).find(spelled.format(end)) == (f"{root}/{end}", end, False, True)
    assert Folder(root).find(spelled.format("gone.jpg")).name == ""


def test_an_absolute_name_into_the_folder_is_no_way_out(tmp_path):
    image(tmp_path / "images" / "b" / "a.jpg")
    os.symlink(tmp_path / "images", tmp_path / "link")
    for root in (tmp_path / "images", tmp_path / "link"):
        for name in (tmp_path / "images" / "b" / "a.jpg", root / "b" / "a.jpg"):
            assert Folder(root).find(str(name))[1:] == ("b/a.jpg", True, False)


def test_what_lies_outside_is_read_only_when_asked(tmp_path):
    image(tmp_path / "elsewhere" / "a.jpg")
    file = tmp_path / "elsewhere" / "a.jpg"
    for name in ("../../elsewhere/a.jpg", "..\\..\\elsewhere\\a.jpg", str(file)):
        images = [{"id": 1, "file_name": name, "height": 40, "width": 60}]
        source = coco(tmp_path / "set", [{"bbox": [5, 5, 9, 9]}], images=images, write_images=False)
        (tmp_path / "set" / "images").mkdir(exist_ok=True)
        options = {"images": tmp_path / "set" / "images"}
        dataset = load(source, **options)
        assert [p.kind for p in dataset.problems] == ["path-escapes", "images-missing"]
        assert dataset.num_objects == 1
        assert not dataset[0].path.exists()
        dataset = load(source, **options, allow_outside=True)
        assert dataset.problems == ()
        assert os.path.samefile(dataset[0].path, file)


def test_ways_out_are_said_once(tmp_path):
    images = [
        {"id": k, "file_name": f"/home/ann/{k}.jpg", "height": 40, "width": 60} for k in range(5)
    ]
    for k in range(3):
        image(tmp_path / f"{k}.jpg")
    dataset = load(coco(tmp_path, [], images=images, write_images=False))
    said = [p for p in dataset.problems if p.kind == "path-escapes"]
    assert len(said) == 1
    assert "5 file names lead out of" in said[0].detail
    assert "'/home/ann/0.jpg': 3 found in it by the end of the path" in said[0].detail
    assert [p.kind for p in dataset.problems].count("image-missing") == 2
    assert len(dataset) == 5


def test_a_users_own_links_are_followed(tmp_path):
    image(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "images").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "images" / "link")
    os.symlink(tmp_path / "elsewhere" / "a.jpg", tmp_path / "images" / "b.jpg")
    folder = Folder(tmp_path / "images")
    assert folder.find("link/a.jpg")[1:] == ("link/a.jpg", True, False)
    assert folder.find("b.jpg")[1:] == ("b.jpg", True, False)
    # Beyond a link ".." is taken out of the name, and does not climb from where the link leads.
    assert folder.find("link/../b.jpg")[1:] == ("b.jpg", True, False)


NO_PHOTOGRAPHS = {".eps", ".ps", ".wmf", ".emf", ".mpg", ".mpeg", ".grib", ".bufr", ".h5", ".hdf",
                  ".im"}  # fmt: skip
"""What Pillow opens by running another program, cannot decode, or will not open for long."""


def test_every_picture_that_pillow_opens_is_paired():
    from PIL import Image

    Image.init()
    opened = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert opened - NO_PHOTOGRAPHS - set(EXTENSIONS) == set()


@pytest.mark.parametrize(
    ("folder", "hits", "taken"),
    [("home", 1, True), ("images", 1, True), ("other", 1, False), ("other", 2, True)],
)
def test_a_neighbour_must_hold_half_of_the_names(folder, hits, taken, tmp_path):
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    for name in names[:hits]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"")
    candidates = [tmp_path / name for name in ("home", "other", "images")]
    found = choose_folder(candidates, names)
    assert found == (tmp_path / folder if taken else None)
