"""The text of a COCO file: linear in its bytes whatever stands in it, and read wherever Python reads."""

import io
import json

import numpy as np
import pytest
from datafiles import coco
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue import DataError
from ytrue.datasets import cocojson, load
from ytrue.datasets.coco import holds_coco
from ytrue.datasets.cococolumns import Columns

BOX = [10, 5, 20, 10]
NESTED = {
    "at the end": {"tags": [{"id": 1, "name": "night"}]},
    "the same first key": {"tags": [{"id": 1}, {"id": 2}]},
    "deep": {"tags": [[[{"a": [{"b": [{}]}]}]]]},
    "annotations of annotations": {"annotations": [{"id": 3}, {"annotations": [{"id": 4}]}]},
    "in texts": {"note": '"}, {"id": 3}], "annotations": [', "other": "}]"},
    "plain": {},
}


@pytest.fixture
def work(monkeypatch):
    """Bytes that are handed to decoders, and records that the slow scanner makes."""
    counted = {"bytes": 0, "records": 0}
    take, record = Columns.take, Columns.take_record
    decode, scan = cocojson.msgspec.json.decode, cocojson._decoder.raw_decode

    def counting(key, size, function):
        def counted_call(*arguments, **options):
            counted[key] += size(arguments)
            return function(*arguments, **options)

        return counted_call

    monkeypatch.setattr(Columns, "take", counting("bytes", lambda a: len(a[1]), take))
    monkeypatch.setattr(Columns, "take_record", counting("records", lambda a: 1, record))
    monkeypatch.setattr(
        cocojson.msgspec.json, "decode", counting("bytes", lambda a: len(a[0]), decode)
    )
    monkeypatch.setattr(cocojson._decoder, "raw_decode", counting("records", lambda a: 1, scan))
    return counted


def ordered(content, first):
    return json.dumps({key: content[key] for key in sorted(content, key=lambda k: k != first)})


@pytest.mark.parametrize("first", ["annotations", "images", "categories"])
@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize("sort", [False, True])
def test_work_is_linear_for_any_order_and_nesting(nested, first, sort, tmp_path, work, monkeypatch):
    monkeypatch.setattr(cocojson, "BLOCK", 2**13)
    count = 600
    file = coco(
        tmp_path, [{"bbox": [1, 2, 3, 4 + k / 1e4], **NESTED[nested]} for k in range(count)]
    )
    content = json.loads(file.read_text())
    if sort:
        content["annotations"] = [dict(sorted(a.items())) for a in content["annotations"]]
    file.write_text(ordered(content, first))
    dataset = load(file, format="coco")
    assert (dataset.num_objects, dataset.problems) == (count, ())
    assert dataset.objects.xywh[:, 3].tolist() == [4 + k / 1e4 for k in range(count)]
    assert work["bytes"] < 6 * file.stat().st_size
    assert work["records"] < 3 * count


