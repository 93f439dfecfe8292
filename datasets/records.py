"""A dataset as sharded TFRecords: images, annotations and, when asked, compact targets.

A folder holds `plan.json` (what is being written), `annotations.json` (COCO), the shards, and
last of all `manifest.json`. Everything is written under a temporary name and renamed when whole,
so a killed run leaves either a whole shard or none, and the next run goes on after the last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import Encoder, Target
from ytrue.datasets import coco
from ytrue.datasets.building import raise_first
from ytrue.datasets.dataset import Dataset, Id, Images
from ytrue.datasets.imagefiles import leaves_folder, take_apart
from ytrue.datasets.loading import with_flips
from ytrue.datasets.plainfiles import open_plain, read_plain
from ytrue.datasets.textfiles import read_bytes
from ytrue.datasets.tfrecord import (
    Place,
    example_features,
    example_message,
    places,
    read_record,
    write_record,
)
from ytrue.errors import DataError, Problem
from ytrue.files import replace_file
from ytrue.resizing import ResizeMode, place

MANIFEST: Final = "manifest.json"
PLAN: Final = "plan.json"
ANNOTATIONS: Final = "annotations.json"
VERSION: Final = 1
_SHARD: Final = re.compile(r"shard-\d+-of-\d+\.tfrecord")
Value = TypeVar("Value")


# Writing.


def write_records(
    dataset: Dataset,
    folder: str | Path,
    *,
    encoder: Encoder | None = None,
    resize: ResizeMode = "letterbox",
    shard_examples: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a dataset as sharded TFRecords and return the manifest.

    Each record is a tf.train.Example with `image/encoded` (the file's bytes), `image/id`,
    `image/height`, `image/width`, `objects/boxes` (y_min, x_min, y_max, x_max pixels),
    `objects/labels`, `objects/crowd`, and with an encoder `target/NAME/index` and
    `target/NAME/value`: where the target differs from that of an image without objects. An array
    that has an axis as long as the image has objects: where it is not 0, and `target/NAME/shape`.

    Args:
        dataset: what `load` returned. Images whose file is missing are left out and listed in the
            manifest.
        folder: made if missing; a run that was killed is taken up again.
        encoder: also store targets of this encoder.
        resize: how images are fitted for these targets.
        shard_examples: examples in a shard.
        progress: called with (examples done, examples in all).

    Raises:
        DataError: the folder holds records of another dataset, encoder or shard size, or another
            process is writing it; an image that cannot be read.
    """
    root = Path(folder)
    present = [i for i in range(len(dataset)) if _has_pixels(dataset, i)]
    skipped = [dataset.images.ids[i] for i in sorted(set(range(len(dataset))) - set(present))]
    chosen = dataset.subset(present)
    if not present:
        raise DataError(
            "no image file exists", where=dataset.source, do="name the folder with --images"
        )
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        plan = _plan(root, chosen, encoder, resize, shard_examples)
        blank = None if encoder is None else encoder.encode(Annotations())
        starts = range(0, len(chosen), shard_examples)
        shards = []
        for number, first in enumerate(starts):
            name = f"shard-{number:05d}-of-{len(starts):05d}.tfrecord"
            rows = range(first, min(first + shard_examples, len(chosen)))
            if not _is_whole(root / name, len(rows)):
                _write_shard(root / name, chosen, rows, encoder, resize, blank)
            shards.append({"name": name, "examples": len(rows), "sha256": _sha256(root / name)})
            if progress:
                progress(rows.stop, len(chosen))
        manifest = {
            "version": VERSION,
            "examples": len(chosen),
            "skipped": skipped,
            "classes": list(dataset.classes),
            "class_ids": list(dataset.class_ids),
            "keypoint_flips": dataset.keypoint_flips,
            "splits": list(chosen.images.splits),
            "plan": plan,
            "shards": shards,
        }
        content = json.dumps(manifest, indent=1).encode()
        replace_file(root / MANIFEST, lambda out: out.write(content))
    return manifest


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the folder: two writers would rename over each other."""
    import fcntl

    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                "another process is writing records here",
                where=root,
                do="wait for it, or name another folder",
            ) from None
        yield


def _has_pixels(dataset: Dataset, index: int) -> bool:
    return dataset.store is not None or Path(dataset.images.paths[index]).is_file()


def _plan(
    root: Path, dataset: Dataset, encoder: Encoder | None, resize: ResizeMode, shard_examples: int
) -> dict[str, Any]:
    """Write what is about to be written, unless an earlier run had something else in mind.

    Nothing that the folder holds is touched before that is known.
    """
    fresh = root / "annotations.new.json"
    coco.write(dataset, fresh)
    try:
        sizes = [_size_of(dataset, i) for i in range(len(dataset))]
        plan = {
            "version": VERSION,
            "annotations": _sha256(fresh),
            "images": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
            "shard_examples": shard_examples,
            "encoder": None if encoder is None else encoder.config(),
            "digest": None if encoder is None else encoder.digest,
            "resize": None if encoder is None else resize,
        }
        _check_folder(root, plan)
        replace_file(root / PLAN, lambda out: out.write(json.dumps(plan, indent=1).encode()))
        fresh.replace(root / ANNOTATIONS)
    finally:
        fresh.unlink(missing_ok=True)
    return plan


def _check_folder(root: Path, plan: Mapping[str, Any]) -> None:
    """Check that what the folder holds is nothing, or what an unfinished run with this plan left."""
    if not (root / PLAN).exists():
        foreign = [name for name in (ANNOTATIONS, MANIFEST) if (root / name).exists()]
        if foreign:
            raise DataError(
                f"the folder holds {foreign[0]}, which is of no records", where=root,
                do="name an empty folder",
            )  # fmt: skip
        return
    earlier = _decode(root / PLAN, dict[str, Any])
    same = json.loads(json.dumps(plan))
    differs = [key for key, value in same.items() if earlier.get(key) != value]
    if differs:
        raise DataError(
            f"the folder holds records of something else ({', '.join(differs)} differ)",
            where=root, do="name an empty folder, or delete this one",
        )  # fmt: skip


def _decode(path: Path, type: type[Value]) -> Value:
    """Return what a JSON file of the records holds.

    Raises:
        DataError: it is damaged, or holds something else.
    """
    try:
        return msgspec.json.decode(read_bytes(path), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"damaged ({str(error) or 'nested too deeply'})",
            where=path,
            do="encode into a new folder",
        ) from None


def _size_of(dataset: Dataset, index: int) -> int:
    if dataset.store is not None:
        return len(dataset.store.image_bytes(dataset.images.ids[index]))
    return Path(dataset.images.paths[index]).stat().st_size


def _is_whole(path: Path, count: int) -> bool:
    """Return whether an earlier run left this shard whole: every record there and sound."""
    if not path.exists():
        return False
    try:
        found = list(places(path))
        for spot in found:
            read_record(path, spot)
    except DataError:
        return False
    return len(found) == count


def _write_shard(
    path: Path, dataset: Dataset, rows: range, encoder: Encoder | None, resize: ResizeMode, blank: Target | None,
) -> None:  # fmt: skip
    def write(file: BinaryIO) -> None:
        for row in rows:
            features = _features(dataset, row)
            if encoder is not None and blank is not None:
                features |= _target_features(dataset[row], encoder, resize, blank)
            write_record(file, example_message(features))

    replace_file(path, write)


def _features(dataset: Dataset, row: int) -> dict[str, Any]:
    example = dataset[row]
    objects = example.annotations
    return {
        "image/encoded": _image_bytes(dataset, example),
        "image/id": str(example.image_id).encode(),
        "image/height": np.array([example.height]),
        "image/width": np.array([example.width]),
        "objects/boxes": objects.boxes.ravel(),
        "objects/labels": objects.labels,
        "objects/crowd": objects.crowd.astype(np.int64),
    }


def _image_bytes(dataset: Dataset, example: Example) -> bytes:
    if dataset.store is not None:
        return dataset.store.image_bytes(example.image_id)
    return read_plain(example.path, do="check the images folder")


def _target_features(
    example: Example, encoder: Encoder, resize: ResizeMode, blank: Target
) -> dict[str, Any]:
    placement = place((example.height, example.width), encoder.image_size, resize)
    target = encoder.encode(placement.apply(example.annotations))
    features: dict[str, Any] = {}
    for name, array in target.items():
        usual = blank[name]
        if None in encoder.spec[name][0]:
            usual = np.zeros(array.shape, array.dtype)
            features[f"target/{name}/shape"] = np.array(array.shape)
        index = np.flatnonzero(array.ravel() != usual.ravel())
        features[f"target/{name}/index"] = index
        features[f"target/{name}/value"] = array.ravel()[index].tobytes()
    return features


# Reading.


@dataclass(frozen=True, eq=False)
class RecordStore:
    """The images of a records folder, read from their shards one by one.

    Attributes:
        root: the folder.
        shards: file names.
        counts: examples of each shard.
        ids: image ids in the records' order.
    """

    root: Path
    shards: tuple[str, ...]
    counts: tuple[int, ...]
    ids: tuple[Id, ...]

    @cached_property
    def shard_of(self) -> NDArray[np.int64]:
        """(I,) the shard of each example."""
        return np.repeat(np.arange(len(self.shards)), self.counts)

    @cached_property
    def _row_of(self) -> dict[Id, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    @cached_property
    def _places(self) -> dict[int, Sequence[Place] | DataError]:
        return {}

    def record(self, image_id: Id) -> dict[str, Any]:
        """Return the features of one image's record.

        Raises:
            DataError: the record is damaged; the message names shard and record.
        """
        row = self._row_of[image_id]
        shard = int(self.shard_of[row])
        position = row - int(np.searchsorted(self.shard_of, shard))
        path = self.root / self.shards[shard]
        if shard not in self._places:
            self._places[shard] = list(_sound_places(path))
        found = self._places[shard]
        if isinstance(found, DataError) or position >= len(found):
            raise DataError(
                f"record {position} cannot be reached: a record before it has a damaged length",
                where=path, do="delete this shard and encode again",
            )  # fmt: skip
        try:
            return example_features(read_record(path, found[position]))
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise _odd(path, position, str(error)) from None

    def image_bytes(self, image_id: Id) -> bytes:
        """Return the bytes of one image file."""
        data = self.record(image_id).get("image/encoded")
        if not isinstance(data, bytes):
            shard = int(self.shard_of[self._row_of[image_id]])
            raise _odd(self.root / self.shards[shard], image_id, "it holds no image/encoded")
        return data


def _odd(path: Path, record: Id, what: str) -> DataError:
    return DataError(
        f"record {record} is none that ytrue writes: {what}", where=path,
        do="delete this shard and encode again",
    )  # fmt: skip


def _sound_places(path: Path) -> Iterator[Place]:
    try:
        yield from places(path)
    except DataError:
        return  # what lies behind the damage is reported record by record when it is asked for


def recognises(source: Path) -> bool:
    """Return whether a folder holds finished records."""
    return source.is_dir() and (source / MANIFEST).is_file() and (source / PLAN).is_file()


def read(
    source: Path,
    *,
    images: Path | None = None,
    strict: bool = False,
    allow_outside: bool = False,
) -> Dataset:
    """Read a folder that `write_records` finished. The shards are opened only for pixels.

    Raises:
        DataError: not such a folder, an unfinished one, or a missing shard.
    """
    del allow_outside
    del images
    if not recognises(source):
        unfinished = source.is_dir() and (source / PLAN).is_file()
        what = "the records are unfinished" if unfinished else "no records in it"
        raise DataError(what, where=source, do="run ytrue encode to its end")
    version = _decode(source / MANIFEST, dict[str, Any]).get("version")
    if version != VERSION:
        raise DataError(
            f"records of version {version!r:.20}, this library reads {VERSION}",
            where=source / MANIFEST, do="encode again",
        )  # fmt: skip
    manifest = _decode(source / MANIFEST, _Manifest)
    for shard in manifest.shards:
        if not _SHARD.fullmatch(shard.name):
            raise DataError(
                f"{shard.name!r} is no shard's name", where=source / MANIFEST, do="encode again"
            )
        if not (source / shard.name).is_file():
            raise DataError(
                f"shard {shard.name} is missing", where=source, do="run ytrue encode again"
            )
    if not (source / ANNOTATIONS).is_file():
        raise DataError(f"{ANNOTATIONS} is missing", where=source, do="encode again")
    if _sha256(source / ANNOTATIONS) != manifest.plan.annotations:
        raise DataError(
            f"{ANNOTATIONS} is not the one that was written", where=source, do="encode again"
        )
    dataset = coco.read(source / ANNOTATIONS, strict=strict, locate=False)
    return _checked(dataset, manifest, source, strict)


class _Shard(msgspec.Struct):
    name: str
    examples: Annotated[int, msgspec.Meta(ge=1, le=2**40)]


class _Plan(msgspec.Struct):
    annotations: str
    digest: str | None


class _Manifest(msgspec.Struct):
    shards: list[_Shard]
    plan: _Plan
    keypoint_flips: list[tuple[int, int]] | None
    splits: list[tuple[str, ...]] = []


def _checked(dataset: Dataset, manifest: _Manifest, source: Path, strict: bool) -> Dataset:
    """Return what the annotations and the manifest say together.

    Raises:
        DataError: they contradict each other.
    """
    counts = [shard.examples for shard in manifest.shards]
    if sum(counts) != len(dataset) or len(manifest.splits) not in (0, len(dataset)):
        raise DataError(
            f"{sum(counts)} examples and {len(manifest.splits)} splits of {len(dataset)} images",
            where=source / MANIFEST, do="encode again",
        )  # fmt: skip
    names = tuple(shard.name for shard in manifest.shards)
    ids = tuple(dataset.images.ids)
    images = replace(
        dataset.images,
        paths=[str(source / "/".join(take_apart(name)[0])) for name in dataset.images.file_names],
        splits=manifest.splits,
    )
    problems = (*dataset.problems, *_escapes(images, source))
    raise_first(problems, strict)
    dataset = replace(
        dataset, source=source, format="records", images=images, problems=problems,
        store=RecordStore(source, names, tuple(counts), ids),
    )  # fmt: skip
    if manifest.keypoint_flips is None:
        return replace(dataset, keypoint_flips=None)
    try:
        return with_flips(dataset, manifest.keypoint_flips)
    except ValueError as error:
        raise DataError(str(error), where=source / MANIFEST, do="encode again") from None


def _escapes(images: Images, source: Path) -> list[Problem]:
    """Say once that names lead out of any folder; the images themselves lie in the records."""
    names = [name for name in images.file_names if leaves_folder(name)]
    if not names:
        return []
    detail = f"{len(names)} file names lead out of the images folder, the first is {names[0]!r}"
    return [Problem("path-escapes", detail, "kept", str(source / ANNOTATIONS))]


def read_target(dataset: Dataset, image_id: Id, encoder: Encoder) -> Target:
    """Return the target that was stored for an image, whole again.

    Raises:
        DataError: the records hold no targets, or those of another encoder.
    """
    if not isinstance(dataset.store, RecordStore):
        raise DataError("the dataset holds no records", where=dataset.source, do="encode it first")
    plan = _decode(dataset.store.root / PLAN, _Plan)
    if plan.digest != encoder.digest:
        raise DataError(
            f"the records' targets are of encoder {str(plan.digest)[:12]}, not {encoder.digest[:12]}",
            where=dataset.source,
            do="encode again with --targets and this encoder",
        )
    features = dataset.store.record(image_id)
    try:
        return _target(features, encoder)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise _odd(dataset.store.root, image_id, f"its target cannot be read ({error})") from None


def _target(features: Mapping[str, Any], encoder: Encoder) -> Target:
    target = encoder.encode(Annotations())
    for name, array in target.items():
        if None in encoder.spec[name][0]:
            target[name] = np.zeros(features[f"target/{name}/shape"], array.dtype)
        values = np.frombuffer(features[f"target/{name}/value"], array.dtype)
        target[name].reshape(-1)[features[f"target/{name}/index"]] = values
    return target


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
