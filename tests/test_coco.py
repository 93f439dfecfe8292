"""Reading COCO: every oddity is a problem with its place, and nothing else is lost."""

import json
import os
import subprocess
import sys
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from datafiles import coco, image
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue import DataError
from ytrue.datasets import coco as module
from ytrue.datasets import cocojson, load
from ytrue.datasets.cococolumns import Columns

BOX = [10, 5, 20, 10]


def kinds(dataset):
    return [(problem.kind, problem.action) for problem in dataset.problems]


def test_a_plain_file_reads_without_problems(tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": BOX, "segmentation": [[10, 5, 30, 5, 30, 15]]}]))
    assert dataset.problems == ()
    assert (dataset.classes, dataset.class_ids) == (("dog", "cat"), (3, 7))  # by id, not by place
    example = dataset[0]
    np.testing.assert_array_equal(example.annotations.boxes, [[5, 10, 15, 30]])  # y, x, y, x
    np.testing.assert_array_equal(example.annotations.polygons[0][0], [[5, 10], [5, 30], [15, 30]])
    assert (example.height, example.width, example.annotation_ids) == (40, 60, (100,))
    assert example.path.is_file()


# what, fields of the one annotation, problem and action, boxes left
ODD = [
    ("inverted", {"bbox": [10, 5, -4, 3]}, ("box-inverted", "dropped"), 0),
    ("empty", {"bbox": [10, 5, 0, 3]}, ("box-empty", "dropped"), 0),
    ("outside", {"bbox": [61, 5, 4, 3]}, ("box-outside", "dropped"), 0),
    ("overhang", {"bbox": [50, 5, 11, 3]}, ("box-overhang", "clipped"), 1),
    ("large overhang", {"bbox": [50, 5, 40, 3]}, ("box-overhang-large", "kept"), 1),
    ("category", {"bbox": BOX, "category_id": 4}, ("unknown-category", "dropped"), 0),
    ("image", {"bbox": BOX, "image_id": 4}, ("unknown-image", "dropped"), 0),
    ("4 numbers", {"bbox": BOX, "segmentation": [[1, 2, 3, 4]]}, ("polygon-invalid", "dropped"), 1),
    ("odd count", {"bbox": BOX, "segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, ("polygon-invalid", "dropped"), 1),
    ("3 numbers", {"bbox": [1, 2, 3]}, ("box-invalid", "dropped"), 0),
    ("text box", {"bbox": ["a", 1, 2, 3]}, ("box-invalid", "dropped"), 0),
    ("no box", {"bbox": "absent", "segmentation": [[1, 2, 9, 2, 9, 8]]}, ("box-missing", "kept"), 1),
    ("no image id", {"bbox": BOX, "image_id": "absent"}, ("annotation-invalid", "dropped"), 0),
    ("null label", {"bbox": BOX, "category_id": None}, ("annotation-invalid", "dropped"), 0),
    ("bad mask", {"bbox": BOX, "segmentation": {"size": [40, 60], "counts": [7]}}, ("mask-invalid", "dropped"), 1),
    ("mask size", {"bbox": BOX, "segmentation": {"size": [2, 3], "counts": [6]}}, ("mask-invalid", "dropped"), 1),
    ("keypoints", {"bbox": BOX, "keypoints": [1, 2]}, ("keypoints-invalid", "dropped"), 1),
    ("visibility", {"bbox": BOX, "keypoints": [1, 2, 9]}, ("keypoints-invalid", "dropped"), 1),
]  # fmt: skip


@pytest.mark.parametrize(("what", "fields", "problem", "left"), ODD, ids=[row[0] for row in ODD])
def test_each_oddity_is_a_problem_with_its_place(what, fields, problem, left, tmp_path):
    del what
    file = coco(tmp_path, [fields])
    dataset = load(file)
    assert problem in kinds(dataset)
    assert dataset.num_objects == left
    found = next(p for p in dataset.problems if p.kind == problem[0])
    assert found.file == str(file)
    assert found.annotation_id == 100
    assert "annotation 100" in found.where
    with pytest.raises(
        DataError, match=rf"\[{problem[0]}\]; mend the file, or load without strict"
    ):
        load(file, strict=True)


def test_clipping_keeps_what_is_inside(tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": [-1, 5, 11, 3]}]))
    np.testing.assert_array_equal(dataset[0].annotations.boxes, [[5, 0, 8, 10]])
    assert "overhangs by 1 px" in dataset.problems[0].detail


NO_PROBLEM = [
    ("no area", {"bbox": BOX, "area": "absent"}),
    ("no iscrowd", {"bbox": BOX, "iscrowd": "absent"}),
    ("empty segmentation", {"bbox": BOX, "segmentation": []}),
    ("flat polygon", {"bbox": BOX, "segmentation": [10, 5, 30, 5, 30, 15]}),
    ("several parts", {"bbox": BOX, "segmentation": [[10, 5, 30, 5, 30, 15], [11, 6, 12, 6, 12, 7]]}),
    ("float ids", {"bbox": BOX, "id": 100.0, "image_id": 1.0}),
    ("foreign field", {"bbox": BOX, "attributes": {"a": [1, {"b": 2}]}}),
    ("crowd as list", {"bbox": BOX, "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [100, 50, 2250]}}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "fields"), NO_PROBLEM, ids=[row[0] for row in NO_PROBLEM])
def test_what_others_stumble_over_is_no_problem(what, fields, tmp_path):
    dataset = load(coco(tmp_path, [fields]))
    assert (dataset.problems, dataset.num_objects) == ((), 1)
    objects = dataset[0].annotations
    assert bool(objects.crowd[0]) == (what == "crowd as list")
    if what == "crowd as list":
        assert objects.masks[0].area == 50
    if "polygon" in what or "parts" in what:
        assert len(objects.polygons[0]) == (2 if "parts" in what else 1)


def test_string_ids_work(tmp_path):
    images = [{"id": "one", "file_name": "a.jpg", "height": 40, "width": 60}]
    dataset = load(coco(tmp_path, [{"bbox": BOX, "id": "x", "image_id": "one"}], images=images))
    assert (dataset[0].image_id, dataset[0].annotation_ids) == ("one", ("x",))


def test_duplicates_are_listed(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}] * 2
    dataset = load(coco(tmp_path, [{"bbox": BOX}, {"bbox": BOX, "id": 100}], images=images))
    assert kinds(dataset) == [
        ("duplicate-image-id", "dropped"), ("duplicate-annotation-id", "kept"), ("duplicate-object", "kept"),
    ]  # fmt: skip
    assert (len(dataset), dataset.num_objects) == (1, 2)


def test_images_that_cannot_be_used_go_with_their_objects(tmp_path):
    def record(number, name, height=40, width=60):
        return {"id": number, "file_name": name, "height": height, "width": width}

    names = [
        "a.jpg",
        "wrong_size.jpg",
        "broken.jpg",
        "turned.jpg",
        "../out.jpg",
        "/etc/x.jpg",
        "link/a.jpg",
        "gone.jpg",
    ]
    images = [record(k + 1, name) for k, name in enumerate(names)]
    file = coco(
        tmp_path / "set",
        [{"bbox": BOX, "image_id": k + 1} for k in range(len(names))],
        images=images,
    )
    image(tmp_path / "set" / "wrong_size.jpg", 30, 60)
    (tmp_path / "set" / "broken.jpg").write_bytes(b"no image")
    exif = _orientation(6)
    image(tmp_path / "set" / "turned.jpg", 40, 60, exif=exif)
    image(tmp_path / "elsewhere" / "a.jpg")
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "link")
    (tmp_path / "set" / "gone.jpg").unlink()
    dataset = load(file, images=tmp_path / "set")
    assert sorted(kinds(dataset)) == [
        ("image-missing", "kept"), ("image-missing", "kept"), ("image-missing", "kept"),
        ("image-orientation", "dropped"), ("image-size", "dropped"),
        ("image-unreadable", "dropped"), ("path-escapes", "kept"),
    ]  # fmt: skip
    assert [example.image_id for example in dataset] == [1, 5, 6, 7, 8]
    assert dataset.num_objects == 5
    by_kind = {problem.kind: problem.detail for problem in dataset.problems}
    assert "annotated as 60x40 (width x height)" in by_kind["image-size"]
    assert "EXIF orientation 6 shows it as 40x60" in by_kind["image-orientation"]


def _orientation(value):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_an_image_annotated_as_it_is_shown_is_fine(tmp_path):
    images = [{"id": 1, "file_name": "t.jpg", "height": 60, "width": 40}]
    file = coco(tmp_path, [{"bbox": [1, 2, 3, 4]}], images=images, write_images=False)
    image(tmp_path / "t.jpg", 40, 60, exif=_orientation(6))
    assert load(file).problems == ()


def test_corners_and_normalised_boxes_are_suspected_not_guessed(tmp_path):
    corners = [{"bbox": [30 + k, 20 + k, 50 + k, 35 + k]} for k in range(5)]
    dataset = load(coco(tmp_path, corners))
    assert "boxes-look-xyxy" in {problem.kind for problem in dataset.problems}
    assert dataset[0].annotations.boxes[0, 3] == 80  # read as sizes all the same
    dataset = load(coco(tmp_path, [{"bbox": [0.1, 0.2, 0.3, 0.1 + k / 100]} for k in range(5)]))
    assert [problem.kind for problem in dataset.problems] == ["boxes-look-normalised"]


def _written(tmp_path, data):
    file = tmp_path / "x.json"
    file.write_bytes(data)
    return file


def valid(**changes):
    return json.dumps({"images": [], "annotations": [], "categories": []} | changes).encode()


FILES = [
    (b"", "the file is empty; export"),
    (b"   \n", "the file is empty"),
    (valid(annotations=[{"id": 1}])[:-20], "the JSON is cut short"),
    (b'{"images": [], "annotations": [}', "not valid JSON"),
    (valid().decode().encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
    (b'{"info": "caf\xe9", "images": [], "annotations": [], "categories": []}', "UTF-8"),
    (b'[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]', "a list of detection results"),
    (valid(annotations=[{"segments_info": [], "image_id": 1}]), "panoptic COCO"),
    (b'{"images": [], "annotations": [], "categories": [1]}', "categories is not a list of records"),
    (b'{"images": 3, "annotations": [], "categories": []}', "no list of images"),
    (b'{"info": {"annotations": []}, "images": [{"file_name": "x"}]}', "no list of annotations at the top"),
    (valid(categories=[{"id": 1.5}]), "a category's id: 1.5 is no id; give it a whole number"),
    (b'{"annotations": [], "images": [], "annotations": [{"id": 1}]}', "annotations are listed twice"),
    (valid(annotations=[{"image_id": 1, "caption": "a dog"}]), "these are captions: texts about images"),
    (valid(annotations=None), "no list of annotations at the top"),
    (b'{"images": [], "annotations": [], "categories": []} x', r"not valid JSON \(Extra data, line 1"),
    (b'{"images": [], "annotations": [{"id": 1, "x": "caf\xe9"}], "categories": []}', "UTF-8"),
    (b'{"images": [], "x": ' + b"[" * 200_000 + b"]" * 200_000 + b', "annotations": []}', "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), FILES)
def test_unusable_files_are_one_clear_message(data, message, tmp_path):
    file = _written(tmp_path, data)
    with pytest.raises(DataError, match=message) as caught:
        load(file, format="coco")
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("data", "message"), FILES[:3:2] + FILES[4:5])
def test_unusable_files_are_told_without_naming_the_format(data, message, tmp_path):
    with pytest.raises(
        DataError, match=message.removesuffix("; export") + "|the JSON is cut short"
    ):
        load(_written(tmp_path, data))


@pytest.mark.parametrize("around", ["info", "image"])
def test_a_list_named_annotations_inside_another_record_is_not_theirs(around, tmp_path):
    inner = {"annotations": [{"id": 4}]}
    file = coco(tmp_path, [{"bbox": BOX}])
    content = json.loads(file.read_text())
    if around == "info":
        content = {"info": inner} | content
    else:
        content["images"][0] |= inner
    file.write_text(json.dumps(content))
    dataset = load(file)
    assert (dataset.problems, dataset.num_objects) == ((), 1)


def test_records_within_annotations_cost_no_more_than_their_text(tmp_path):
    """Each annotation ends in what looks like an end of the list: 2,000 of them took minutes."""
    tracks = [{"a": k} for k in range(25)]
    count = 6000
    file = coco(
        tmp_path, [{"bbox": [1, 2, 3, 4 + k / 1e5], "tracks": tracks} for k in range(count)]
    )
    asked = []
    with pytest.MonkeyPatch.context() as context:
        context.setattr(Columns, "take", _counting(Columns.take, asked))
        assert load(file).num_objects == count
    assert sum(asked) < 4 * file.stat().st_size


def _counting(take, asked):
    def counted(self, block):
        asked.append(len(block))
        return take(self, block)

    return counted


@pytest.mark.parametrize("image_id", [1.5, None, True, [1]])
def test_an_image_without_a_usable_id_is_a_problem(image_id, tmp_path):
    images = [{"id": image_id, "file_name": "a.jpg", "height": 40, "width": 60}]
    assert kinds(load(coco(tmp_path, [{"bbox": BOX}], images=images))) == [
        ("image-invalid", "dropped"), ("unknown-image", "dropped"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "s\0/a.jpg"])
def test_impossible_file_names_are_problems(name, tmp_path):
    images = [{"id": 1, "file_name": name, "height": 40, "width": 60}]
    dataset = load(coco(tmp_path, [], images=images, write_images=False))
    assert [kind for kind, _ in kinds(dataset)] == ["images-missing"]


def test_an_image_of_no_known_size_goes_with_its_objects(tmp_path):
    images = [{"id": 1, "file_name": "nowhere.jpg"}]
    dataset = load(coco(tmp_path, [{"bbox": BOX}], images=images, write_images=False))
    assert kinds(dataset) == [("images-missing", "kept"), ("image-size-unknown", "dropped")]
    assert (len(dataset), dataset.num_objects) == (0, 0)


def test_many_missing_images_are_told_from_one_listing(tmp_path, monkeypatch):
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in range(200)]
    file = coco(tmp_path, [], images=images, write_images=False)
    for k in range(0, 200, 2):
        (tmp_path / f"{k}.png").touch()
    image(tmp_path / "0.jpg")
    asked = []
    splitext = os.path.splitext
    monkeypatch.setattr(os.path, "splitext", lambda name: asked.append(name) or splitext(name))
    load(file, images=tmp_path)
    assert len(asked) < 10 * 200


def test_the_first_of_two_categories_with_one_id_counts_and_is_written(tmp_path):
    twice = [{"id": 3, "name": "first"}, {"id": 3, "name": "second"}]
    dataset = load(coco(tmp_path, [{"bbox": BOX}], categories=twice))
    assert kinds(dataset) == [("duplicate-category", "dropped")]
    dataset.to_coco(tmp_path / "back.json")
    assert json.loads((tmp_path / "back.json").read_text())["categories"] == twice[:1]


@pytest.mark.parametrize(
    "fields", [{"num_keypoints": 0}, {"num_keypoints": 5, "keypoints": [1, 2, 2]}]
)
@pytest.mark.parametrize("more", [{}, {"note": "takes the other way of reading"}])
def test_a_number_of_keypoints_comes_back_as_it_was(fields, more, tmp_path):
    dataset = load(coco(tmp_path, [{"bbox": BOX, **fields, **more}]))
    dataset.to_coco(tmp_path / "back.json")
    written = json.loads((tmp_path / "back.json").read_text())["annotations"][0]
    assert written["num_keypoints"] == fields["num_keypoints"]


def test_a_byte_order_mark_is_no_problem(tmp_path):
    file = coco(tmp_path, [{"bbox": BOX}])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load(file).num_objects == 1


def test_missing_things_are_told(tmp_path):
    with pytest.raises(DataError, match="no such file or folder; check the path"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match="no known annotation format found; expected COCO JSON"):
        load(tmp_path)
    with pytest.raises(DataError, match="format 'x' is unknown; expected one of records, coco"):
        load(tmp_path, format="x")
    coco(tmp_path, []).rename(tmp_path / "a.json")
    coco(tmp_path, [])
    with pytest.raises(
        DataError, match=r"the folder holds 2 COCO files \(a.json, data.json\); name one"
    ):
        load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_of_any_size_read_the_same(tmp_path_factory, data):
    """The file is cut into blocks wherever; braces and commas in strings and nested lists mislead no cut."""
    tricky = st.sampled_from(["", "},{", '"}, {"id"', "]}", "\\", "é"])
    annotations = [
        {
            "bbox": [1, 2, 3 + k, 4],
            **({"note": data.draw(tricky)} if data.draw(st.booleans()) else {}),
            **({"parts": [{"a": 1}, {"b": 2}]} if data.draw(st.booleans()) else {}),
            "segmentation": data.draw(
                st.sampled_from([[], [[1, 2, 3, 4, 5, 6.5]], {"size": [40, 60], "counts": [2400]}])
            ),
        }
        for k in range(data.draw(st.integers(0, 12)))
    ]
    folder = tmp_path_factory.mktemp("blocks")
    file = coco(folder, annotations, info={"annotations": "no, not these"})
    indent = data.draw(st.sampled_from([None, 1]))
    content = json.loads(file.read_text())
    keys = data.draw(st.permutations(list(content)))
    file.write_text(json.dumps({key: content[key] for key in keys}, indent=indent))
    whole = load(file)
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(cocojson, "BLOCK", data.draw(st.integers(16, 400)))
        cut = load(file)
    assert len(cut.objects) == len(whole.objects) == len(annotations)
    np.testing.assert_array_equal(cut.objects.xywh, whole.objects.xywh)
    assert cut.objects.extra == whole.objects.extra
    assert cut[0].annotations == whole[0].annotations


REAL = [
    "coco_tiny50_ccby_train/annotations/instances_train2017.json",
    "coco_tiny50_ccby_train/annotations/person_keypoints_train2017.json",
    "coco_tiny80_ccby/annotations/instances_train2017.json",
    "coco_tiny80_ccby/annotations/instances_val2017.json",
    "deepforest_a/coco_sample_file.json",
    "fruits_labelme_a/coco/trainval.json",
    "mmpose_kp_a/ap10k/test_ap10k.json",
    "mmpose_kp_a/fly/test_fly.json",
    "mmpose_kp_a/locust/test_locust.json",
    "mmpose_kp_a/zebra/test_zebra.json",
    "sahi_terrain/combined_coco.json",
    "sahi_terrain/terrain_all_coco.json",
    "voc100_multi_a/coco/instances_default.json",
    "voc100_multi_a/coco/instances_v2.json",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_come_back_with_nothing_lost(name, shared_data, tmp_path):
    source = shared_data / name
    dataset = load(source)
    assert not [p for p in dataset.problems if p.action == "dropped"]
    dataset.to_coco(tmp_path / "back.json")
    before, after = (json.loads(path.read_text()) for path in (source, tmp_path / "back.json"))
    for key in before.keys() - {"images", "annotations", "categories"}:
        assert after[key] == before[key]
    clipped = {p.annotation_id for p in dataset.problems if p.action == "clipped"}
    for key in ("images", "annotations", "categories"):
        ours = {record["id"]: record for record in after[key]}
        assert len(after[key]) == len(before[key])
        for record in before[key]:
            known = {
                k: v for k, v in record.items() if not (k == "bbox" and record["id"] in clipped)
            }
            assert known == {k: ours[record["id"]].get(k) for k in known}, record["id"]
    again = load(tmp_path / "back.json", images=tmp_path)
    assert [e.annotations for e in again] == [e.annotations for e in dataset]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_compiled_parser_equals_the_json_decoder(data):
    """Or leaves the text to it: what it accepts, it reads to the last bit, and it accepts only JSON."""
    from ytrue.datasets import cocotext

    number = st.one_of(
        st.integers(-1000, 1000), st.floats(-1e6, 1e6), st.floats(-1000, 1000).map(lambda v: round(v, 2)),
        st.floats(allow_nan=False, allow_infinity=False),
    )  # fmt: skip
    part = st.lists(number, min_size=0, max_size=12)
    record = st.fixed_dictionaries(
        {
            "id": st.one_of(st.integers(0, 2**60), st.integers(0, 99), st.text(max_size=2)),
            "image_id": st.integers(0, 99), "category_id": st.integers(-5, 99),
            "bbox": st.lists(number, min_size=3, max_size=5),
        },
        optional={
            "area": st.one_of(number, st.none()), "iscrowd": st.integers(0, 1),
            "segmentation": st.one_of(
                st.lists(part, max_size=3), st.none(),
                st.fixed_dictionaries({"size": st.just([2, 3]), "counts": st.one_of(st.text(max_size=4), st.just([6]))}),
            ),
            "num_keypoints": st.integers(0, 9), "attributes": st.just({"a": [{}]}),
        },
    )  # fmt: skip
    plain = st.fixed_dictionaries(
        {
            "segmentation": st.lists(st.lists(st.integers(0, 9999).map(lambda v: v / 100), min_size=6, max_size=6), max_size=2),
            "id": st.integers(0, 99), "image_id": st.integers(0, 99), "category_id": st.integers(0, 9),
            "bbox": st.lists(st.floats(0, 999).map(lambda v: round(v, 2)), min_size=4, max_size=4),
        },
    )  # fmt: skip
    records = data.draw(st.lists(st.one_of(plain, plain, plain, record), min_size=1, max_size=4))
    text = json.dumps(records, indent=data.draw(st.sampled_from([None, 1])))
    mutation = data.draw(st.sampled_from(["none", "none", "cut", "swap", "zero"]))
    place = data.draw(st.integers(0, len(text) - 1))
    if mutation == "cut":
        text = text[:place] + text[place + 1 :]
    elif mutation == "swap":
        text = text[:place] + data.draw(st.sampled_from(',:[]{}".-0 ')) + text[place + 1 :]
    elif mutation == "zero":
        text = text.replace(" 1", " 01", 1)
    split = data.draw(st.booleans())
    with mock.patch.object(cocotext, "_WORTH_TWO", 0 if split else 2**30):
        parts = cocotext.parse(text.encode())
    if parts is None:
        if mutation == "none" and all(
            r.keys() == {"segmentation", "id", "image_id", "category_id", "bbox"} for r in records
        ):
            assert any(len(str(v)) > 14 for r in records for v in r["bbox"]) or any(
                not isinstance(r["segmentation"], list)
                or any(len(p) < 6 or len(p) % 2 for p in r["segmentation"])
                or any(len(str(v)) > 14 for p in r["segmentation"] for v in p)
                or not isinstance(r["id"], int)
                or len(r["bbox"]) != 4
                or r["id"] >= 2**53
                for r in records
            )
        return
    assert len(parts) == 1 or split
    parsed = cocotext.Parsed(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    for k in np.flatnonzero(parsed.masks[:, 1]):
        try:
            json.loads(text.encode()[slice(*parsed.masks[k])])
        except json.JSONDecodeError:
            return  # the caller decodes masks, and refuses the block with them
    expected = json.loads(text)
    assert len(parsed.ids) == len(expected)
    points = [
        v
        for r in expected
        if isinstance(r.get("segmentation"), list)
        for p in r["segmentation"]
        for v in p
    ]
    np.testing.assert_array_equal(parsed.points, np.array(points, np.float64))
    for k, r in enumerate(expected):
        assert parsed.ids[k].tolist() == [r["id"], r["image_id"], r["category_id"]]
        assert parsed.xywh[k].tolist() == r["bbox"]
        assert parsed.crowd[k] == (1 if r.get("iscrowd") else 0)
        assert parsed.area[k] == r["area"] if "area" in r else np.isnan(parsed.area[k])


@pytest.mark.parametrize("name", REAL[:5])
def test_large_files_read_as_small_ones(name, shared_data, monkeypatch):
    small = load(shared_data / name)
    monkeypatch.setattr(module, "LARGE", 0)
    large = load(shared_data / name)
    assert [example.annotations for example in large] == [example.annotations for example in small]
    assert large.objects.rles.keys() == small.objects.rles.keys()
    for column in ("xywh", "area", "points", "parts", "first_part", "image", "label"):
        np.testing.assert_array_equal(
            getattr(large.objects, column), getattr(small.objects, column)
        )


def test_results_files_are_told_apart(shared_data):
    for file in (shared_data / "cocoapi_results").glob("*.json"):
        with pytest.raises(DataError, match="a list of detection results, not a COCO dataset"):
            load(file)


def test_reading_holds_no_more_than_columns_and_a_block(tmp_path):
    """20,000 annotations are 6 MB of text; as Python objects they would be three times that."""
    ring = [float(v) for v in range(40)]
    file = coco(
        tmp_path, [{"bbox": [1, 2, 3, 4 + k / 1e6], "segmentation": [ring]} for k in range(20_000)]
    )
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(cocojson, "BLOCK", 2**18)
        tracemalloc.start()
        dataset = load(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    columns = sum(a.nbytes for a in vars(dataset.objects).values() if isinstance(a, np.ndarray))
    assert dataset.num_objects == 20_000
    assert peak < 3.0 * columns + 16 * 2**18


def test_subset_and_lookup(tmp_path):
    images = [{"id": k, "file_name": f"im{k}.jpg", "height": 40, "width": 60} for k in (5, 6, 7)]
    dataset = load(
        coco(tmp_path, [{"bbox": [1, 1, k, k], "image_id": k} for k in (7, 5, 6, 7)], images=images)
    )
    part = dataset.subset([2, 0])
    assert [(e.image_id, len(e.annotations)) for e in part] == [(7, 2), (5, 1)]
    assert (dataset.index_of(6), dataset.index_of("im7.jpg"), dataset.index_of("im7")) == (1, 2, 2)
    with pytest.raises(
        DataError,
        match="no image 'im9' among 3; name it by id, file name or position; close ones: im",
    ):
        dataset.index_of("im9")
    twice = dataset.subset([2, 1, 2])
    assert [(e.image_id, e.annotation_ids) for e in twice] == [
        (7, (100, 103)),
        (6, (102,)),
        (7, (100, 103)),
    ]
    with pytest.raises(IndexError):
        dataset[3]
    assert dataset[-1].image_id == 7


def test_an_id_is_never_taken_for_another_images_stem(tmp_path):
    images = [{"id": k, "file_name": f"{k + 1}.jpg", "height": 40, "width": 60} for k in range(3)]
    dataset = load(coco(tmp_path, [], images=images))
    assert [dataset.index_of(k) for k in range(4)] == [0, 1, 2, 2]  # 3 is no id, but a stem


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=6))
def test_a_subset_holds_what_its_positions_hold(tmp_path_factory, indices):
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in range(4)]
    shapes = [
        {"segmentation": [[1, 2, 3, 4, 5, 6.5], [k, 2, 9, 2, 9, 8]]} if k % 3 else
        {"segmentation": {"size": [40, 60], "counts": [k, 1, 2399 - k]}, "note": k}
        for k in range(1, 9)
    ]  # fmt: skip
    annotations = [{"bbox": [1, 2, 3, 4 + k], "image_id": k % 3, **s} for k, s in enumerate(shapes)]
    dataset = load(
        coco(tmp_path_factory.mktemp("subset"), annotations, images=images, write_images=False)
    )
    part = dataset.subset(indices)
    for example, index in zip(part, indices, strict=True):
        whole, none = dataset[index].annotations, ((),) * len(example.annotations)
        np.testing.assert_array_equal(example.annotations.boxes, whole.boxes)
        assert example.annotations.masks == whole.masks
        for ours, theirs in zip(example.annotations.polygons or none, whole.polygons, strict=True):
            assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]
    assert [e.annotation_ids for e in part] == [dataset[i].annotation_ids for i in indices]


def test_images_of_a_neighbouring_project_are_not_taken(tmp_path):
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in range(5)]
    file = coco(tmp_path / "ours", [], images=images, write_images=False)
    image(tmp_path / "theirs" / "1.jpg")
    assert kinds(load(file)) == [("images-missing", "kept")]
    for k in range(5):
        image(tmp_path / "pictures" / f"{k}.jpg")
    assert load(file)[1].path == tmp_path / "pictures" / "1.jpg"


FORKED = """
import os
import subprocess
import sys
from ytrue.datasets import cocotext
one = '{"id": %d, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}'
block = ("[" + ", ".join(one % k for k in range(5000)) + "]").encode()
assert len(cocotext.parse(block)) == 2
child = os.fork()
if child == 0:
    os._exit(0 if len(cocotext.parse(block)) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_parses_in_two_threads_of_its_own():
    """The child has none of its parent's threads: with the parent's pool it would wait for ever."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", FORKED]
    subprocess.run(command, check=True, timeout=600)
