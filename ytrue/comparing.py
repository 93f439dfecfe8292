"""`compare`: what several encoders make of the same images, side by side, without training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ytrue.annotations import Annotations
from ytrue.auditing import SIZE_BINS, Audit, Examples, audit
from ytrue.contract import LOST, Assignment
from ytrue.cores import available_cores
from ytrue.errors import DataError
from ytrue.resizing import ResizeMode, place

if TYPE_CHECKING:
    from ytrue.contract import Encoder

SAMPLE_IMAGES: Final = 16
"""At most so many images, evenly spaced over the dataset, are the batch that is timed."""
ROUNDS: Final = 20
"""Timed rounds; each takes the encoders in turn, so that all meet the same load."""


class Balance(NamedTuple):
    """How unevenly something is spread over the classes that have an object."""

    largest: str
    smallest: str
    ratio: float
    """Of the largest class's count to the smallest's; inf where that is 0."""


@dataclass(frozen=True, eq=False)
class ComparedEncoder:
    """What one encoder makes of the dataset. Shares are of the objects that are no crowd.

    Attributes:
        name: as it was given.
        audit: of the whole dataset; all numbers but the next two come from it.
        encode_seconds: of `encode_batch` for an image of the sample, on all cores: the least of
            `ROUNDS` rounds after a first call that does not count.
        target_bytes: of all arrays of that batch, for an image. Axes as long as a batch's largest
            example, those of masks, are so here.
    """

    name: str
    audit: Audit = field(repr=False)
    encode_seconds: float
    target_bytes: float

    @property
    def positives_per_object(self) -> float:
        """How many positions an object owns in the mean, lost ones counted."""
        return _mean(self.audit.rows.positives.sum(), self.audit.matchable.sum())

    def positives_by_size(self) -> dict[str, float]:
        """Return name of the size bin (see `SIZE_BINS`) -> positives an object; nan without one."""
        bins = zip(SIZE_BINS, self.audit.by_size().values(), strict=True)
        return {name: _mean(row["positives"], row["objects"]) for (name, _, _), row in bins}

    @property
    def lost(self) -> int:
        """Number of objects that own no position."""
        return int(self.audit.lost.sum())

    def lost_reasons(self) -> dict[str, int]:
        """Return outcome -> number of objects lost to it, the most frequent first."""
        counts = [(name, n) for name, n in self.audit.outcomes().items() if name in LOST and n]
        return dict(sorted(counts, key=lambda entry: -entry[1]))

    def balance(self) -> Balance:
        """Return how unevenly the positive positions are spread over the classes."""
        return _balance(self.audit, "positives")

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values (nan and inf as None)."""
        return {
            "name": self.name,
            "encoder": dict(self.audit.encoder),
            "positions_per_image": self.audit.positions,
            "positives_per_object": _finite(self.positives_per_object),
            "positives_per_object_by_size": {
                name: _finite(mean) for name, mean in self.positives_by_size().items()
            },
            "lost": self.lost,
            "lost_share": self.audit.lost_share,
            "lost_reasons": self.lost_reasons(),
            "forced_share": self.audit.forced_share,
            "ignored_share": self.audit.ignored_share,
            "class_balance": _plain(self.balance()),
            "encode_seconds_per_image": self.encode_seconds,
            "target_bytes_per_image": self.target_bytes,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several encoders on the same images, fitted in the same way.

    Attributes:
        rows: one for each encoder, in the order given.
        sample_images: how many images the timed batch had.
        cores: how many cores it was encoded on.
    """

    rows: tuple[ComparedEncoder, ...]
    sample_images: int
    cores: int

    @property
    def first(self) -> Audit:
        """The audit of the first encoder, for what all of them have in common."""
        return self.rows[0].audit

    @property
    def num_images(self) -> int:
        """Number of images."""
        return self.first.num_images

    @property
    def num_objects(self) -> int:
        """Number of objects that are no crowd."""
        return int(self.first.matchable.sum())

    def objects_by_size(self) -> dict[str, int]:
        """Return name of the size bin (see `SIZE_BINS`) -> number of objects."""
        bins = zip(SIZE_BINS, self.first.by_size().values(), strict=True)
        return {name: int(row["objects"]) for (name, _, _), row in bins}

    def object_balance(self) -> Balance:
        """Return how unevenly the objects themselves are spread over the classes."""
        return _balance(self.first, "objects")

    def busiest(self, count: int) -> list[int]:
        """Return the positions of the images with most objects; of equal ones the first come first.

        Crowds do not count, and images without object are left out.
        """
        of_image = self.first.rows.image[self.first.matchable]
        objects = np.bincount(of_image, minlength=self.num_images)
        order = np.argsort(-objects, kind="stable")[:count]
        return [int(image) for image in order if objects[image]]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values (nan and inf as None)."""
        return {
            "source": self.first.source,
            "image_size": list(self.first.image_size),
            "resize": self.first.resize,
            "images": self.num_images,
            "objects": self.num_objects,
            "objects_by_size": self.objects_by_size(),
            "class_balance_of_objects": _plain(self.object_balance()),
            "sample_images": self.sample_images,
            "cores": self.cores,
            "encoders": [row.to_json() for row in self.rows],
        }

    def _repr_html_(self) -> str:
        from ytrue import notebook

        return notebook.html(self)


def compare(
    dataset: Examples,
    encoders: Mapping[str, Encoder],
    *,
    resize: ResizeMode = "letterbox",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Audit a dataset under several encoders, and time them on a sample of it; no pixels are read.

    Args:
        dataset: `len`, `[i]` -> Example, `classes`.
        encoders: name -> an encoder that gives positions to objects; all of one image size.
        resize: how images are fitted into the network input, as in the pipeline.
        progress: called with (images done, images in all) over all audits, now and then.

    Raises:
        ValueError: no encoder, one of points or of several parts, image sizes that differ, or an
            encoder that knows fewer classes than the dataset has.
        DataError: the dataset has no object but crowds.

    Example:
        n = dataset.num_classes
        encoders = {"ytrue": preset("ytrue", (512, 512), n), "fcos": FCOSEncoder((512, 512), n)}
        ytrue.compare(dataset, encoders).rows[1].lost_reasons()
    """
    _check_encoders(encoders)
    check_objects(dataset)
    audits = {}
    for k, (name, encoder) in enumerate(encoders.items()):
        report = audit(dataset, encoder, resize=resize, progress=_part(progress, k, len(encoders)))
        assert isinstance(report, Audit)  # it explains itself by an Assignment
        audits[name] = report
    batch = _sample(dataset, next(iter(encoders.values())).image_size, resize)
    seconds, sizes = _measure(list(encoders.values()), batch)
    rows = zip(audits.items(), seconds, sizes, strict=True)
    return Comparison(
        tuple(ComparedEncoder(*named, time_, size) for named, time_, size in rows),
        sample_images=len(batch),
        cores=available_cores(),
    )


def check_objects(dataset: Examples) -> None:
    """Raise DataError if the dataset has no object but crowds."""
    if all(dataset[i].annotations.crowd.all() for i in range(len(dataset))):
        raise DataError(
            "no object but crowds, so there is nothing to compare", where=repr(dataset),
            do="see what `ytrue inspect` says of it",
        )  # fmt: skip


def _check_encoders(encoders: Mapping[str, Encoder]) -> None:
    if not encoders:
        raise ValueError("encoders={}: expected one at least")
    for name, encoder in encoders.items():
        if not isinstance(encoder.explain(Annotations()), Assignment):
            raise ValueError(
                f"encoder {name}: it gives slots to points, or has several parts; only encoders "
                "that give positions to objects can be compared"
            )
    sizes = {name: encoder.image_size for name, encoder in encoders.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise ValueError(f"encoders of several image sizes ({said}): give all the same")


def _part(
    progress: Callable[[int, int], None] | None, part: int, parts: int
) -> Callable[[int, int], None] | None:
    """Return a callback for one audit of several, that tells of all of them."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)


def _sample(dataset: Examples, frame: tuple[int, int], resize: ResizeMode) -> list[Annotations]:
    count = min(SAMPLE_IMAGES, len(dataset))
    examples = [dataset[int(i)] for i in np.linspace(0, len(dataset) - 1, count)]
    return [
        place((example.height, example.width), frame, resize).apply(example.annotations)
        for example in examples
    ]


def _measure(
    encoders: Sequence[Encoder], batch: Sequence[Annotations]
) -> tuple[list[float], list[float]]:
    """Return of each encoder the seconds and the bytes of an image of the batch."""
    sizes = []
    for encoder in encoders:  # the first call compiles, and fills caches
        target = encoder.encode_batch(batch)
        sizes.append(sum(array.nbytes for array in target.values()) / len(batch))
    least = [math.inf] * len(encoders)
    for _ in range(ROUNDS):
        for k, encoder in enumerate(encoders):
            began = time.perf_counter()
            encoder.encode_batch(batch)
            least[k] = min(least[k], time.perf_counter() - began)
    return [seconds / len(batch) for seconds in least], sizes


def _balance(report: Audit, what: str) -> Balance:
    counts = {name: row[what] for name, row in report.by_class().items() if row["objects"]}
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / counts[smallest] if counts[smallest] else math.inf
    return Balance(largest, smallest, ratio)


def _plain(balance: Balance) -> dict[str, Any]:
    return balance._asdict() | {"ratio": _finite(balance.ratio)}


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
