"""What a file or folder is: told by most of its files, named where it is not read."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile

import numpy as np
import pytest
from datafiles import coco, image, voc

from ytrue import DataError
from ytrue.datasets import load, write_records, write_shapes
from ytrue.datasets.foreign import kind_of
from ytrue.datasets.loading import recognise
from ytrue.datasets.splits import check_split

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "cat"}],
}
LABELME = {
    "shapes": [{"label": "cat", "points": [[1, 2], [9, 9]], "shape_type": "rectangle"}],
    "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60,
}  # fmt: skip


def archived(write):
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def zipped(out):
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.json", "{}")


def tarred(out):
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.json"))


LABEL_STUDIO = [
    {"id": 1, "annotations": [{"result": [{"value": {"x": 1}}]}], "data": {"image": "a"}}
]
CREATE_ML = [
    {"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1, "y": 2, "width": 3, "height": 4}}]}
]  # fmt: skip
VIA = {"a.jpg1": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "rect"}}]}}
CAPTIONS = {
    "images": COCO["images"], "annotations": [{"image_id": 1, "id": 1, "caption": "a cat"}]
}  # fmt: skip
SUPERVISELY = {"size": {"height": 1}, "objects": [{"classTitle": "x", "points": {"exterior": []}}]}
DATUMARO = {"infos": {}, "categories": {}, "items": [{"id": "a", "annotations": []}]}
BDD = [{"name": "a.jpg", "labels": [{"category": "car", "box2d": {"x1": 1}}]}]
CVAT = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- made -->\n<annotations><version>1.1</version>'
    '<image id="0" name="0.jpg" width="96" height="64"></image></annotations>'
)
KITTI = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
FOREIGN = [
    # name, content, what is said, what helps
    ("a.xml", CVAT, "CVAT XML", "export it from CVAT as COCO 1.0"),
    ("a.xml", CVAT.encode("utf-16"), "CVAT XML", "export it from CVAT"),
    ("a.xml", '<annotations><meta/><track id="0"/></annotations>', "CVAT XML", "CVAT"),
    ("a.xml", "<dataset><images></images></dataset>", "imglab", "COCO"),
    ("a.xml", "<svg></svg>", "XML whose top is <svg>", "<annotation>"),
    ("a.json", json.dumps(LABEL_STUDIO), "Label Studio", "from Label Studio as COCO"),
    ("a.json", json.dumps(LABEL_STUDIO, indent=2).encode("utf-16"), "Label Studio", "COCO"),
    ("a.json", json.dumps(CREATE_ML), "CreateML", "COCO"),
    ("a.json", json.dumps(VIA), "VIA JSON", "from VIA as COCO"),
    ("a.json", json.dumps(CAPTIONS), "COCO captions, without boxes", "instances_"),
    ("a.json", json.dumps(SUPERVISELY), "Supervisely", "from Supervisely as COCO"),
    ("a.json", json.dumps(DATUMARO), "Datumaro", "datum convert"),
    ("a.json", json.dumps(BDD), "BDD100K", "COCO"),
    ("a.json", '{"a": 1}', "JSON of no known kind", "expected COCO or LabelMe"),
    ("a.json.gz", gzip.compress(json.dumps(COCO).encode()), "a gzip archive", "unpack it"),
    ("a.json", gzip.compress(json.dumps(COCO).encode()), "a gzip archive", "unpack it"),
    ("a.zip", archived(zipped), "a zip archive", "unpack it"),
    ("a.tar", archived(tarred), "a tar archive", "unpack it"),
    ("a.bz2", bz2.compress(b"{}"), "a bzip2 archive", "unpack it"),
    ("a.xz", lzma.compress(b"{}"), "an xz archive", "unpack it"),
    ("a.parquet", b"PAR1....", "a parquet table", "COCO JSON"),
    ("a.npy", b"\x93NUMPY\x01\0", "a NumPy array", "COCO JSON"),
    ("a.tfrecord", b"\x08\0\0\0\0\0\0\0abcd", "a TFRecord file", "ytrue encode"),
    ("boxes.csv", "filename,class,xmin\na.jpg,cat,1\n", r"a CSV table \(filename, class, xmin", "COCO"),
    ("b.csv", "ImageID,Source,LabelName,Confidence\n", "an OpenImages CSV", "fiftyone"),
    ("a.txt", KITTI * 3, "KITTI txt", "datumaro"),
    ("a.txt", "imagesource:GoogleEarth\ngsd:0.1\n1 2 3 4 5 6 7 8 plane 0\n", "DOTA txt", "dota"),
    ("a.txt", "1 2 3 4 5 6 7 8 plane 0\n", "DOTA txt", "dota"),
    ("gt.txt", "1,1,10,20,30,40,1,1,1.0\n", "MOT txt", "MOT"),
    ("a.txt", "read me first\n", "text", "expected COCO"),
    ("a.doc", "read me first\n", "of no known kind", "expected COCO"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "what", "do"), FOREIGN)
def test_foreign_files_are_told_for_what_they_are(name, content, what, do, tmp_path):
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        DataError, match=f"no known annotation format: the file is .*{what}"
    ) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert do in caught.value.do
    if kind_of(tmp_path / name).do and name != "a.npy":
        with pytest.raises(DataError, match="no known annotation format found; seen: 1 ") as caught:
            load(tmp_path)
        assert do in caught.value.do
        assert name in caught.value.what


BROKEN = [
    ("", "the file is empty"),
    (" \n", "the file is empty"),
    ("{", "the JSON is cut short"),
    ('{"a": }', "not valid JSON"),
    (json.dumps(COCO)[:150], "the JSON is cut short"),
    (json.dumps(LABELME)[:60], "the JSON is cut short"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_broken_file_that_is_named_is_the_one_told_about(text, said, tmp_path):
    yolo(tmp_path)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json: .*{said}"):
        load(tmp_path / "a.json")


def yolo(folder, count=3):
    for k in range(count):
        image(folder / "images" / f"{k}.jpg")
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{k}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("names: [cat]\n")


@pytest.mark.parametrize("name", ["boxes.csv", "x.json", "x.xml", "notes.md", "x.bin"])
def test_no_neighbour_is_read_for_a_file_that_is_named(name, tmp_path):
    yolo(tmp_path)
    (tmp_path / name).write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_file_whose_keys_come_late_is_the_file_that_is_read(tmp_path):
    yolo(tmp_path)
    late = {"info": {"text": "x" * 2**17}, "images": COCO["images"]} | COCO
    (tmp_path / "late.json").write_text(json.dumps(late))
    image(tmp_path / "a.jpg")
    dataset = load(tmp_path / "late.json")
    assert (dataset.format, dataset.num_objects) == ("coco", 1)


def labelme(folder, count=3):
    for k in range(count):
        (folder / f"p{k}.json").write_text(json.dumps(LABELME | {"imagePath": f"p{k}.jpg"}))
        image(folder / f"p{k}.jpg")


def test_of_several_formats_most_files_decide_and_the_others_are_listed(tmp_path):
    labelme(tmp_path)
    coco(tmp_path / "annotations", [{"bbox": [1, 2, 3, 4]}], write_images=False)
    voc(tmp_path / "xml" / "p0.xml", [("cat", (1, 1, 9, 9), 0)])
    (tmp_path / "boxes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "README.txt").write_text("read me\n")
    dataset = load(tmp_path)
    assert (dataset.format, len(dataset)) == ("labelme", 3)
    unread = sorted((p.detail, p.action) for p in dataset.problems if p.kind == "file-unread")
    assert [action for _, action in unread] == ["ignored"] * 3
    assert "1 .csv file is not read: a CSV table (a, b), such as boxes.csv" in unread[0][0]
    assert "1 .xml file is not read: Pascal VOC XML, such as xml/p0.xml" in unread[1][0]
    assert "no LabelMe file: not read" in unread[2][0]
    with pytest.raises(DataError, match="file-unread"):
        load(tmp_path, strict=True)


def test_one_coco_file_is_a_whole_dataset(tmp_path):
    coco(tmp_path, [{"bbox": [1, 2, 3, 4]}])
    yolo(tmp_path)
    voc(tmp_path / "xml" / "0.xml", [("cat", (1, 1, 9, 9), 0)])
    dataset = load(tmp_path)
    assert dataset.format == "coco"
    said = " ".join(p.detail for p in dataset.problems if p.kind == "file-unread")
    assert "3 .txt files are not read: YOLO txt" in said
    assert "1 .xml file is not read: Pascal VOC XML" in said


def test_many_unread_files_are_one_problem(tmp_path):
    coco(tmp_path, [{"bbox": [1, 2, 3, 4]}])
    yolo(tmp_path, 60)
    (found,) = [p for p in load(tmp_path).problems if p.kind == "file-unread"]
    assert "of 30 looked at, 60 in all" in found.detail


def test_pipes_and_folders_beside_the_files_hang_nothing(tmp_path):
    labelme(tmp_path)
    for ending in ("json", "xml", "txt", "yaml", "csv", "jpg"):
        os.mkfifo(tmp_path / f"pipe.{ending}")
        (tmp_path / f"folder.{ending}").mkdir()
    assert len(load(tmp_path)) == 3
    for ending in ("json", "xml", "txt", "yaml"):
        for format in (None, "coco", "voc", "yolo", "labelme"):
            with pytest.raises(DataError, match="a pipe, socket or device"):
                load(tmp_path / f"pipe.{ending}", format=format)


def test_records_are_records_whatever_lies_beside_them(tmp_path):
    dataset = load(write_shapes(tmp_path / "shapes", num_images=2, image_size=(96, 128)))
    write_records(dataset, tmp_path / "records")
    assert recognise(tmp_path / "records") == "records"
    assert load(tmp_path / "records").problems == dataset.problems


def test_an_empty_folder_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    image(tmp_path / "a" / "a.jpg")
    with pytest.raises(DataError, match="seen: 1 images; expected COCO JSON"):
        load(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="it holds no files that could be one"):
        load(tmp_path / "b")


def test_kinds_are_told_from_the_ends_of_a_large_file(tmp_path):
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 4, "width": 4} for k in range(5000)]
    large = {"images": images, "annotations": [{"image_id": 1, "id": 1, "caption": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(large))
    assert kind_of(tmp_path / "a.json").name == "COCO captions, without boxes"
    np.testing.assert_equal(kind_of(coco(tmp_path, [{"bbox": [1, 2, 3, 4]}])).format, "coco")


LEFT = [
    # boxes, the exit code, what is said
    ([[1, 2, 3, 4], [1, 2, 0, 4]], 0, ""),
    ([[1, 2, 0, 4], [1, 2, -3, 4]], 2, "nothing is left of it: 2 problems cost every object"),
    ([], 0, ""),
]


def backgrounds(folder, format, lost):
    """Three images without objects and a broken one, which has a box if it is to be `lost`."""
    boxes = {3: [("cat", (1, 2, 9, 8), 0)]} if lost else {}
    for number in range(4):
        stem = folder / ("labels" if format == "yolo" else "") / str(number)
        stem.parent.mkdir(exist_ok=True)
        image(folder / f"{number}.png", 40, 60)
        box = boxes.get(number, [])
        if format == "yolo":
            stem.with_suffix(".txt").write_text("0 .5 .5 .1 .1\n" * len(box))
        elif format == "voc":
            voc(stem.with_suffix(".xml"), box, name=f"{number}.png")
        elif format == "labelme":
            shapes = LABELME["shapes"] * len(box)
            record = {**LABELME, "imagePath": f"{number}.png", "shapes": shapes}
            stem.with_suffix(".json").write_text(json.dumps(record))
    if format == "coco":
        (folder / "a.json").write_text(json.dumps({
            "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(4)],
            "annotations": [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]}] * lost,
            "categories": [{"id": 1, "name": "cat"}],
        }))  # fmt: skip
    if format == "yolo":
        (folder / "data.yaml").write_text("names: [cat]\n")
    (folder / "3.png").write_bytes(b"no image")


@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "labelme"])
@pytest.mark.parametrize(("lost", "code"), [(0, 0), (1, 2)])
def test_a_broken_background_costs_no_object(format, lost, code, tmp_path, capsys):
    from ytrue.cli.app import _run

    backgrounds(tmp_path, format, lost)
    assert _run(["inspect", str(tmp_path), "--json"]) == code
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["images"], found["objects"]) == (3, 0)
    problems = {p["kind"]: p["objects"] for p in found["problems"]}
    # A YOLO row is no object without the image's size: that is a problem of its own.
    assert problems == (
        {"image-unreadable": 0, "image-missing": None}
        if format == "yolo" and lost
        else {"image-unreadable": lost}
    )
    assert ("nothing is left of it: 1 problem cost every object" in err) == bool(code)


def test_encode_tells_what_reading_dropped_and_which_images_it_left_out(tmp_path, capsys):
    from ytrue.cli.app import _run

    images = [{"id": k, "file_name": f"{k}.png", "height": 40, "width": 60} for k in (1, 2)]
    boxes = [{"bbox": [1, 2, 3, 4]}, {"bbox": [1, 2, 0, 4]}]
    file = coco(tmp_path / "in", boxes, images=images, write_images=False)
    image(tmp_path / "in" / "1.png", 40, 60)
    assert _run(["encode", str(file), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "1 image has no file and is left out, such as 2" in out
    assert f"found in {file}: 1 box-empty (dropped), 1 image-missing (kept); ytrue inspect" in err
    assert _run(["convert", str(file), "--to", "voc", "-o", str(tmp_path / "voc")]) == 0
    assert "1 box-empty (dropped)" in capsys.readouterr().err


@pytest.mark.parametrize("known", [(), ("train", "val")])
def test_a_split_that_is_not_there_is_answered_by_those_that_are(known):
    advice = "it has train, val; name one of them, or" if known else "it has no splits;"
    with pytest.raises(DataError, match=f"no split 'test': {advice} load without split$"):
        check_split("test", known, "a.json")


@pytest.mark.parametrize(
    ("content", "ending", "right"),
    [
        (json.dumps(COCO), ".xml", ".json"),
        (json.dumps(LABELME), ".txt", ".json"),
        ("<annotation><object/></annotation>", ".json", ".xml"),
    ],
)
def test_a_file_of_a_wrong_ending_is_told_the_right_one(content, ending, right, tmp_path):
    (tmp_path / f"a{ending}").write_text(content)
    with pytest.raises(DataError, match=f"the file is .*; rename it to end in {right}$"):
        load(tmp_path / f"a{ending}")


@pytest.mark.parametrize(("boxes", "code", "said"), LEFT)
def test_inspect_fails_where_nothing_is_left(boxes, code, said, tmp_path, capsys):
    from ytrue.cli.app import _run

    file = coco(tmp_path, [{"bbox": box} for box in boxes])
    assert _run(["inspect", str(file), "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["objects"] == sum(min(box[2:]) > 0 for box in boxes)
    assert said in err
    assert bool(err) == bool(code)
