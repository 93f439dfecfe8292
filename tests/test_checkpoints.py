"""Others' files: every weight once, or an error that names both sides; and no code of theirs."""

import io
import json
import os
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from ytrue import DataError
from ytrue.model import EfficientDet, EfficientNet
from ytrue.model.checkpoints import _prefix, _tf2_tensors
from ytrue.model.names import automl_backbone, automl_detector
from ytrue.model.torchfile import read_tensors


@pytest.fixture(scope="module")
def model():
    return EfficientDet("lite0", num_classes=3)


def random_weights(named, seed=0):
    rng = np.random.default_rng(seed)
    return [(one, rng.normal(size=one.variable.shape).astype(np.float32)) for one in named]


def write_h5(path, arrays):
    groups = {}
    for name, array in arrays.items():
        groups.setdefault(name.split("/")[0], {})[f"{name}:0"] = array
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [group.encode() for group in groups]
        for group, weights in groups.items():
            file.create_group(group).attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                file[group][name] = array


def write_tf1(prefix, arrays):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=array) for name, array in arrays.items()
        ]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)


def assert_loaded(weights):
    for one, array in weights:
        np.testing.assert_array_equal(one.variable.numpy(), array, err_msg=one.keras)


def test_every_weight_has_one_official_name(model):
    named = automl_detector(model)
    assert len(named) == len(model.weights)
    assert {id(one.variable) for one in named} == {id(weight) for weight in model.weights}
    assert len({one.keras for one in named}) == len({one.tf2 for one in named}) == len(named)


@pytest.mark.parametrize("variant", ["d0", "lite0"])
def test_names_are_the_official_files(shared_golden, variant):
    folder = shared_golden / f"efficientdet-{variant}"
    golden = json.loads((folder / "variables.json").read_text())["keras_name_to_tf2_checkpoint_key"]
    ours = {
        one.keras: f"{one.tf2}/.ATTRIBUTES/VARIABLE_VALUE"
        for one in automl_detector(EfficientDet(variant, num_classes=90))
    }
    assert ours == golden


def test_the_names_of_training_checkpoints_are_understood(shared_golden):
    golden = json.loads(
        (shared_golden / "efficientdet-d0" / "tf2_train_checkpoint_keys.json").read_text()
    )
    named = {one.tf2: one.variable for one in automl_detector(EfficientDet("d0", num_classes=90))}
    for decay, averaged in (("0", 0), ("0.9998", 493)):
        keys = dict(golden[f"moving_average_decay={decay}"]["keys"])
        tensors = _tf2_tensors(keys)
        assert set(tensors) == set(named)
        assert sum("optimizer/average" in tensor for tensor in tensors.values()) == averaged
        assert all(tuple(keys[t]) == tuple(named[name].shape) for name, t in tensors.items())


def test_h5_and_tf1_files_are_read(tmp_path, model):
    weights = random_weights(automl_detector(model))
    arrays = {one.keras: array for one, array in weights}
    write_h5(tmp_path / "w.h5", arrays)
    model.load_official(tmp_path / "w.h5")
    assert_loaded(weights)

    weights = random_weights(automl_detector(model), seed=1)
    folder = tmp_path / "tf1"
    folder.mkdir()
    decoys = {one.keras: array * 0 for one, array in weights}
    averages = {f"{one.keras}/ExponentialMovingAverage": array for one, array in weights}
    state = {"global_step": np.int64(7), "box_net/box-0/bias/Momentum": np.zeros(64, np.float32)}
    write_tf1(folder / "model.ckpt-7", decoys | averages | state)
    for path in (folder, folder / "model.ckpt-7", folder / "model.ckpt-7.index"):
        model.load_official(path)
        assert_loaded(weights)
    with tarfile.open(tmp_path / "w.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="efficientdet-lite0")
    model.load_official(tmp_path / "w.tar.gz")
    assert_loaded(weights)


def test_missing_surplus_and_misshapen_weights_are_named(tmp_path, model):
    arrays = {one.keras: array for one, array in random_weights(automl_detector(model))}
    before = [weight.numpy() for weight in model.weights]
    del arrays["box_net/box-0/bias"]
    arrays["efficientnet-lite0/blocks_99/conv2d/kernel"] = np.zeros((1, 1, 2, 2), np.float32)
    arrays["resample_p6/bn/gamma"] = np.zeros(3, np.float32)
    write_h5(tmp_path / "w.h5", arrays)
    with pytest.raises(DataError) as caught:
        model.load_official(tmp_path / "w.h5")
    message = str(caught.value)
    assert str(tmp_path / "w.h5") in message
    for part in (
        "1 missing: box_net/box-0/bias (64,) for our ",
        "box_head/conv_0/bias",
        "1 of another shape: resample_p6/bn/gamma is (3,), our ",
        "pyramid/coarser/norm/gamma is (64,)",
        "1 surplus: efficientnet-lite0/blocks_99/conv2d/kernel (1, 1, 2, 2)",
    ):
        assert part in message
    for weight, array in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, array)  # nothing is loaded by half


