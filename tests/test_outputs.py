"""What verbs write: never in another's place, never by halves, in the format that the name says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ytrue import viz
from ytrue.cli import outputs
from ytrue.datasets import convert, load, write_shapes
from ytrue.errors import DataError
from ytrue.files import MARK, replace_file, staged
from ytrue.viz import page, style

KINDS = {
    ".png": b"\x89PNG",
    ".jpg": b"\xff\xd8\xff",
    ".JPEG": b"\xff\xd8\xff",
    ".svg": b"<?xml",
    ".pdf": b"%PDF",
}


@pytest.fixture
def shapes(tmp_path):
    return write_shapes(tmp_path / "shapes", num_images=4, image_size=(48, 64))


def figure():
    drawn = style.new_figure(90, 60)
    drawn.text(0.1, 0.5, "a")
    return drawn


@pytest.mark.parametrize(("extension", "begins"), KINDS.items())
def test_the_extension_decides_the_format_and_the_mark_says_whose_it_is(
    extension, begins, tmp_path
):
    path = tmp_path / "below" / f"a{extension}"
    assert viz.save_picture(figure(), path) == path
    assert path.read_bytes().startswith(begins)
    assert outputs.picture(path, force=False) == path
    path.write_bytes(path.read_bytes().replace(MARK.encode(), b"of others...."))
    with pytest.raises(DataError, match="ytrue did not make it; name another, or take --force"):
        outputs.picture(path, force=False)
    assert outputs.picture(path, force=True) == path


@pytest.mark.parametrize("name", ["a.txt", "a", "a.png.gz", "a.html"])
def test_other_extensions_are_refused(name, tmp_path):
    for refused in (outputs.picture, lambda path, force: viz.save_picture(figure(), path)):
        with pytest.raises(ValueError, match=r"no picture's name; expected one in \.png, \.jpg"):
            refused(tmp_path / name, force=True)
    with pytest.raises(ValueError, match=r"expected a name in \.png"):
        viz.save_png(figure(), tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_pages_are_known_by_their_mark(tmp_path):
    path = tmp_path / "a.html"
    page.write_page(path, "title", "<p>words</p>")
    assert outputs.page(path, force=False) == path
    path.write_text("<html><p>made by somebody</p></html>")
    with pytest.raises(DataError, match="did not make it"):
        outputs.page(path, force=False)
    with pytest.raises(ValueError, match=r"expected one in \.html"):
        outputs.page(tmp_path / "a.json", force=True)


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]\n', True),
        ('[{"image_id": 1, "score": 0.5, "segmentation": "' + "a" * 9000 + '"}]', True),
        ("[]\n", True),
        ('{"images": [], "annotations": []}', False),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', False),
        ("[1, 2]", False),
        ("\xff\xfe", False),
        ("", False),
    ],
)
def test_results_are_known_by_their_form(content, ours, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(content)
    if ours:
        assert outputs.results(path, force=False) == path
    else:
        with pytest.raises(DataError, match="did not make it"):
            outputs.results(path, force=False)
    assert outputs.results(path, force=True) == path


def test_folders_are_known_by_one_of_their_files(tmp_path):
    assert outputs.folder(tmp_path / "new", ("run.json",), force=False)
    (tmp_path / ".hidden").write_text("")
    assert outputs.folder(tmp_path, ("run.json",), force=False)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="holds something else"):
        outputs.folder(tmp_path, ("run.json",), force=False)
    assert outputs.folder(tmp_path, ("run.json",), force=True)
    (tmp_path / "run.json").write_text("")
    assert outputs.folder(tmp_path, ("run.json",), force=False)
    with pytest.raises(DataError, match="a file, not a folder"):
        outputs.folder(tmp_path / "notes.txt", (), force=True)


def test_a_link_is_followed_and_a_device_is_written_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "real.json")
    replace_file(tmp_path / "link.json", lambda file: file.write(b"new"))
    assert (tmp_path / "there" / "real.json").read_bytes() == b"new"
    assert (tmp_path / "link.json").is_symlink()
    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(Path("/dev/full"), lambda file: file.write(b"new"))
    assert caught.value.filename == "/dev/full"


def test_what_cannot_be_written_is_named(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(tmp_path / "a.json", full)
    assert caught.value.filename == str((tmp_path / "a.json").resolve())
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    pass


def killed_while_writing(folder):
    with staged(folder) as stage:
        (stage / "half.txt").write_text("half")
        raise Killed


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_appears_whole_or_not_at_all(there, tmp_path):
    folder = tmp_path / "out"
    if there:
        (folder / "labels").mkdir(parents=True)
        (folder / "labels" / "old.txt").write_text("old")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(Killed):
        killed_while_writing(folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    with staged(folder) as stage:
        assert folder.exists() == there
        (stage / "labels").mkdir()
        (stage / "empty").mkdir()
        (stage / "labels" / "new.txt").write_text("new")
        (stage / "data.yaml").write_text("new")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    kept = {"labels/old.txt"} if there else set()
    assert names == {"labels", "labels/new.txt", "empty", "data.yaml", *kept}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _copies(out, to):
    """The folder of copied images: LabelMe looks for them beside its files."""
    return out if to == "labelme" else out / "images"


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "labelme"])
def test_two_datasets_are_not_converted_into_one_place(to, shapes, tmp_path):
    dataset = load(shapes)
    out = tmp_path / ("out/a.json" if to == "coco" else "out")
    convert(dataset, to, out, copy_images=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = dataset.subset([0])
    with pytest.raises(DataError, match="there is something already"):
        convert(other, to, out, copy_images=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    convert(other, to, out, copy_images=True, force=True)
    if to == "coco":
        assert len(load(out)) == 1
    copied = _copies(tmp_path / "out", to)
    assert len([path for path in copied.iterdir() if path.suffix != ".json"]) == 4


def test_images_of_another_dataset_are_not_replaced(shapes, tmp_path):
    (tmp_path / "images").mkdir()
    there = tmp_path / "images" / load(shapes).images.file_names[2]
    there.write_bytes(b"another's")
    with pytest.raises(DataError, match="there is something already"):
        convert(load(shapes), "coco", tmp_path / "a.json", copy_images=True)
    assert there.read_bytes() == b"another's"
    assert not (tmp_path / "a.json").exists()
    convert(load(shapes), "coco", tmp_path / "a.json")
    assert (tmp_path / "a.json").is_file()


def test_a_conversion_that_fails_leaves_nothing(shapes, tmp_path, monkeypatch):
    from ytrue.datasets import converting

    monkeypatch.setattr(converting.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        convert(load(shapes), "yolo", tmp_path / "out", copy_images=True)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "labelme"])
def test_images_come_out_of_records(to, shapes, tmp_path):
    from ytrue.datasets import write_records

    dataset = load(shapes)
    write_records(dataset, tmp_path / "records", shard_examples=3)
    out = tmp_path / ("out/a.json" if to == "coco" else "out")
    assert not [p for p in convert(load(tmp_path / "records"), to, out, copy_images=True)
                if p.kind == "image-missing"]  # fmt: skip
    for name, path in zip(dataset.images.file_names, dataset.images.paths, strict=True):
        copied = _copies(tmp_path / "out", to) / name
        with open(path, "rb") as file:
            assert copied.read_bytes() == file.read()


def test_images_that_are_not_there_are_listed(shapes, tmp_path):
    dataset = load(shapes)
    paths = [str(tmp_path / "gone.jpg"), *dataset.images.paths[1:]]
    dataset = replace(dataset, images=replace(dataset.images, paths=paths))
    lost = convert(dataset, "coco", tmp_path / "a.json", copy_images=True)
    (problem,) = [one for one in lost if one.kind == "image-missing"]
    assert problem.image_id == dataset.images.ids[0]
    assert "to copy; its annotations are written" in problem.detail


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_copies_stay_in_their_folder(to, shapes, tmp_path):
    dataset = load(shapes)
    names = ["../../outside.jpg", *dataset.images.file_names[1:]]
    dataset = replace(dataset, images=replace(dataset.images, file_names=names))
    out = tmp_path / "deep" / "er"
    lost = convert(dataset, to, out, copy_images=True)
    (renamed,) = [one for one in lost if one.kind == "image-renamed"]
    assert "'../../outside.jpg' is copied as 'outside.jpg'" in renamed.detail
    assert [path.parent for path in tmp_path.rglob("outside.jpg")] == [out / "images"]
    again = load(out)
    assert len(again) == len(dataset)
    assert all(Path(path).is_file() for path in again.images.paths)


def test_a_folder_of_coco_keeps_splits(shapes, tmp_path):
    dataset = load(shapes)
    splits = [("train",), ("train",), ("val",), ("train", "val")]
    dataset = replace(dataset, images=replace(dataset.images, splits=splits))
    assert convert(dataset, "coco", tmp_path / "out", copy_images=True) == []
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == [
        "train.json", "val.json",
    ]  # fmt: skip
    for name, count in (("train", 3), ("val", 2)):
        part = load(tmp_path / "out", split=name)
        assert len(part) == count
        assert part.num_objects == dataset.split(name).num_objects
    (lost,) = convert(dataset, "coco", tmp_path / "one.json")
    assert lost.detail.startswith("one COCO file holds no splits (train, val): name a folder")
    partly = replace(dataset, images=replace(dataset.images, splits=[(), *splits[1:]]))
    (lost,) = convert(partly, "coco", tmp_path / "partly")
    assert lost.detail.endswith("not every image has one")
    assert len(load(tmp_path / "partly")) == 4


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("voc", "a.json", "voc is written to a folder"),
        ("yolo", "data.yaml", "yolo is written to a folder"),
        ("coco", "a.txt", "coco is written to a .json file"),
    ],
)
def test_a_name_of_another_kind_is_refused(to, out, said, shapes, tmp_path):
    with pytest.raises(DataError, match=said):
        convert(load(shapes), to, tmp_path / out)


def test_a_page_holds_no_control_character_and_fits_a_phone(tmp_path):
    said = page.write_page(tmp_path / "a.html", "t", "a\x1b[31m\x00b \ud800\nc").read_text()
    assert "a\\x1b[31m\\x00b \\ud800\nc" in said
    assert 'name="viewport" content="width=device-width' in said
    assert '<div class="wide"><table>' in page.table(("a",), [("b",)])


def test_a_jpeg_is_one(tmp_path):
    viz.save_picture(figure(), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (90, 60))


def test_inspect_tells_splits_in_json(tmp_path):
    from test_cli import run

    file = write_shapes(tmp_path, num_images=2, image_size=(48, 64))
    assert json.loads(run("inspect", file, "--json").stdout)["splits"] == {}
