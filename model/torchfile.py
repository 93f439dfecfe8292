"""Tensors out of files that `torch.save` wrote before version 1.6, without torch and without risk.

A pickle can run any code it names. This one may name an ordered dict, a tensor and its storage,
and nothing else: what stands for them here builds NumPy arrays.

Reference: torch/serialization.py, _legacy_save.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.errors import DataError

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


class _Storage:
    """Memory that tensors are views of; its bytes come after the pickles."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype = dtype
        self.size = size
        self.data: NDArray[Any] | None = None


class _Tensor:
    """A view: place in a storage, shape, strides in elements."""

    def __init__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *_: Any,
    ) -> None:
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides

    def array(self) -> NDArray[Any]:
        """Return the values; a view that would leave its storage is refused."""
        data = self.storage.data
        assert data is not None
        spans = (step * (side - 1) for step, side in zip(self.strides, self.shape, strict=True))
        last = self.offset + sum(spans)
        outside = last >= data.size if 0 not in self.shape else False
        # No stride of 0 makes more of a storage than it holds.
        outside |= math.prod(self.shape) > data.size
        if outside or self.offset < 0 or min((0, *self.shape, *self.strides)) < 0:
            raise ValueError(f"a tensor of shape {self.shape} does not fit its storage")
        size = data.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [step * size for step in self.strides], writeable=False
        )
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Builds the types above; refuses every other name."""

    def __init__(self, file: IO[bytes], storages: dict[str, _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for the name, if it is one of a few."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage of a key, of which views may share one."""
        if not isinstance(pid, tuple) or len(pid) != 6 or pid[0] != "storage":
            raise pickle.UnpicklingError(f"unknown persistent object {pid!r}")
        _, dtype, key, _, size, view = pid
        if view is not None or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"storage {key!r} is of an unknown kind")
        return self.storages.setdefault(str(key), _Storage(dtype, int(size)))


def read_tensors(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict by name; no code of the file runs.

    Raises:
        DataError: the file is no such file, names anything but tensors, or is cut short.
    """
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            if file.read(2) == b"PK":
                raise DataError(
                    "the file is in torch's zip format, not in the one before 1.6",
                    where=where,
                    do="save it with torch.save(..., _use_new_zipfile_serialization=False)",
                )
            file.seek(0)
            return _read(file)
    except (pickle.UnpicklingError, ValueError, EOFError, TypeError, AttributeError, IndexError,
            KeyError, ImportError, OSError, OverflowError, MemoryError) as error:  # fmt: skip
        raise DataError(f"cannot read tensors from it: {error}", where=where) from error


def _read(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        return _Unpickler(file, storages).load()

    if load() != _MAGIC or load() != _PROTOCOL:
        raise ValueError("the file does not begin as torch's do")
    if not load().get("little_endian", True):
        raise ValueError("the file is big-endian")
    tensors, keys = load(), load()
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        raise ValueError("the file holds something else than tensors by name")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.size:
            raise ValueError(f"storage {key!r} has {count} values, announced were {storage.size}")
        data = file.read(count * storage.dtype.itemsize)
        if len(data) != count * storage.dtype.itemsize:
            raise ValueError("the file is cut short")
        storage.data = np.frombuffer(data, storage.dtype)
    return {str(name): tensor.array() for name, tensor in tensors.items()}