def test_other_classes_only_when_asked(tmp_path, model):
    weights = random_weights(automl_detector(model))
    write_h5(tmp_path / "w.h5", {one.keras: array for one, array in weights})
    other = EfficientDet("lite0", num_classes=5)
    with pytest.raises(DataError, match="head='skip'") as caught:
        other.load_official(tmp_path / "w.h5")
    assert "class_net/class-predict/pointwise_kernel is (1, 1, 64, 27)" in str(caught.value)
    output = [weight.numpy() for weight in other.class_head.towers[0][-1].weights]
    other.load_official(tmp_path / "w.h5", head="skip")
    for weight, array in zip(other.class_head.towers[0][-1].weights, output, strict=True):
        np.testing.assert_array_equal(weight, array)
    stem = next(a for one, a in weights if one.keras.endswith("stem/conv2d/kernel"))
    np.testing.assert_array_equal(other.backbone.stem.kernels[0], stem)


def test_a_backbone_is_taken_from_a_detectors_file(tmp_path, model):
    weights = random_weights(automl_detector(model))
    write_h5(tmp_path / "w.h5", {one.keras: array for one, array in weights})
    backbone = EfficientNet("lite0", include_top=False)
    backbone.load_official(tmp_path / "w.h5")
    by_name = {one.keras: array for one, array in weights}
    for one in automl_backbone(backbone):
        np.testing.assert_array_equal(one.variable, by_name[one.keras])
    with pytest.raises(DataError, match=r"missing: efficientnet-lite0/head/conv2d/kernel"):
        EfficientNet("lite0").load_official(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "absent", "no weights there"),
        (lambda path: path, "the folder holds no checkpoint"),
        (lambda path: _file(path / "broken.h5", b"no"), "the weights cannot be read"),
        (lambda path: _file(path / "broken.tar.gz", b"no"), "the weights cannot be read"),
        (lambda path: _empty_h5(path / "other.h5"), "no layer_names"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, model, make, message):
    with pytest.raises(DataError, match=message):
        model.load_official(make(tmp_path))


def test_a_copied_folder_is_read_not_the_one_it_was_copied_from(tmp_path):
    """TensorFlow writes absolute paths into `checkpoint` where it was given one."""
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
        _file(tmp_path / name / "ckpt-1.index", b"")
        _file(tmp_path / name / "ckpt-2.index", b"")
        said = f'model_checkpoint_path: "{tmp_path}/there/ckpt-2"\n'
        _file(tmp_path / name / "checkpoint", said.encode())
    assert _prefix(tmp_path / "here", "") == tmp_path / "here" / "ckpt-2"


def test_a_broken_file_leaves_the_model_as_it_was(tmp_path, model):
    weights = random_weights(automl_detector(model), seed=2)
    write_h5(tmp_path / "w.h5", {one.keras: array for one, array in weights})
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        layer = file.attrs["layer_names"][-1]
        last = file[layer].attrs["weight_names"][-1]
        del file[layer][last]
        file[layer].create_group(last)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(DataError, match=r"w.h5: the weights cannot be read: .*get it again"):
        model.load_official(tmp_path / "w.h5")
    for weight, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, values)


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _empty_h5(path: Path) -> Path:
    h5py.File(path, "w").close()
    return path


