"""Damaged runs, weights, states and manifests: one DataError that names the file, and no other."""

import json
import random
import warnings
from contextlib import suppress

import keras
import numpy as np
import pytest

from ytrue.encoders import preset
from ytrue.errors import DataError
from ytrue.model import Detector
from ytrue.model.checkpoints import load_detector
from ytrue.model.exporting.manifest import MANIFEST, read_manifest
from ytrue.model.runstate import load_state, save_state
from ytrue.model.tasks import build_model

WANTED = ("epoch", "step")


@pytest.fixture(scope="module")
def detector():
    keras.utils.set_random_seed(0)
    encoder = preset("ytrue", (64, 96), 2)
    return Detector(build_model(encoder, "nano"), encoder, ("a", "b"), (1, 2))


@pytest.fixture(scope="module")
def files(detector, tmp_path_factory):
    """Name -> file and what reads it; each test leaves them as they were."""
    folder = tmp_path_factory.mktemp("run")
    detector.save(folder, "last")
    variables = {str(place): weight for place, weight in enumerate(detector.model.weights[:9])}
    save_state(folder / "state.npz", variables, {"epoch": 1, "step": 2})
    manifest = {
        "digest": detector.encoder.digest, "encoder": detector.encoder.config(), "files": {},
        "image_size": [64, 96], "classes": ["a", "b"], "class_ids": [1, 2], "resize": "stretch",
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest))

    def weights():
        return load_detector(detector.model, folder / "last.weights.h5")

    return {
        "run.json": (folder / "run.json", lambda: Detector.load(folder)),
        "last.weights.h5": (folder / "last.weights.h5", lambda: Detector.load(folder)),
        "state.npz": (folder / "state.npz", lambda: load_state(folder / "state.npz", variables, WANTED)),
        MANIFEST: (folder / MANIFEST, lambda: read_manifest(folder)),
        "official": (folder / "last.weights.h5", weights),
    }  # fmt: skip


NAMES = ("run.json", "last.weights.h5", "state.npz", MANIFEST, "official")


def refused(path, read):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy and h5py warn of some damage before they fail
        with pytest.raises(DataError, match=f"^{path.parent}") as caught:
            read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_a_cut_and_a_foreign_file_are_one_message(files, name):
    path, read = files[name]
    good = path.read_bytes()
    try:
        for content in (
            b"",
            good[: len(good) // 2],
            good[:9],
            b"\xff\xfe" * 9,
            b"[]",
            b"[" * 99999,
        ):
            path.write_bytes(content)
            refused(path, read)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_the_place_of_a_file_is_one_message(files, name):
    path, read = files[name]
    good = path.read_bytes()
    path.unlink()
    path.mkdir()
    try:
        refused(path, read)
    finally:
        path.rmdir()
        path.write_bytes(good)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("run.json", {"encoder": []}), ("run.json", {"encoder": {"encoder": "anchor"}}),
        ("run.json", {"digest": 5}), ("run.json", {"model": 3}), ("run.json", {"model": {}}),
        ("run.json", {"classes": 7}), ("run.json", {"class_ids": None}), ("run.json", {"resize": []}),
        ("run.json", {"network": "ResNet"}), ("run.json", {"network": []}), ("run.json", {"landmarks": 1}),
        (MANIFEST, {"encoder": []}), (MANIFEST, {"files": 3}), (MANIFEST, {"classes": None}),
        (MANIFEST, {"image_size": 64}), (MANIFEST, {"digest": "0"}),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_one_message(files, name, changes):
    path, read = files[name]
    good = path.read_text()
    path.write_text(json.dumps(json.loads(good) | changes))
    try:
        refused(path, read)
    finally:
        path.write_text(good)


def test_a_state_without_its_place_is_refused(detector, tmp_path):
    variables = {"0": detector.model.weights[0]}
    save_state(tmp_path / "state.npz", variables, {"epoch": 1})
    with pytest.raises(DataError, match="state.npz: the training state cannot be read.*step"):
        load_state(tmp_path / "state.npz", variables, WANTED)


def damaged(content, rng):
    content = bytearray(content)
    if rng.random() < 0.3:
        return bytes(content[: rng.randrange(len(content))])
    for _ in range(rng.choice((1, 5, 50))):
        reach = min(len(content), rng.choice((200, 4000, len(content))))
        content[rng.randrange(reach)] = rng.randrange(256)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last.weights.h5", "state.npz", MANIFEST, "official"])
def test_changed_bytes_are_read_or_refused(files, detector, name):
    path, read = files[name]
    if name == "last.weights.h5":  # without building the network each time
        from ytrue.model.predict import _load_weights

        def read():
            return _load_weights(detector.model, path)

    good, rng = path.read_bytes(), random.Random(18)
    before = [np.asarray(weight) for weight in detector.model.weights]
    try:
        for _ in range(300):
            path.write_bytes(damaged(good, rng))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with suppress(DataError):
                    read()
    finally:
        path.write_bytes(good)
        for weight, values in zip(detector.model.weights, before, strict=True):
            weight.assign(values)
