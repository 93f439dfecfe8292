"""Records: whole or not there, the same whatever happened on the way, and damage is named."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ytrue import DataError
from ytrue.datasets import Report, load, pipeline, write_records, write_shapes
from ytrue.datasets.records import read_target
from ytrue.datasets.tfrecord import example_features, example_message, masked_crc
from ytrue.encoders import MaskEncoder, preset
from ytrue.resizing import place


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_shapes(
        tmp_path_factory.mktemp("shapes"), num_images=10, image_size=(96, 128), bad=True
    )


@pytest.fixture(scope="module")
def encoder():
    return preset("ytrue", (128, 128), 4)


@pytest.fixture
def records(source, encoder, tmp_path):
    write_records(load(source), tmp_path / "records", encoder=encoder, shard_examples=3)
    return tmp_path / "records"


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


def test_records_read_back_as_the_dataset(source, records, encoder):
    dataset, again = load(source), load(records)
    assert again.format == "records"
    assert (again.classes, again.class_ids, again.keypoint_flips) == (
        dataset.classes, dataset.class_ids, dataset.keypoint_flips,
    )  # fmt: skip
    present = [example for example in dataset if example.path.is_file()]
    assert json.loads((records / "manifest.json").read_text())["skipped"] == [9000, 9001]
    assert len(again) == len(present)
    for ours, theirs in zip(again, present, strict=True):
        assert ours.annotations == theirs.annotations
        assert ours.annotation_ids == theirs.annotation_ids
        assert again.store.image_bytes(ours.image_id) == theirs.path.read_bytes()
        placement = place((theirs.height, theirs.width), encoder.image_size, "letterbox")
        expected = encoder.encode(placement.apply(theirs.annotations))
        for name, array in read_target(again, ours.image_id, encoder).items():
            np.testing.assert_array_equal(array, expected[name])


def test_targets_with_an_axis_of_objects_read_back(source, encoder, tmp_path):
    masks = MaskEncoder(encoder, stride=8)
    write_records(load(source), tmp_path, encoder=masks)
    for example in load(tmp_path):
        placement = place((example.height, example.width), masks.image_size, "letterbox")
        expected = masks.encode(placement.apply(example.annotations))
        stored = read_target(load(tmp_path), example.image_id, masks)
        assert stored.keys() == expected.keys()
        for name, array in stored.items():
            assert array.dtype == expected[name].dtype
            np.testing.assert_array_equal(array, expected[name])


def test_the_pipeline_reads_records_as_it_reads_files(source, records, encoder):
    dataset = load(source)
    dataset = dataset.subset([i for i, e in enumerate(dataset) if e.path.is_file()])
    options = {"batch_size": 4, "augment": "light", "shuffle": True}
    pairs = zip(
        pipeline(dataset, encoder, **options),
        pipeline(load(records), encoder, **options),
        strict=True,
    )
    for (x, y), (u, v) in pairs:
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y["state"], v["state"])


def test_machines_divide_whole_shards(records, encoder):
    dataset = load(records)
    seen = []
    for k in range(2):
        data = pipeline(dataset, encoder, batch_size=1, shard=(k, 2))
        seen.append({x.numpy().tobytes() for x, _ in data})
    assert not seen[0] & seen[1]
    assert [len(s) for s in seen] == [4, 4]  # shards 0 and 2 against 1 and 3, equal steps


def test_tensorflow_reads_them_too(records):
    names = sorted(str(path) for path in records.glob("*.tfrecord"))
    dataset = load(records)
    for message, example in zip(tf.data.TFRecordDataset(names), dataset, strict=True):
        features = tf.train.Example.FromString(message.numpy()).features.feature
        boxes = np.array(features["objects/boxes"].float_list.value, np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(boxes, example.annotations.boxes)
        assert (
            list(features["objects/labels"].int64_list.value) == example.annotations.labels.tolist()
        )
        assert features["image/encoded"].bytes_list.value[0][:2] == b"\xff\xd8"


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=300),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.lists(st.floats(width=32, allow_nan=False), max_size=20),
)
def test_messages_come_back_here_and_in_tensorflow(data, integers, floats):
    message = example_message(
        {"b": data, "i": np.array(integers, np.int64), "f": np.array(floats, np.float32)}
    )
    ours = example_features(message)
    theirs = tf.train.Example.FromString(message).features.feature
    assert ours["b"] == data == theirs["b"].bytes_list.value[0]
    assert ours["i"].tolist() == integers == list(theirs["i"].int64_list.value)
    assert ours["f"].tolist() == floats == list(theirs["f"].float_list.value)


def test_checksums_are_the_formats_own():
    # RFC 3720, B.4: the CRC-32C of 32 zero bytes is 0x8a9136aa, of "123456789" 0xe3069283.
    for data, crc in ((bytes(32), 0x8A9136AA), (b"123456789", 0xE3069283)):
        assert masked_crc(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_writing_again_changes_nothing(source, records, encoder):
    before = contents(records)
    stamps = {path.name: path.stat().st_mtime_ns for path in records.glob("*.tfrecord")}
    write_records(load(source), records, encoder=encoder, shard_examples=3)
    assert contents(records) == before
    assert stamps == {path.name: path.stat().st_mtime_ns for path in records.glob("*.tfrecord")}


def test_damage_is_named_and_nothing_else_is_lost(records, encoder):
    shard = sorted(records.glob("*.tfrecord"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    dataset = load(records)
    bad = []
    for example in dataset:
        try:
            dataset.store.image_bytes(example.image_id)
        except DataError as error:
            bad.append(str(error))
    assert len(bad) == 1
    assert f"{shard}: record 1 is damaged: its data fails the checksum; delete this shard" in bad[0]
    report = Report()
    list(pipeline(dataset, encoder, batch_size=2, on_error="skip", report=report))
    assert list(report.skipped) == [str(dataset[4].image_id)]
    with pytest.raises(tf.errors.OpError, match=f"{shard.name}: record 1 is damaged"):
        list(pipeline(dataset, encoder, batch_size=2))


def test_a_damaged_shard_is_written_again(source, records, encoder):
    before = contents(records)
    shard = sorted(records.glob("*.tfrecord"))[2]
    shard.write_bytes(shard.read_bytes()[:-7])
    write_records(load(source), records, encoder=encoder, shard_examples=3)
    assert contents(records) == before


def test_records_of_something_else_are_not_mixed(source, records, encoder):
    with pytest.raises(
        DataError, match=r"records of something else \(shard_examples differ\); name an empty"
    ):
        write_records(load(source), records, encoder=encoder, shard_examples=4)
    with pytest.raises(DataError, match=r"\(encoder, digest, resize differ\)"):
        write_records(load(source), records, shard_examples=3)
    with pytest.raises(DataError, match="the records' targets are of encoder"):
        read_target(load(records), 1, preset("efficientdet", 128, 4))


def test_unfinished_folders_say_so(records, tmp_path):
    (records / "manifest.json").unlink()
    with pytest.raises(DataError, match="the records are unfinished; run ytrue encode to its end"):
        load(records, format="records")
    with pytest.raises(DataError, match="no records in it"):
        load(tmp_path, format="records")


WRITE = """
import sys, time
from ytrue.datasets import load, write_records
from ytrue.encoders import MaskEncoder, preset
write_records(load(sys.argv[1]), sys.argv[2], encoder=preset("ytrue", (128, 128), 4), shard_examples=1,
              progress=lambda done, total: (print(done, flush=True), time.sleep(0.02)))