def test_what_has_no_official_weights_says_so(tmp_path, model):
    individual = EfficientDet("lite0", num_classes=2, sharing="individual")
    with pytest.raises(ValueError, match="official weights are for sharing='shared'"):
        individual.load_official(tmp_path)
    with pytest.raises(ValueError, match="load first, then fold"):
        EfficientDet("lite0", num_classes=2, folded=True).load_official(tmp_path)
    with pytest.raises(ValueError, match="head='none': expected 'load' or 'skip'"):
        model.load_official(tmp_path, head="none")


class _Global:
    """Pickles as a name from a module, whatever that is."""

    def __init__(self, module, name, arguments=()):
        self.module, self.name, self.arguments = module, name, arguments


class _Storage(list):
    """Pickles as torch's storages do."""


class _Pickler(pickle._Pickler):
    """Writes names and storages as torch does, without torch."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
            if value.arguments:
                self.save(value.arguments)
                self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value):
        return ("storage", *value) if isinstance(value, _Storage) else None


def dumped(value):
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def torch_file(path, tensors, keys, storages):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors, keys)
    data = b"".join(dumped(part) for part in head)
    for array in storages:
        data += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(data)
    return path


def tensor(key, size, offset, shape, strides, kind="FloatStorage"):
    storage = _Storage([_Global("torch", kind), key, "cpu", size, None])
    return _Global(
        "torch._utils", "_rebuild_tensor_v2", (storage, offset, shape, strides, False, None)
    )


def test_tensors_are_read_without_torch(tmp_path):
    values = np.arange(12, dtype=np.float32)
    path = torch_file(
        tmp_path / "w.pth",
        OrderedDict(
            plain=tensor("0", 12, 0, (3, 4), (4, 1)),
            turned=tensor("0", 12, 1, (2, 3), (1, 4)),
            count=tensor("1", 1, 0, (), (), "LongStorage"),
        ),
        ["0", "1"],
        [values, np.array([7], np.int64)],
    )
    found = read_tensors(path)
    np.testing.assert_array_equal(found["plain"], values.reshape(3, 4))
    np.testing.assert_array_equal(found["turned"], values.reshape(3, 4).T[1:3])
    assert found["count"] == 7
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut short"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("numpy", "load"),
     ("torch", "load"), ("torch._utils", "_rebuild_parameter"), ("collections", "Counter")],
)  # fmt: skip
def test_a_hostile_file_runs_nothing(tmp_path, module, name):
    victim = tmp_path / "victim"
    call = _Global(module, name, (f"touch {victim}",))
    path = torch_file(tmp_path / "w.pth", OrderedDict(a=call), [], [])
    with pytest.raises(DataError, match=f"names {module}.{name}, which is no tensor"):
        read_tensors(path)
    assert not victim.exists()
    # The same bytes do run where nothing holds them back, so this test can fail.
    if (module, name) == ("os", "system"):
        pickle.loads(dumped(call))
        assert victim.exists()


def test_a_view_outside_its_storage_is_refused(tmp_path):
    for offset, shape, strides in (
        (0, (5,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 2), (4, 1)),
        (1, (2,), (-1,)),
        (0, (2**40,), (0,)),
    ):
        tensors = OrderedDict(a=tensor("0", 4, offset, shape, strides))
        path = torch_file(tmp_path / "w.pth", tensors, ["0"], [np.zeros(4, np.float32)])
        with pytest.raises(DataError, match="does not fit its storage"):
            read_tensors(path)


def test_zip_files_and_others_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="zip format"):
        read_tensors(_file(tmp_path / "w.pth", b"PK\x03\x04"))
    with pytest.raises(DataError, match="cannot read tensors"):
        read_tensors(_file(tmp_path / "w.pth", os.urandom(64)))
    with pytest.raises(DataError, match="does not begin as torch's do"):
        read_tensors(_file(tmp_path / "w.pth", pickle.dumps(1)))
    with pytest.raises(DataError, match="No such file"):
        read_tensors(tmp_path / "absent.pth")
