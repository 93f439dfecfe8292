"""The whole state of a training run in one file, replaced at once: what `resume` starts from."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError
from ytrue.files import replace_file

META = "meta"


def named(groups: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return name -> variable of all groups: "group/place".

    Not by path: Keras numbers the layers of a process's second model on.
    """
    return {
        f"{group}/{place:04d}": variable
        for group, variables in groups.items()
        for place, variable in enumerate(variables)
    }


def save_state(path: Path, variables: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write all variables and `meta` (JSON values); a reader sees the old file or the new one."""
    arrays: dict[str, NDArray[Any]] = {
        name: np.asarray(_storable(variable)) for name, variable in variables.items()
    }
    arrays[META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    replace_file(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def load_state(
    path: Path, variables: Mapping[str, Any], wanted: Collection[str] = ()
) -> dict[str, Any]:
    """Assign the file's values to the variables and return its meta.

    Args:
        path: of the file.
        variables: as `save_state` was given.
        wanted: what the meta must name.

    Raises:
        DataError: the file is broken, or its variables are others; nothing is assigned then.
    """
    try:
        # Opened here: NumPy leaves a broken file open.
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = {name: file[name] for name in file.files}
            meta: dict[str, Any] = json.loads(arrays.pop(META).tobytes())
            missing = [name for name in wanted if name not in meta]
            if missing:
                raise KeyError(", ".join(missing))
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        BadZipFile,
        EOFError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
        zlib.error,
        struct.error,
    ) as error:
        raise DataError(
            f"the training state cannot be read ({error})", where=path,
            do="delete it to start the run anew",
        ) from None  # fmt: skip
    ours, theirs = set(variables), set(arrays)
    wrong = sorted(ours ^ theirs) or [
        name for name in sorted(ours) if tuple(variables[name].shape) != arrays[name].shape
    ]
    if wrong:
        raise DataError(
            f"{len(wrong)} variables of the training state are not the model's, first {wrong[0]}",
            where=path,
            do="was it written by another version? delete it to start the run anew",
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return meta


def _storable(variable: Any) -> NDArray[Any]:
    values = variable.numpy()
    # NumPy's files do not know bfloat16; float32 holds it exactly.
    return values.astype(np.float32) if values.dtype.kind == "V" else values
