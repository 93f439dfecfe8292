"""TFRecord files and tf.train.Example messages, without TensorFlow.

A record is: length (uint64), masked CRC-32C of it, data, masked CRC-32C of the data. A message is
a map from names to bytes, floats or integers.

Reference: TensorFlow tensorflow/core/lib/io/record_writer.cc and core/example/feature.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.plainfiles import open_plain
from ytrue.errors import DataError

Value = bytes | NDArray[Any]
_HEAD: Final = struct.Struct("<QI")
_TAIL: Final = struct.Struct("<I")
_AGAIN: Final = "delete this shard and encode again"
_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, bits reversed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record's data lies in its file, and its position among the records."""

    record: int
    offset: int
    length: int


def masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C that the format asks for."""
    crc = int(_crc_kernel()(np.frombuffer(data, np.uint8), _table()))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(
            np.uint32
        )
    return table


@cache
def _crc_kernel() -> Any:
    # numba loads only where records are read or written.
    from ytrue.datasets.checksum import crc32c

    return crc32c


def write_record(file: BinaryIO, data: bytes) -> None:
    """Append one record."""
    length = struct.pack("<Q", len(data))
    file.write(length + _TAIL.pack(masked_crc(length)) + data + _TAIL.pack(masked_crc(data)))


def places(path: Path) -> Iterator[Place]:
    """Give the place of every record of a file, reading only the lengths.

    Raises:
        DataError: a length that fails its checksum, or a file that ends inside a record.
    """
    with open_plain(path, do=_AGAIN) as file:
        size = os.fstat(file.fileno()).st_size
        record, offset = 0, 0
        while offset < size:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size or offset + _HEAD.size > size:
                raise _damaged(path, record, "the file ends inside it")
            length, crc = _HEAD.unpack(head)
            if masked_crc(head[:8]) != crc:
                raise _damaged(path, record, "its length fails the checksum")
            if offset + _HEAD.size + length + _TAIL.size > size:
                raise _damaged(path, record, "the file ends inside it")
            yield Place(record, offset + _HEAD.size, length)
            offset += _HEAD.size + length + _TAIL.size
            file.seek(offset)
            record += 1


def read_record(path: Path, place: Place) -> bytes:
    """Return the data of one record.

    Raises:
        DataError: it fails its checksum; the message names the file and the record.
    """
    with open_plain(path, do=_AGAIN) as file:
        file.seek(place.offset)
        data = file.read(place.length)
        tail = file.read(_TAIL.size)
    if len(data) < place.length or len(tail) < _TAIL.size:
        raise _damaged(path, place.record, "the file ends inside it")
    if masked_crc(data) != _TAIL.unpack(tail)[0]:
        raise _damaged(path, place.record, "its data fails the checksum")
    return data


def _damaged(path: Path, record: int, what: str) -> DataError:
    return DataError(f"record {record} is damaged: {what}", where=path, do=_AGAIN)


# tf.train.Example, just as much of it as is needed.


def example_message(features: Mapping[str, Value]) -> bytes:
    """Return a tf.train.Example: bytes as bytes_list, floats as float_list, integers as int64."""
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value)))
        for name, value in features.items()
    )
    return _field(1, entries)


def _feature(value: Value) -> bytes:
    if isinstance(value, bytes):
        return _field(1, _field(1, value))
    if value.dtype.kind == "f":
        return _field(2, _field(1, value.astype("<f4").tobytes()))
    numbers = b"".join(_varint(int(number) & 0xFFFFFFFFFFFFFFFF) for number in value.ravel())
    return _field(3, _field(1, numbers))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def example_features(message: bytes) -> dict[str, Value]:
    """Return the features of a tf.train.Example that `example_message` made.

    Raises:
        ValueError: something else.
    """
    features: dict[str, Value] = {}
    for _, entry in _fields(_only(_fields(message))):
        name, feature = (data for _, data in _fields(entry))
        (kind, payload), *_ = _fields(feature)
        inner = _fields(payload)
        data = inner[0][1] if inner else b""
        if kind == 1:
            features[name.decode()] = data
        elif kind == 2:
            features[name.decode()] = np.frombuffer(data, "<f4")
        else:
            features[name.decode()] = _integers(data)
    return features


def _only(fields: list[tuple[int, bytes]]) -> bytes:
    if len(fields) != 1:
        raise ValueError(f"{len(fields)} fields where one is due")
    return fields[0][1]


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    out, position = [], 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        length, position = _read_varint(data, position)
        if position + length > len(data):
            raise ValueError("a field that ends beyond the message")
        out.append((tag >> 3, data[position : position + length]))
        position += length
    return out


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift, byte in enumerate(data[position : position + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position + shift + 1
    raise ValueError("a number that does not end")


def _integers(data: bytes) -> NDArray[np.int64]:
    out, position = [], 0
    while position < len(data):
        number, position = _read_varint(data, position)
        out.append(number - (1 << 64) if number >> 63 else number)
    return np.array(out, np.int64)