"""


def _writer(source, folder):
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WRITE, str(source), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_anywhere_and_started_again_it_ends_the_same(source, encoder, tmp_path):
    write_records(load(source), tmp_path / "whole", encoder=encoder, shard_examples=1)
    folder = tmp_path / "killed"
    for lines in (1, 4, 7):
        process = _writer(source, folder)
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(0.003 * lines)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=600)
        process.stdout.close()
    assert not (folder / "manifest.json").exists()
    (folder / "shard-00009-of-00010.tfrecord.part").write_bytes(b"half a shard")
    write_records(load(source), folder, encoder=encoder, shard_examples=1)
    assert contents(folder) == contents(tmp_path / "whole")


def test_two_writers_do_not_meet(source, encoder, tmp_path):
    process = _writer(source, tmp_path / "r")
    process.stdout.readline()
    with pytest.raises(DataError, match="another process is writing records here"):
        write_records(load(source), tmp_path / "r", encoder=encoder, shard_examples=1)
    process.communicate(timeout=600)
    assert process.returncode == 0
    assert os.path.exists(tmp_path / "r" / "manifest.json")


def test_altered_annotations_are_noticed(records):
    file = records / "annotations.json"
    file.write_bytes(file.read_bytes().replace(b"shapes_00001", b"shapes_00002", 1))
    with pytest.raises(DataError, match=r"annotations.json is not the one that was written"):
        load(records)