@pytest.mark.parametrize("nested", NESTED)
def test_a_bad_byte_costs_no_more_than_the_file(nested, tmp_path, work, monkeypatch):
    monkeypatch.setattr(cocojson, "BLOCK", 2**13)
    file = coco(tmp_path, [{"bbox": BOX, **NESTED[nested]} for _ in range(600)])
    data = file.read_bytes()
    middle = data.index(b"bbox", len(data) // 2)
    file.write_bytes(data[:middle] + b"\x01" + data[middle + 1 :])
    with pytest.raises(DataError, match=r"data.json: not valid JSON \(.*, line 1, column \d+\)"):
        load(file)
    assert work["bytes"] < 12 * len(data)
    assert work["records"] < 3 * 600


def test_lists_of_that_name_in_every_image_cost_no_more(tmp_path, work):
    images = [
        {"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60, "annotations": [{"id": k}]}
        for k in range(500)
    ]
    file = coco(tmp_path, [{"bbox": BOX, "image_id": 3}], images=images, write_images=False)
    assert load(file).num_objects == 1
    assert work["bytes"] < 6 * file.stat().st_size


def test_an_annotation_longer_than_a_block_is_met_a_few_times(tmp_path, work, monkeypatch):
    monkeypatch.setattr(cocojson, "BLOCK", 64)
    ring = [float(v) for v in range(3000)]
    file = coco(tmp_path, [{"bbox": BOX, "segmentation": [ring], "tags": [{"a": 1}]}] * 2)
    assert load(file).num_objects == 2
    assert work["bytes"] < 12 * file.stat().st_size


NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 5000,
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n[:12])
@pytest.mark.parametrize("place", ["info", "image", "category", "tag", "before"])
def test_numbers_that_json_does_not_have_cost_nothing_where_nobody_needs_them(
    number, place, tmp_path
):
    file = coco(
        tmp_path, [{"bbox": BOX, "x": "odd" if place == "tag" else 0}], info={"year": "odd"}
    )
    content = json.loads(file.read_text())
    if place != "info":
        content["info"] = {}
    if place == "image":
        content["images"][0]["gps"] = "odd"
    if place == "category":
        content["categories"][0]["weight"] = "odd"
    if place == "before":
        content = {"first": "odd"} | content
    file.write_text(json.dumps(content).replace('"odd"', number))
    dataset = load(file)
    assert (dataset.num_objects, dataset.problems) == (1, ())
    dataset.to_coco(tmp_path / "back.json")
    assert load(tmp_path / "back.json").num_objects == 1


FIELDS = [
    ('"bbox": [10, 5, ODD, 10]', "box-not-finite", 1),
    ('"bbox": [ODD, ODD, ODD, ODD]', "box-not-finite", 1),
    ('"bbox": [10, 5, 20, 10], "segmentation": [[1, 2, ODD, 4, 5, 6]]', "polygon-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "segmentation": [[1, 2, 3, ODD, 5, 6], [1, 2, 9, 2, 9, 9]]', "polygon-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "keypoints": [1, ODD, 2]', "keypoints-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "keypoints": [1, 2, ODD]', "keypoints-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "keypoints": [ODD, ODD, 0]', "", 2),
    ('"bbox": [10, 5, 20, 10], "segmentation": {"size": [40, 60], "counts": [ODD, 2400]}', "mask-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "segmentation": {"size": [40, ODD], "counts": [2400]}', "mask-invalid", 2),
    ('"bbox": [10, 5, 20, 10], "image_id": ODD', "annotation-invalid unknown-image", 1),
    ('"bbox": [10, 5, 20, 10], "category_id": ODD', "annotation-invalid unknown-category", 1),
    ('"bbox": [10, 5, 20, 10], "id": ODD', "annotation-unnumbered ", 2),
    ('"bbox": [10, 5, 20, 10], "iscrowd": ODD', "", 2),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n[:12])
@pytest.mark.parametrize(("fields", "expected", "left"), FIELDS)
def test_numbers_that_json_does_not_have_cost_their_object_at_most(
    number, fields, expected, left, tmp_path
):
    file = coco(tmp_path, [{"bbox": [1, 2, 3, 4]}])
    odd = '{"id": 7, "image_id": 1, "category_id": 3, ' + fields.replace("ODD", number) + "}, "
    text = file.read_text()
    start = text.index('"annotations": [') + len('"annotations": [')
    file.write_text(text[:start] + odd + text[start:])
    dataset = load(file)
    found = {problem.kind for problem in dataset.problems} - {"flips-unknown"}
    assert found <= set(expected.split(" ")), dataset.problems
    assert found or "" in expected.split(" ")
    assert dataset.num_objects == left
    for problem in dataset.problems:
        assert len(problem.detail) < 200
        assert problem.annotation_id in (7, None)
    assert [len(e.annotations) for e in dataset] == [left]
    with pytest.raises(DataError) if found else _nothing():
        load(file, strict=True)


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("area", "kinds"),
    [("NaN", []), ("null", []), ('"200.5"', []), ("1e999", ["area-invalid"]), ("9" * 400, ["area-invalid"]),
     ('"large"', ["area-invalid"]), ("[1]", ["area-invalid"]), ("true", ["area-invalid"])],
)  # fmt: skip
def test_an_area_that_is_none_is_that_of_the_box(area, kinds, tmp_path):
    file = coco(tmp_path, [{"bbox": BOX, "area": "odd"}])
    file.write_text(file.read_text().replace('"odd"', area))
    dataset = load(file)
    assert [problem.kind for problem in dataset.problems] == kinds
    dataset.to_coco(tmp_path / "back.json")
    written = json.loads((tmp_path / "back.json").read_text())["annotations"][0]["area"]
    assert written == (200.5 if area == '"200.5"' else 200)


def test_half_a_character_is_replaced_and_listed(tmp_path):
    file = coco(tmp_path, [{"bbox": BOX, "note": "x"}], categories=[{"id": 3, "name": "y"}])
    text = (
        file.read_text()
        .replace('"x"', r'"\ud800 \\ud800 \ud83d\ude00 \udc00"')
        .replace('"y"', r'"\uDFFF"')
    )
    file.write_text(text)
    dataset = load(file)
    assert [p.kind for p in dataset.problems] == ["text-invalid"]
    assert dataset.classes == ("\N{REPLACEMENT CHARACTER}",)
    assert dataset.objects.extra[0]["note"] == "\ufffd \\ud800 \U0001f600 \ufffd"
    dataset.to_coco(tmp_path / "back.json")


@pytest.mark.parametrize("first", ["annotations", "images", "categories", "info"])
def test_a_file_is_recognised_by_its_keys_wherever_they_are(first, tmp_path):
    long = "x" * 200_000 + '"}]{'
    content = {
        "info": {"shapes": long},
        "annotations": [{"id": 1, "note": long}],
        "categories": [],
        "images": [],
    }
    file = tmp_path / "x.json"
    file.write_text(ordered(content, first))
    assert holds_coco(file)
    del content["annotations"], content["categories"], content["images"]
    file.write_text(json.dumps(content | {"list": [content, {"annotations": []}]}))
    assert not holds_coco(file)
    file.write_text(json.dumps([{"annotations": []}]))
    assert not holds_coco(file)
    file.write_text(json.dumps({"note": long, "shapes": [], "annotations": []}))
    assert not holds_coco(file)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.one_of(st.none(), st.integers(), st.text(max_size=6)),
            lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
            max_leaves=6,
        ),
        max_size=5,
    ),
    st.integers(1, 7),
    st.booleans(),
)  # fmt: skip
def test_top_keys_are_those_of_the_object(content, size, indented):
    text = json.dumps(content, indent=1 if indented else None, ensure_ascii=False).encode(
        "utf-8", "replace"
    )
    keys = [
        json.loads(json.dumps(key, ensure_ascii=False).encode("utf-8", "replace"))
        for key in content
    ]
    blocks = [text[k : k + size] for k in range(0, len(text), size)]
    found = list(cocojson.top_keys(blocks))
    assert [json.loads(f'"{key}"') for key, _ in found] == keys
    assert all(text[:end].endswith(b'"') for _, end in found)


def test_an_open_string_of_many_quotes_is_passed_once():
    """Each of its quotes could begin a string: looked at one by one, 100,000 of them take minutes."""
    text = b'{"a": "' + b'\\"' * 100_000
    assert [key for key, _ in cocojson.top_keys([text])] == ["a"]
    assert [key for key, _ in cocojson.top_keys(cocojson.blocks_of(io.BytesIO(text)))] == ["a"]


def test_what_is_read_slowly_is_what_is_read_fast(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    annotations = [
        {
            "bbox": rng.uniform(0, 9, 4).tolist(),
            "segmentation": [rng.uniform(0, 9, 6).tolist()],
            "note": "é",
        }
        for _ in range(40)
    ]
    file = coco(tmp_path, annotations)
    fast = load(file)
    monkeypatch.setattr(cocojson, "_guess", lambda buffer, sink: (0, False))
    monkeypatch.setattr(cocojson, "BLOCK", 100)
    slow = load(file)
    np.testing.assert_array_equal(slow.objects.xywh, fast.objects.xywh)
    np.testing.assert_array_equal(slow.objects.points, fast.objects.points)
    assert (slow.objects.extra, slow.problems) == (fast.objects.extra, fast.problems)
