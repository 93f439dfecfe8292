"""A dataset as sharded TFRecords: images, annotations and, when asked, compact targets.

A folder holds `plan.json` (what is being written), `annotations.json` (COCO), the shards, and
last of all `manifest.json`. Everything is written under a temporary name and renamed when whole,
so a killed run leaves either a whole shard or none, and the next run goes on after the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import Encoder, Target
from ytrue.datasets import coco
from ytrue.datasets.dataset import Dataset, Id
from ytrue.datasets.tfrecord import (
    Place,
    example_features,
    example_message,
    places,
    read_record,
    write_record,
)
from ytrue.errors import DataError
from ytrue.files import replace_file
from ytrue.resizing import ResizeMode, place

MANIFEST: Final = "manifest.json"
PLAN: Final = "plan.json"
ANNOTATIONS: Final = "annotations.json"
VERSION: Final = 1


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
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        present = [i for i in range(len(dataset)) if _has_pixels(dataset, i)]
        skipped = [dataset.images.ids[i] for i in sorted(set(range(len(dataset))) - set(present))]
        chosen = dataset.subset(present)
        if not present:
            raise DataError(
                "no image file exists", where=dataset.source, do="name the folder with --images"
            )
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
            "keypoint_flips": [list(pair) for pair in dataset.keypoint_flips],
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
    """Write what is about to be written, or check that an earlier run had the same in mind."""
    coco.write(dataset, root / ANNOTATIONS)
    sizes = [_size_of(dataset, i) for i in range(len(dataset))]
    plan = {
        "version": VERSION,
        "annotations": _sha256(root / ANNOTATIONS),
        "images": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
        "shard_examples": shard_examples,
        "encoder": None if encoder is None else encoder.config(),
        "digest": None if encoder is None else encoder.digest,
        "resize": None if encoder is None else resize,
    }
    file = root / PLAN
    if file.exists():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        differs = [
            key for key, value in plan.items() if earlier.get(key) != json.loads(json.dumps(value))
        ]
        if differs:
            raise DataError(
                f"the folder holds records of something else ({', '.join(differs)} differ)",
                where=root,
                do="name an empty folder, or delete this one",
            )
    replace_file(file, lambda out: out.write(json.dumps(plan, indent=1).encode()))
    return plan


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
    try:
        return example.path.read_bytes()
    except OSError as error:
        raise DataError(
            f"image {example.image_id} cannot be read ({error.strerror})",
            where=example.path, do="check the images folder",
        ) from None  # fmt: skip


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
        return dict(example_features(read_record(path, found[position])))

    def image_bytes(self, image_id: Id) -> bytes:
        """Return the bytes of one image file."""
        data: bytes = self.record(image_id)["image/encoded"]
        return data


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
    split: str | None = None,
    allow_outside: bool = False,
) -> Dataset:
    """Read a folder that `write_records` finished. The shards are opened only for pixels.

    Raises:
        DataError: not such a folder, an unfinished one, or a missing shard.
    """
    del split, allow_outside
    del images
    if not recognises(source):
        unfinished = source.is_dir() and (source / PLAN).is_file()
        what = "the records are unfinished" if unfinished else "no records in it"
        raise DataError(what, where=source, do="run ytrue encode to its end")
    manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    if manifest.get("version") != VERSION:
        raise DataError(
            f"records of version {manifest.get('version')}, this library reads {VERSION}",
            where=source, do="encode again",
        )  # fmt: skip
    missing = [
        shard["name"] for shard in manifest["shards"] if not (source / shard["name"]).is_file()
    ]
    if missing:
        raise DataError(f"shard {missing[0]} is missing", where=source, do="run ytrue encode again")
    if _sha256(source / ANNOTATIONS) != manifest["plan"]["annotations"]:
        raise DataError(
            f"{ANNOTATIONS} is not the one that was written", where=source, do="encode again"
        )
    dataset = coco.read(source / ANNOTATIONS, strict=strict, locate=False)
    store = RecordStore(
        source,
        tuple(shard["name"] for shard in manifest["shards"]),
        tuple(shard["examples"] for shard in manifest["shards"]),
        tuple(dataset.images.ids),
    )
    flips = tuple((int(a), int(b)) for a, b in manifest["keypoint_flips"])
    return replace(dataset, source=source, format="records", store=store, keypoint_flips=flips)


def read_target(dataset: Dataset, image_id: Id, encoder: Encoder) -> Target:
    """Return the target that was stored for an image, whole again.

    Raises:
        DataError: the records hold no targets, or those of another encoder.
    """
    if not isinstance(dataset.store, RecordStore):
        raise DataError("the dataset holds no records", where=dataset.source, do="encode it first")
    plan = json.loads((dataset.store.root / PLAN).read_text(encoding="utf-8"))
    if plan["digest"] != encoder.digest:
        raise DataError(
            f"the records' targets are of encoder {str(plan['digest'])[:12]}, not {encoder.digest[:12]}",
            where=dataset.source,
            do="encode again with --targets and this encoder",
        )
    features = dataset.store.record(image_id)
    target = encoder.encode(Annotations())
    for name, array in target.items():
        if None in encoder.spec[name][0]:
            target[name] = np.zeros(features[f"target/{name}/shape"], array.dtype)
        values = np.frombuffer(features[f"target/{name}/value"], array.dtype)
        target[name].reshape(-1)[features[f"target/{name}/index"]] = values
    return target


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
