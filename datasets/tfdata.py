"""`pipeline`: a dataset and an encoder to a `tf.data.Dataset` of (images, targets).

TensorFlow crosses into Python once a batch; there, threads decode and augment (OpenCV releases
the GIL) and one call encodes the batch. A batch is a function of its number and the seed alone,
so the stream does not depend on the number of workers and can be entered anywhere. Which number is
next is the one thing that is counted: each iteration claims the epochs after those of the last.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import Encoder, gives_slots_to_points
from ytrue.cores import shared_pool
from ytrue.datasets.augment import Augment, Called, Job, Plain, as_augment
from ytrue.datasets.dataset import ImageStore
from ytrue.datasets.pixels import PAD, Pixels, image_reader
from ytrue.errors import DataError, check_choice
from ytrue.normalising import NORMALISATIONS, mean_colour
from ytrue.resizing import RESIZE_MODES, ResizeMode

if TYPE_CHECKING:
    import tensorflow as tf

log = logging.getLogger("ytrue")

ENDLESS: Final = 2**20
"""Epochs that an endless iteration is counted as."""


class Source(Protocol):
    """What the pipeline asks of a dataset."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def keypoint_flips(self) -> tuple[tuple[int, int], ...] | None:
        """Pairs of keypoints that a flip exchanges; None: nobody knows, so nothing is mirrored."""
        ...

    @property
    def store(self) -> ImageStore | None:
        """Where images are read from that are no files."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass
class Report:
    """What happened while batches were made; hand one in to read it at any time.

    Attributes:
        examples: how many examples were made.
        counts: what was dropped or clipped by augmentation, by name.
        skipped: image -> why it was skipped (each once).
        error: what stopped the batches, None if nothing did.
    """

    examples: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    error: DataError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, counts: Counter[str]) -> None:
        """Count one example."""
        with self._lock:
            self.examples += 1
            self.counts.update(counts)

    def skip(self, image: str, why: str) -> None:
        """List a skipped image; say so once."""
        with self._lock:
            if image in self.skipped:
                return
            self.skipped[image] = why
        log.warning("skipped %s", why)


def pipeline(
    dataset: Source,
    encoder: Encoder,
    *,
    batch_size: int,
    augment: Any = None,
    shuffle: bool = False,
    seed: int = 0,
    epochs: int | None = 1,
    resize: ResizeMode = "letterbox",
    images: Literal["uint8", "imagenet", "lite"] = "uint8",
    on_error: Literal["raise", "skip"] = "raise",
    start: tuple[int, int] = (0, 0),
    shard: tuple[int, int] = (0, 1),
    drop_remainder: bool | None = None,
    workers: int | None = None,
    prefetch: int = 2,
    report: Report | None = None,
) -> tf.data.Dataset:
    """Return batches of (images, targets), made while the network trains.

    Args:
        dataset: what `ytrue.datasets.load` returned.
        encoder: any encoder; its `image_size` is the images' size, its `spec` the targets'.
        batch_size: examples in a batch.
        augment: None, "flip", "mild", "light", "strong", an `albumentations.Compose`, or a function of
            (example, pixels, numpy generator) that returns (pixels, annotations).
        shuffle: another order in every epoch, from the seed.
        seed: equal seeds, equal batches, for any number of workers.
        epochs: where an iteration ends, counted from 0; None goes on for ever. Iterating again, as
            `model.fit` does for every epoch of its own, goes on with as many epochs more: their
            order and their augmentation.
        resize: "letterbox" keeps the aspect ratio and pads to the right and below, "stretch" fills.
        images: "uint8", or float32 normalised as "imagenet" or "lite" (`NORMALISATIONS`).
        on_error: what a broken image does: "raise", or "skip": it is reported once, and the next
            example of the epoch takes its place, so that batches stay whole.
        start: (epoch, step) that the first iteration begins at, as if the earlier ones had been
            drawn.
        shard: (index, count): this machine's share: whole shards where the dataset is records, else
            every count-th example. All take as many steps as the smallest share allows; what a
            larger share has beyond that is left out of the epoch, by the seed where shuffled.
        drop_remainder: leave out an epoch's last batch when it is smaller; default: when shuffling.
        workers: threads that decode and augment; default: the cores.
        prefetch: batches made ahead.
        report: collects what was dropped and skipped.

    Returns:
        A `tf.data.Dataset` of ((B, H, W, 3) images, {name: (B, ...)} targets) with static shapes.

    Raises:
        ValueError: an argument out of range, or an encoder for fewer classes than the dataset has.
        tf.errors.InvalidArgumentError: (while iterating) an image that cannot be read, with
            `on_error="raise"`; `report.error` is the `DataError` itself.
    """
    import tensorflow as tf

    _check(dataset, encoder, batch_size, resize, images, on_error, shard)
    _check_counts(start, epochs, workers, prefetch)
    changed, report = as_augment(augment), report or Report()
    if dataset.keypoint_flips is None and not isinstance(changed, (Plain, Called)):
        log.warning(
            "nobody knows which landmarks are left and right, so images are not mirrored: give "
            "load(keypoint_flips=...), the pairs, or () where none has sides"
        )
    maker = BatchMaker(
        dataset, encoder, batch_size, changed, shuffle, seed, resize, on_error, shard,
        shuffle if drop_remainder is None else drop_remainder, PAD if images == "uint8" else mean_colour(images),
        workers, report,
    )  # fmt: skip
    height, width = encoder.image_size
    if start[1] >= maker.steps:
        raise ValueError(f"start={start}: an epoch has {maker.steps} steps, from 0")
    rows = batch_size if maker.drop_remainder else None
    names, specs = list(encoder.spec), list(encoder.spec.values())
    dtypes = [tf.string, tf.uint8, *(tf.as_dtype(dtype) for _, dtype in specs)]
    shapes = [(rows, height, width, 3), *((rows, *shape) for shape, _ in specs)]

    def make(step: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        error, *arrays = tf.numpy_function(maker.outcome, [step], dtypes, stateful=False)
        # Raised by TensorFlow itself: from Python it comes with forty lines of traceback.
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(error, ""), [error])]):
            arrays = [tf.identity(array) for array in arrays]
        for array, shape in zip(arrays, shapes, strict=True):
            array.set_shape(shape)
        return _normalised(arrays[0], images), dict(zip(names, arrays[1:], strict=True))

    steps = _steps(Claims(start, epochs, maker.steps))
    # Two batches in the making keep the cores busy while one is copied into TensorFlow.
    return steps.map(make, num_parallel_calls=2, deterministic=True).prefetch(prefetch)


def _steps(claims: Claims) -> tf.data.Dataset:
    """Return the numbers of the batches, other ones each time they are iterated."""
    import tensorflow as tf

    def claimed(_: tf.Tensor) -> tf.data.Dataset:
        first, end = tf.numpy_function(claims.next, [], [tf.int64, tf.int64])
        return tf.data.Dataset.range(first, end)

    steps = tf.data.Dataset.from_tensors(0).flat_map(claimed)
    if claims.length is None:
        return steps
    return steps.apply(tf.data.experimental.assert_cardinality(claims.length))


def _check(
    dataset: Source, encoder: Encoder, batch_size: int, resize: str, images: str, on_error: str,
    shard: tuple[int, int],
) -> None:  # fmt: skip
    if encoder.num_classes < dataset.num_classes and not gives_slots_to_points(encoder):
        raise ValueError(
            f"the encoder knows {encoder.num_classes} classes, the dataset has "
            f"{dataset.num_classes}: build it with num_classes={dataset.num_classes}"
        )
    if len(dataset) == 0:
        raise ValueError("the dataset has no images")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    for name, value, allowed in (
        ("resize", resize, RESIZE_MODES),
        ("images", images, ("uint8", *NORMALISATIONS)),
        ("on_error", on_error, ("raise", "skip")),
    ):
        check_choice(name, value, allowed)
    if not 0 <= shard[0] < shard[1] or shard[1] > len(dataset):
        raise ValueError(
            f"shard={shard}: expected (index, count), 0 <= index < count <= {len(dataset)}"
        )


def _check_counts(
    start: tuple[int, int], epochs: int | None, workers: int | None, prefetch: int
) -> None:
    if min(start) < 0:
        raise ValueError(f"start={start}: expected (epoch, step), both from 0")
    if epochs is not None and epochs <= start[0]:
        raise ValueError(f"epochs={epochs} with start={start}: there is nothing left to draw")
    for name, count in (("workers", workers), ("prefetch", prefetch)):
        if count is not None and count < 1:
            raise ValueError(f"{name}={count}: expected at least 1")


def _normalised(pixels: tf.Tensor, images: str) -> tf.Tensor:
    import tensorflow as tf

    if images == "uint8":
        return pixels
    # As whole rows: broadcasting over an axis of three runs at a fraction of memory's speed.
    _, height, width, channels = pixels.shape
    mean, std = (np.tile(np.array(c, np.float32), width) for c in NORMALISATIONS[images])
    rows = tf.cast(tf.reshape(pixels, (-1, height, width * channels)), tf.float32)
    normalised = rows * tf.constant(1 / std) - tf.constant(mean / std)
    return tf.ensure_shape(tf.reshape(normalised, tf.shape(pixels)), pixels.shape)


class Claims:
    """Which batches each iteration of a pipeline is of: those after the last iteration's.

    An endless iteration counts as `ENDLESS` epochs: where it was left cannot be known, so the next
    one begins where it cannot have been.

    Attributes:
        length: batches of every iteration, -1 where they have no end, None where the first one has
            fewer.
    """

    def __init__(self, start: tuple[int, int], epochs: int | None, steps: int) -> None:
        self._span = ENDLESS if epochs is None else epochs - start[0]
        self._start, self._endless, self._steps = start, epochs is None, steps
        self._taken = 0
        self._lock = threading.Lock()
        whole = self._span * steps if start[1] == 0 else None
        self.length = -1 if epochs is None else whole

    def next(self) -> tuple[np.int64, np.int64]:
        """Return the first batch of the next iteration and the one after its last."""
        with self._lock:
            taken, self._taken = self._taken, self._taken + 1
        epoch = self._start[0] + taken * self._span
        first = epoch * self._steps + (self._start[1] if taken == 0 else 0)
        end = np.iinfo(np.int64).max if self._endless else (epoch + self._span) * self._steps
        return np.int64(first), np.int64(end)


class BatchMaker:
    """Makes batch number `step` of the whole stream, as a function of nothing else.

    Usable without TensorFlow: `arrays(step)` returns [images, *targets] as NumPy arrays.
    """

    def __init__(
        self, dataset: Source, encoder: Encoder, batch_size: int, augment: Augment, shuffle: bool,
        seed: int, resize: ResizeMode, on_error: str, shard: tuple[int, int], drop_remainder: bool,
        pad: tuple[int, int, int], workers: int | None, report: Report,
    ) -> None:  # fmt: skip
        self.dataset, self.encoder, self.batch_size = dataset, encoder, batch_size
        self.augment, self.shuffle, self.seed, self.resize = augment, shuffle, seed, resize
        self.on_error, self.shard, self.drop_remainder = on_error, shard, drop_remainder
        self.pad, self.workers, self.report = pad, workers, report
        shares = [self._dealt(k).size for k in range(shard[1])]
        # Every machine takes as many steps as the one with the smallest share.
        self.share = share = min(shares)
        if share == 0:
            raise ValueError(f"shard={shard}: a machine would get no example, take fewer machines")
        self.steps = share // batch_size if drop_remainder else -(-share // batch_size)
        if self.steps == 0:
            raise ValueError(
                f"batch_size={batch_size} is more than the {share} examples: take a smaller one, or "
                "drop_remainder=False"
            )

    def _dealt(self, machine: int) -> NDArray[np.int64]:
        """Return the examples of one machine: whole shards of records, else every n-th example."""
        n, machines = len(self.dataset), self.shard[1]
        store = self.dataset.store
        if store is not None and machines > 1 and store.shard_of.size == n:
            return np.flatnonzero(store.shard_of % machines == machine)
        return np.arange(machine, n, machines)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return this machine's examples in the order of an epoch."""
        mine = self._dealt(self.shard[0])
        if not self.shuffle:
            return mine
        key = [self.seed, epoch * self.shard[1] + self.shard[0]]
        return np.random.Generator(np.random.Philox(key=key)).permutation(mine)

    def arrays(self, step: int) -> list[NDArray[Any]]:
        """Return [images (B, H, W, 3) uint8, *targets in the order of the encoder's spec]."""
        epoch, place = divmod(int(step), self.steps)
        order = self.order(epoch)
        first = place * self.batch_size
        count = min(self.batch_size, self.share - first)
        pool = shared_pool(self.workers)
        made = list(pool.map(lambda k: self._example(order, first + k, epoch), range(count)))
        targets = self.encoder.encode_batch([annotations for _, annotations in made])
        images = np.stack([pixels for pixels, _ in made])
        return [images, *(targets[name] for name in self.encoder.spec)]

    def outcome(self, step: int) -> list[Any]:
        """Return "" and `arrays`, or what is wrong with the data and arrays without examples."""
        try:
            return ["", *self.arrays(step)]
        except DataError as error:
            self.report.error = error
            empty = [np.zeros(0, dtype) for _, dtype in self.encoder.spec.values()]
            return [str(error), np.zeros(0, np.uint8), *empty]

    def _example(
        self, order: NDArray[np.int64], place: int, epoch: int
    ) -> tuple[Pixels, Annotations]:
        for attempt in range(len(order)):
            example = self.dataset[int(order[(place + attempt) % len(order)])]
            try:
                return self._made(example, epoch)
            except DataError as error:
                said = f"image {example.image_id}: {error}"
                if self.on_error == "raise":
                    raise DataError(said, do='on_error="skip" goes on without it') from None
                self.report.skip(str(example.image_id), said)
        raise DataError("no image of the dataset can be read", do="check the images folder")

    def _made(self, example: Example, epoch: int) -> tuple[Pixels, Annotations]:
        job = Job(
            example=example,
            read=image_reader(self.dataset.store, example.image_id, example.path),
            frame=self.encoder.image_size,
            resize=self.resize,
            pad=self.pad,
            keypoint_flips=self.dataset.keypoint_flips,
            key=(self.seed, epoch, str(example.image_id)),
        )
        pixels, annotations, counts = self.augment(job)
        self.report.add(counts)
        return pixels, annotations
