"""Records that are damaged, contradict themselves or are of something else: one sentence each."""

import hashlib
import json
import os

import numpy as np
import pytest
from datafiles import coco

from ytrue import DataError
from ytrue.datasets import load, write_records, write_shapes
from ytrue.datasets.records import RecordStore, read_target
from ytrue.datasets.tfrecord import example_features, example_message, write_record
from ytrue.encoders import preset


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), num_images=3, image_size=(96, 128))


@pytest.fixture
def records(source, tmp_path):
    write_records(load(source), tmp_path / "records", shard_examples=2)
    return tmp_path / "records"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_refused_run_changes_nothing(source, records, tmp_path):
    before = contents(records)
    other = load(write_shapes(tmp_path / "b", num_images=4, image_size=(96, 128), seed=5))
    with pytest.raises(DataError, match="records of something else"):
        write_records(other, records, shard_examples=2)
    assert contents(records) == before
    assert len(load(records)) == 3


def test_a_refused_run_makes_no_folder(source, tmp_path):
    dataset = load(source)
    gone = dataset.subset([0])
    gone.images.paths[0] = str(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="no image file exists"):
        write_records(gone, tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("name", ["annotations.json", "manifest.json"])
def test_files_that_are_of_no_records_are_not_replaced(name, source, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds {name}, which is of no records; name an empty"):
        write_records(load(source), tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == [".lock", name]


def test_a_run_killed_between_plan_and_annotations_is_taken_up(source, records):
    before = contents(records)
    for name in ("annotations.json", "manifest.json"):
        (records / name).unlink()
    (records / "annotations.new.json").write_bytes(b"{")
    write_records(load(source), records, shard_examples=2)
    assert contents(records) == before


def changed(records, **fields):
    """The manifest's text with some fields changed, or left out where None is given."""
    manifest = json.loads((records / "manifest.json").read_text()) | fields
    return json.dumps({key: value for key, value in manifest.items() if value != "absent"})


SHARD = {"name": "shard-00000-of-00002.tfrecord", "examples": 2, "sha256": "x"}
MANIFESTS = [
    # fields, or the text itself
    "", "[]", "null", "{", "7", '"x"', "[" * 100_000, "{}", '{"version": 1}', "\ud800",
    {"version": 2}, {"version": "1"}, {"version": None}, {"shards": "absent"}, {"plan": "absent"},
    {"plan": []}, {"plan": {}}, {"plan": {"annotations": 7, "digest": None}}, {"shards": {}},
    {"shards": [7]}, {"shards": [{}]}, {"shards": [SHARD]}, {"shards": []},
    {"shards": [SHARD | {"examples": "3"}]}, {"shards": [SHARD | {"examples": -3}]},
    {"shards": [SHARD | {"examples": 3.5}]}, {"shards": [SHARD | {"examples": 2**70}]},
    {"shards": [SHARD | {"name": "../../x"}]}, {"shards": [SHARD | {"name": None}]},
    {"shards": [SHARD | {"name": "shard-9-of-9.tfrecord", "examples": 3}]},
    {"keypoint_flips": "absent"}, {"keypoint_flips": 7}, {"keypoint_flips": [[0]]},
    {"keypoint_flips": [[0, 1, 2]]}, {"keypoint_flips": [[0, 4]]}, {"keypoint_flips": [[-1, 1]]},
    {"keypoint_flips": [[0, 0]]}, {"splits": [["train"]]}, {"splits": [7, 7, 7]}, {"splits": None},
]  # fmt: skip


@pytest.mark.parametrize("given", MANIFESTS, ids=lambda given: str(given)[:40])
def test_a_damaged_manifest_is_named(given, records):
    text = given if isinstance(given, str) else changed(records, **given)
    (records / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(DataError) as caught:
        load(records)
    assert str(records) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["annotations.json", "plan.json", "manifest.json"])
def test_what_is_missing_or_no_file_is_named(name, records):
    (records / name).unlink()
    with pytest.raises(DataError):
        load(records, format="records")
    os.mkfifo(records / name)
    with pytest.raises(DataError):
        load(records, format="records")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"digest": 7}'])
def test_a_damaged_plan_is_named(text, source, records):
    before = contents(records)
    (records / "plan.json").write_text(text)
    with pytest.raises(DataError, match=r"plan\.json: |something else"):
        write_records(load(source), records, shard_examples=2)
    assert contents(records) == before | {"plan.json": text.encode()}
    with pytest.raises(DataError, match=r"plan\.json: "):
        read_target(load(records), 1, preset("ytrue", (128, 128), 4))


def forged(records, name):
    """Give the first image another name, as someone could who means harm."""
    file = records / "annotations.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    manifest = json.loads((records / "manifest.json").read_text())
    manifest["plan"]["annotations"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (records / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["../../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "..\\x.jpg", "a/../../x"]
)
def test_names_that_lead_out_are_listed_and_lead_nowhere(name, records):
    forged(records, name)
    dataset = load(records)
    assert [(p.kind, p.action) for p in dataset.problems] == [("path-escapes", "kept")]
    assert repr(name) in dataset.problems[0].detail
    assert all(example.path.is_relative_to(records) for example in dataset)
    assert dataset.store.image_bytes(dataset[0].image_id)[:2] == b"\xff\xd8"
    with pytest.raises(DataError, match="path-escapes"):
        load(records, strict=True)


MESSAGES = [
    b"", b"\x0a", b"\x80" * 30, b"\xff" * 9 + b"\x7f", b"\x0a\x7f", b"\x0a\x02\x0a\x00",
    example_message({})[:1], example_message({"image/encoded": np.array([1, 2])}),
    example_message({"image/id": b"1"}), b"\x0a\x06\x0a\x04\x0a\x02\xff\xff",
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_a_sound_record_of_something_else_is_named(message, records):
    shard = records / "shard-00001-of-00002.tfrecord"
    with shard.open("wb") as file:
        write_record(file, message)
    dataset = load(records)
    with pytest.raises(DataError, match=r"shard-00001-of-00002.tfrecord: record \d+ is none that"):
        dataset.store.image_bytes(dataset.images.ids[2])


def test_numbers_of_any_width_come_back():
    values = np.array([0, 127, 128, 2**63 - 1, -(2**63), -1])
    assert example_features(example_message({"i": values}))["i"].tolist() == values.tolist()


@pytest.mark.parametrize("change", ["index", "value", "shape", "absent"])
def test_a_target_that_fits_nothing_is_named(change, source, tmp_path, monkeypatch):
    encoder = preset("ytrue", (128, 128), 4)
    write_records(load(source), tmp_path, encoder=encoder)
    dataset = load(tmp_path)
    good = dataset.store.record(1)
    bad = {
        "index": {"target/state/index": np.array([10**9])},
        "value": {"target/box/value": b"123"},
        "shape": {"target/state/index": b"no numbers"},
        "absent": {},
    }[change]
    features = {k: v for k, v in good.items() if change != "absent" or "state" not in k} | bad
    monkeypatch.setattr(RecordStore, "record", lambda *_: features)
    with pytest.raises(DataError, match="record 1 is none that ytrue writes: its target"):
        read_target(dataset, 1, encoder)


def test_a_shard_that_goes_away_is_named(records):
    dataset = load(records)
    (records / "shard-00000-of-00002.tfrecord").unlink()
    with pytest.raises(DataError, match=r"shard-00000-of-00002.tfrecord"):
        dataset.store.image_bytes(dataset.images.ids[0])


def test_splits_and_unknown_flips_are_carried(tmp_path):
    from dataclasses import replace

    images = [{"id": k, "file_name": f"{k}.jpg", "height": 40, "width": 60} for k in (1, 2, 3)]
    keypoints = {"keypoints": [9, 9, 2, 12, 9, 2], "num_keypoints": 2}
    categories = [{"id": 3, "name": "dog", "keypoints": ["one", "other"]}]
    dataset = load(
        coco(
            tmp_path / "in", [{"bbox": [5, 5, 20, 20]} | keypoints], images=images,
            categories=categories,
        )
    )  # fmt: skip
    splits = [("train",), ("train", "val"), ("test",)]
    for flips in (None, (), ((0, 1),)):
        given = replace(
            dataset, keypoint_flips=flips, images=replace(dataset.images, splits=splits)
        )
        write_records(given, tmp_path / str(flips), shard_examples=2)
        again = load(tmp_path / str(flips))
        assert again.keypoint_flips == flips
        assert again.splits == ("train", "val", "test")
        assert [tuple(names) for names in again.images.splits] == splits
        assert load(tmp_path / str(flips), split="val").images.ids == [2]
