"""Laws of every encoder, loss and kernel that more than one test file asks for."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ytrue import Annotations, Encoder
from ytrue.encoders import from_config


def assert_survives_the_config(base, name, value):
    """A parameter changes the digest; config, JSON and pickle keep it."""
    other = replace(base, **{name: value})
    assert isinstance(other, Encoder)
    again = from_config(json.loads(json.dumps(other.config())))
    assert again == other != base
    assert again.digest == other.digest != base.digest
    assert pickle.loads(pickle.dumps(other)) == other
    assert again.spec == other.spec


def assert_config_is_the_encoder(encoder):
    """The config as JSON builds an equal encoder, whose spec is what it encodes."""
    assert isinstance(encoder, Encoder)
    again = from_config(json.loads(json.dumps(encoder.config())))
    assert again == encoder
    assert again.digest == encoder.digest
    target = encoder.encode(Annotations())
    assert {name: (a.shape, a.dtype) for name, a in target.items()} == encoder.spec


def assert_passes_with(variable, file, names, cache):
    """Tests of a file, chosen as by -k, pass in a process with a variable of numba's set."""
    command = [
        sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(file),
        "-k", names,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env=os.environ | {variable: "1", "NUMBA_CACHE_DIR": str(cache), "YTRUE_EXAMPLES": "15"},
        cwd=Path(file).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def slope(total, arrays, name, place, step=1e-5):
    """The derivative of total(arrays) by one number of one array, by central difference."""
    sides = []
    for move in (step, -step):
        moved = {key: array.astype(np.float64) for key, array in arrays.items()}
        moved[name][place] += move
        sides.append(total(moved))
    return (sides[0] - sides[1]) / (2 * step)
