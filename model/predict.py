"""`Detector`: a model with the encoder, classes and resize it was trained with; and `predict`."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ytrue import __version__, boxes
from ytrue.annotations import Annotations
from ytrue.contract import gives_slots_to_points
from ytrue.cores import available_cores
from ytrue.datasets.imagefiles import EXTENSIONS
from ytrue.datasets.pixels import PAD, Pixels, image_reader, place_pixels
from ytrue.encoders import from_config
from ytrue.errors import DataError, check_choice
from ytrue.files import replace_file
from ytrue.model.evaluating.results import coco_records
from ytrue.resizing import RESIZE_MODES, Placement, ResizeMode, place

if TYPE_CHECKING:
    from ytrue.contract import Encoder
    from ytrue.datasets.dataset import Dataset, Id
    from ytrue.model.pyramidnet import PyramidNet

log = logging.getLogger("ytrue")

Made = TypeVar("Made")
Placed = tuple[Pixels, Placement]
"""The network's input, and where the image lies in it."""

RUN_FILE: Final = "run.json"
WEIGHTS: Final = ("best", "last")
_DESCRIBED: Final = (
    "encoder", "digest", "network", "model", "classes", "class_ids", "landmarks", "resize",
)  # fmt: skip
MIN_SCORE: Final = 0.001
"""Lowest score of the detections that AP is computed from."""


class Finder(Protocol):
    """What finds objects in images of one size: a `Detector`, or an export of one."""

    @property
    def encoder(self) -> Encoder:
        """Its `image_size` is that of the images."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in label order."""
        ...

    @property
    def class_ids(self) -> tuple[Id, ...]:
        """The ids of the training data's file, in label order."""
        ...

    @property
    def landmarks(self) -> tuple[str, ...]:
        """Names of the keypoints of an object; empty where there are none."""
        ...

    @property
    def resize(self) -> ResizeMode:
        """How images are fitted."""
        ...

    def find(self, images: NDArray[np.uint8], **options: Any) -> list[Annotations]:
        """Return scored detections of each image, in its pixels."""
        ...

    def with_class_ids(self, class_ids: tuple[Id, ...]) -> Finder:
        """Return one whose results are written with other ids of its classes."""
        ...


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector that can be saved, loaded and asked.

    Args:
        model: an `EfficientDet` or `PyramidNet`.
        encoder: what its targets were made with; it decodes the outputs.
        classes: names, in label order.
        class_ids: the ids of the training data's file, in label order: results are written with
            them.
        resize: how images are fitted into the network's input.
        landmarks: names of the keypoints of an object, empty where there are none.

    Raises:
        ValueError: classes, ids, model and encoder that do not go together.
    """

    model: PyramidNet
    encoder: Encoder
    classes: tuple[str, ...]
    class_ids: tuple[Id, ...]
    resize: ResizeMode = "letterbox"
    landmarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from ytrue.model.tasks import check_fits

        counts = {"class names": len(self.classes), "class ids": len(self.class_ids)}
        if not gives_slots_to_points(self.encoder):
            counts = {"the encoder's classes": self.encoder.num_classes, **counts}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"numbers of classes differ: {said}")
        check_fits(self.model, self.encoder)
        check_choice("resize", self.resize, RESIZE_MODES)

    @cached_property
    def _graphs(self) -> dict[int | None, Callable[[Any], dict[str, Any]]]:
        """The compiled networks by the number of images they take; None: any."""
        return {}

    def _graph(self, count: int) -> Callable[[Any], dict[str, Any]]:
        """Return the compiled network for so many images.

        A folded model that only sees single images has one of their own, which is faster.
        """
        import tensorflow as tf

        single = count == 1 and None not in self._graphs and self.model.get_config()["folded"]
        batch = 1 if single else None
        if batch not in self._graphs:
            self._graphs[batch] = tf.function(
                lambda images: self.model(images, training=False),
                input_signature=[tf.TensorSpec((batch, *self.encoder.image_size, 3), tf.uint8)],
            )
        return self._graphs[batch]

    def find(self, images: NDArray[np.uint8], **options: Any) -> list[Annotations]:
        """Return the detections of each image, with scores, in its pixels.

        Args:
            images: (B, H, W, 3) uint8 RGB of the encoder's image size; `predict` fits files into it.
            options: of the encoder's `decode`, such as `score_threshold`.

        Raises:
            ValueError: images of another shape or dtype.
        """
        images = checked_frames(images, self.encoder.image_size)
        if not len(images):
            return []
        found = self._graph(len(images))(images)
        outputs = {name: array.numpy() for name, array in found.items()}
        decode: Any = self.encoder.decode  # each encoder has options of its own
        return [
            decode({name: array[row] for name, array in outputs.items()}, **options)
            for row in range(len(images))
        ]

    def predict(
        self,
        images: Iterable[str | Path | NDArray[np.uint8]],
        *,
        batch_size: int = 1,
        **options: Any,
    ) -> list[Annotations]:
        """Return the detections of each image, with scores, in its own pixels.

        Args:
            images: paths of image files, or arrays (height, width, 3) uint8 RGB of any size.
            batch_size: images in a batch.
            options: of the encoder's `decode`, such as `score_threshold`.

        Raises:
            DataError: an image that cannot be read.
            ValueError: an array of another shape or dtype.

        Example:
            detector.predict(["photos/1.jpg", pixels], score_threshold=0.3)[0].boxes
        """
        return predict_images(self, images, batch_size=batch_size, **options)

    def folded(self) -> Detector:
        """Return one that predicts faster; see `EfficientDet.fold`."""
        return replace(self, model=self.model.fold())

    def with_class_ids(self, class_ids: tuple[Id, ...]) -> Detector:
        """Return one whose results are written with other ids of its classes."""
        return replace(self, class_ids=class_ids)

    def description(self) -> dict[str, Any]:
        """Return what identifies the detector, weights aside, as plain JSON values."""
        return {
            "ytrue": __version__,
            "network": type(self.model).__name__,
            "model": self.model.get_config(),
            "encoder": self.encoder.config(),
            "digest": self.encoder.digest,
            "classes": list(self.classes),
            "class_ids": list(self.class_ids),
            "landmarks": list(self.landmarks),
            "resize": self.resize,
        }

    def save(self, folder: str | Path, weights: str = "best", **more: Any) -> None:
        """Write `run.json` and `<weights>.weights.h5` into the folder.

        Args:
            folder: made if missing.
            weights: name of the weights.
            more: further JSON values for `run.json`.
        """
        root = Path(folder)
        self.save_description(root, **more)
        self.save_weights(root, weights)

    def save_description(self, folder: Path, **more: Any) -> None:
        """Write `run.json` with further JSON values; a reader sees the old file or the new one."""
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(self.description() | more, indent=1) + "\n"
        replace_file(folder / RUN_FILE, lambda out: out.write(content.encode()))

    def save_weights(self, folder: Path, weights: str) -> None:
        """Write `<weights>.weights.h5`; a reader sees the old file or the new one."""
        beside = folder / f"{weights}.part.weights.h5"
        # Keras would write the optimizer's variables as well: twice the file, for nothing.
        optimizer = getattr(self.model, "optimizer", None)  # one that was never compiled has none
        self.model.optimizer = None
        try:
            self.model.save_weights(beside)
        finally:
            self.model.optimizer = optimizer
        beside.replace(folder / f"{weights}.weights.h5")

    @classmethod
    def load(cls, folder: str | Path, weights: str | None = None) -> Detector:
        """Return the detector that a folder holds.

        Args:
            folder: what `save` or `ytrue train` wrote.
            weights: "best" or "last"; None: the best where there is one.

        Raises:
            DataError: no run there, no such weights, or a description that was changed.
        """
        import keras

        root = Path(folder)
        run = read_run(root)
        encoder = _understood(root, lambda: from_config(run["encoder"]))
        if encoder.digest != run["digest"]:
            raise DataError(
                f"the encoder's digest is {encoder.digest[:12]}, the run says {run['digest'][:12]}",
                where=root / RUN_FILE,
                do="its settings were changed after training: restore the file",
            )
        if weights is not None:
            check_choice("weights", weights, WEIGHTS)
        names = [weights] if weights else WEIGHTS
        found = [name for name in names if (root / f"{name}.weights.h5").is_file()]
        if not found:
            raise DataError(
                f"no {' or '.join(f'{name}.weights.h5' for name in names)} in it", where=root,
                do="has the first epoch ended?",
            )  # fmt: skip

        def made() -> Detector:
            config = run["model"] | {"dtype": keras.dtype_policies.get(run["model"]["dtype"])}
            return cls(
                run_model(run["network"], config), encoder, tuple(run["classes"]),
                tuple(run["class_ids"]), run["resize"], tuple(run["landmarks"]),
            )  # fmt: skip

        detector = _understood(root, made)
        _load_weights(detector.model, root / f"{found[0]}.weights.h5")
        return detector


def read_run(folder: Path) -> dict[str, Any]:
    """Return what `run.json` in a folder says.

    Raises:
        DataError: there is none, or it is broken.
    """
    file = folder / RUN_FILE
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"no {RUN_FILE} in it", where=folder, do="name the folder that ytrue train wrote"
        ) from None
    except ValueError as error:
        raise DataError(f"not JSON: {error}", where=file) from None
    missing = [name for name in _DESCRIBED if not isinstance(run, dict) or name not in run]
    if missing:
        raise DataError(
            f"not the description of a run: it has no {', '.join(missing)}", where=file,
            do="restore the file, or name the folder that ytrue train wrote",
        )  # fmt: skip
    return dict(run)


def _understood(folder: Path, make: Callable[[], Made]) -> Made:
    """Return what is made of `run.json`'s values; what they are not good for is a DataError."""
    try:
        return make()
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"its values describe no detector: {error}", where=folder / RUN_FILE,
            do="restore the file",
        ) from error  # fmt: skip


def _load_weights(model: PyramidNet, file: Path) -> None:
    """Load all of the model's weights, or raise a DataError: Keras only warns of those missing."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=UserWarning, module="keras")
            model.load_weights(file)
    except (OSError, KeyError, ValueError, UserWarning) as error:
        raise DataError(
            f"not the weights of this network: {str(error).strip().splitlines()[0]}", where=file,
            do="restore the file, or train again",
        ) from error  # fmt: skip


def run_model(network: str, config: Mapping[str, Any]) -> PyramidNet:
    """Return an untrained network as `run.json` names it."""
    from ytrue.model.efficientdet import EfficientDet
    from ytrue.model.pyramidnet import PyramidNet

    kinds: dict[str, Callable[..., PyramidNet]] = {
        "EfficientDet": EfficientDet, "PyramidNet": PyramidNet
    }  # fmt: skip
    return kinds[network](**config)


@dataclass(frozen=True)
class Found:
    """What was found in one image."""

    image_id: Id
    path: Path
    size: tuple[int, int]  # (height, width) of the image, pixels
    detections: Annotations  # scored, in the image's pixels


@dataclass
class Timing:
    """How long prediction took; hand one in to read it.

    Attributes:
        images: how many were predicted.
        seconds: from the first to the last, reading included.
        latencies: seconds of the network, decoding and suppression for each batch.
        batch_size: images in a batch.
    """

    images: int = 0
    seconds: float = 0.0
    batch_size: int = 1
    latencies: list[float] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """Median milliseconds an image of network, decoding and suppression."""
        # The first batch compiles.
        steady = self.latencies[1:] or self.latencies or [0.0]
        return 1e3 * float(np.median(steady)) / self.batch_size

    def words(self) -> str:
        """Say throughput and latency in one line."""
        return (
            f"{self.images} images in {self.seconds:.1f} s "
            f"({self.images / max(self.seconds, 1e-9):.1f} a second, reading included); network, "
            f"decoding and suppression {self.latency:.1f} ms an image at batch {self.batch_size}"
        )


@dataclass(frozen=True)
class Source:
    """An image to look at."""

    image_id: Id
    path: Path
    read: Callable[[int], Pixels]
    size: tuple[int, int] | None  # where it is known before reading


def images_of(dataset: Dataset, rows: Iterable[int] | None = None) -> list[Source]:
    """Return the images of a dataset (of some of its rows), with the ids of its file."""
    images, sources = dataset.images, []
    for index in range(len(dataset)) if rows is None else rows:
        image_id, path = images.ids[index], Path(images.paths[index])
        size = (int(images.height[index]), int(images.width[index]))
        sources.append(Source(image_id, path, image_reader(dataset.store, image_id, path), size))
    return sources


def image_files(
    paths: Iterable[str | Path], left_out: dict[Path, list[Path]] | None = None
) -> list[Source]:
    """Return image files, and those in folders (sorted by name); the name is the id.

    Args:
        paths: files and folders.
        left_out: takes folder -> its files that are no images by their suffix.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    sources = []
    for path in map(Path, paths):
        files = [path]
        if path.is_dir():
            every = sorted(f for f in path.rglob("*") if f.is_file())
            files = [f for f in every if f.suffix.lower() in EXTENSIONS]
            if left_out is not None:
                left_out[path] = [f for f in every if f.suffix.lower() not in EXTENSIONS]
            if not files:
                raise DataError("no images in this folder", where=path)
        elif not path.is_file():
            raise DataError("no such file or folder", where=path)
        root = path if path.is_dir() else path.parent
        sources += [
            Source(
                file.relative_to(root).as_posix(), file, image_reader(None, file.name, file), None
            )
            for file in files
        ]
    seen: dict[Id, Path] = {}
    for source in sources:
        if source.image_id in seen:
            raise DataError(
                f"two images are named {source.image_id}: the other is {seen[source.image_id]}",
                where=source.path, do="predict them in two runs",
            )  # fmt: skip
        seen[source.image_id] = source.path
    return sources


def checked_frames(images: NDArray[np.uint8], image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the images as an array (B, *image_size, 3) uint8.

    Raises:
        ValueError: images of another shape or dtype.
    """
    images, shape = np.asarray(images), (*image_size, 3)
    if images.shape == (0,):  # an empty list
        images = np.zeros((0, *shape), np.uint8)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
        raise ValueError(
            f"images {images.shape} {images.dtype}: expected (B, {shape[0]}, {shape[1]}, 3) uint8"
        )
    return images


def with_ids(files: Iterable[Source], dataset: Dataset) -> list[Source]:
    """Return the files, each with the id of the dataset's image that it is.

    That is the image whose path ends a file's, otherwise the one of its name.

    Raises:
        DataError: a file that is no image of the dataset or may be several, or two that are one.
    """
    names = dataset.images.file_names
    found: dict[Id, Source] = {}
    of_name: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        of_name.setdefault(Path(name).name, []).append(row)
    for file in files:
        rows = of_name.get(file.path.name, [])
        whole = "/" + file.path.resolve().as_posix().lstrip("/")
        rows = [row for row in rows if whole.endswith("/" + names[row].lstrip("/"))] or rows
        if len(rows) > 1:
            raise DataError(
                f"{len(rows)} images of {dataset.source} have its name: "
                f"{', '.join(names[row] for row in rows[:3])}",
                where=file.path, do="name the folder that their paths start from, or leave the files out",
            )  # fmt: skip
        row = rows[0] if rows else dataset.index_of(file.path.name)
        image_id = dataset.images.ids[row]
        if image_id in found:
            raise DataError(
                f"it and {found[image_id].path} are both image {image_id!r} of {dataset.source}",
                where=file.path, do="name one of them",
            )  # fmt: skip
        found[image_id] = replace(file, image_id=image_id)
    return list(found.values())


def with_class_ids(finder: Finder, dataset: Dataset) -> Finder:
    """Return the finder, whose records then carry the dataset's ids of its classes, by name.

    A dataset without classes, as lists of test images are, leaves it as it is.

    Raises:
        DataError: the dataset does not know a class.
    """
    if not dataset.classes:
        return finder
    ids = dict(zip(dataset.classes, dataset.class_ids, strict=True))
    missing = [name for name in finder.classes if name not in ids]
    if missing:
        raise DataError(
            f"no class {', '.join(missing)} in it, which the detector knows: results could not "
            "name them",
            where=dataset.source, do="name a dataset of the same classes, or leave --ids out",
        )  # fmt: skip
    return finder.with_class_ids(tuple(ids[name] for name in finder.classes))


def predict_images(
    finder: Finder,
    images: Iterable[str | Path | NDArray[np.uint8]],
    *,
    batch_size: int = 1,
    **options: Any,
) -> list[Annotations]:
    """Return the detections of images, each in its own pixels; see `Detector.predict`."""
    images = [images] if isinstance(images, str | Path) else images
    sources = [_source_of(place_, image) for place_, image in enumerate(images)]
    found = predict(finder, sources, batch_size=batch_size, **options)
    return [one.detections for one in found]


def _source_of(place_: int, image: str | Path | NDArray[np.uint8]) -> Source:
    """Return an image by its place in a list."""
    if isinstance(image, str | Path):
        path = Path(image)
        return Source(place_, path, image_reader(None, place_, path), None)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"image {place_}: {pixels.shape} {pixels.dtype}: expected a path, or an array (height, "
            "width, 3) uint8 RGB"
        )
    return Source(place_, Path(f"image {place_}"), lambda _: pixels, None)


def predict(
    finder: Finder,
    sources: Sequence[Source],
    *,
    batch_size: int = 1,
    timing: Timing | None = None,
    progress: Callable[[int, int], None] | None = None,
    skipped: dict[Id, str] | None = None,
    **options: Any,
) -> Iterator[Found]:
    """Yield what the detector finds in each image, in order; images are read ahead by threads.

    Args:
        finder: a `Detector` or an export.
        sources: `images_of(dataset)` or `image_files(paths)`.
        batch_size: images in a batch.
        timing: is filled.
        progress: called with (images done, images in all).
        skipped: takes image id -> why of images that cannot be read, which are left out then.
        options: of the encoder's `decode`, such as `score_threshold`.

    Raises:
        DataError: an image that cannot be read, without `skipped`.
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    timing = Timing() if timing is None else timing
    timing.batch_size = batch_size
    start, done = time.perf_counter(), 0
    batches = [sources[k : k + batch_size] for k in range(0, len(sources), batch_size)]
    with ThreadPoolExecutor(available_cores()) as pool:
        read = _ahead(pool, [[_placed_job(finder, one) for one in batch] for batch in batches])
        for batch, futures in zip(batches, read, strict=True):
            made = list(_readable(batch, futures, skipped))
            began = time.perf_counter()
            frames = np.stack([pixels for _, pixels, _ in made]) if made else None
            found = [] if frames is None else finder.find(frames, **options)
            timing.latencies.append(time.perf_counter() - began)
            timing.images += len(made)
            timing.seconds = time.perf_counter() - start
            done += len(batch)
            if progress is not None:
                progress(done, len(sources))
            for (source, _, placement), detections in zip(made, found, strict=True):
                left = time.perf_counter()
                yield Found(
                    source.image_id, source.path, placement.source, back(detections, placement)
                )
                start += time.perf_counter() - left  # the caller's own time


def _readable(
    batch: Sequence[Source], futures: Sequence[Future[Placed]], skipped: dict[Id, str] | None
) -> Iterator[tuple[Source, Pixels, Placement]]:
    """Yield the images of a batch with their frames; list those that cannot be read."""
    for source, future in zip(batch, futures, strict=True):
        try:
            yield source, *future.result()
        except DataError as error:
            if skipped is None:
                raise
            skipped[source.image_id] = str(error)


def frames(finder: Finder, sources: Iterable[Source]) -> Iterator[Pixels]:
    """Yield each image (H, W, 3) uint8 as the network is given it."""
    for source in sources:
        yield _placed_job(finder, source)()[0]


def without(dataset: Dataset, skipped: Mapping[Id, str]) -> Dataset:
    """Return the dataset without the images that could not be read, saying in the log which."""
    if not skipped:
        return dataset
    for why in skipped.values():
        log.warning("left out of the evaluation: %s", why)
    ids = dataset.images.ids
    return dataset.subset(row for row in range(len(dataset)) if ids[row] not in skipped)


def back(detections: Annotations, placement: Placement) -> Annotations:
    """Return detections of the frame in the image's own pixels, boxes cut to the image.

    Those that lie in the padding alone are left out, points included.
    """
    height, width = placement.source
    own = boxes.clip(placement.undo(detections.boxes), height, width)
    keypoints, polygons, masks = detections.keypoints, detections.polygons, detections.masks
    if polygons is not None:
        polygons = tuple(tuple(placement.undo(part) for part in outline) for outline in polygons)
    if masks is not None:
        masks = tuple(None if mask is None else placement.undo_mask(mask) for mask in masks)
    if keypoints is None:
        keep = boxes.has_area(own)
    else:
        keypoints = keypoints.copy()
        keypoints[..., :2] = placement.undo(keypoints[..., :2])
        outside = (keypoints[..., :2] > (height, width)).any(axis=-1)
        keypoints[outside] = 0
        # A point by itself has no area.
        keep = boxes.has_area(own) | (keypoints[..., 2] > 0).any(axis=-1)
    return detections.replace(
        boxes=own, keypoints=keypoints, polygons=polygons, masks=masks, content=None
    ).select(keep)


def results(found: Iterable[Found], class_ids: Sequence[Id]) -> list[dict[str, Any]]:
    """Return COCO results: one record for each detection, with the ids of the file.

    "bbox" is [x_min, y_min, width, height] in the image's pixels, to a thousandth; the score is
    kept to a millionth.
    """
    return [
        record
        | {
            "bbox": [round(edge, 3) for edge in record["bbox"]],
            "score": round(record["score"], 6),
        }
        for one in found
        for record in coco_records(one.image_id, one.detections, class_ids)
    ]


def records_of(finder: Finder, found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return what was found as plain JSON records of the finder's task, with the ids of the file.

    Boxes: see `results`. Outlines: COCO's segmentation results, see
    `ytrue.model.evaluatemasks.mask_records`. Points: see
    `ytrue.model.evaluatepoints.point_records`. Objects with keypoints: one record for each with
    both "bbox" and COCO's "keypoints".
    """
    from ytrue.model.tasks import task_of

    return task_of(finder.encoder).records(finder, found)


def _ahead(
    pool: ThreadPoolExecutor, batches: Sequence[Sequence[Callable[[], Placed]]], depth: int = 2
) -> Iterator[list[Future[Placed]]]:
    """Yield each batch's futures, the next batches being worked on meanwhile."""
    waiting = [[pool.submit(job) for job in batch] for batch in batches[:depth]]
    for place_ in range(len(batches)):
        if place_ + depth < len(batches):
            waiting.append([pool.submit(job) for job in batches[place_ + depth]])
        yield waiting.pop(0)


def _placed_job(finder: Finder, source: Source) -> Callable[[], Placed]:
    def job() -> Placed:
        size, read = source.size, source.read
        if size is None:
            pixels = read(1)
            size, read = (pixels.shape[0], pixels.shape[1]), lambda _: pixels
        placement = place(size, finder.encoder.image_size, finder.resize)
        return place_pixels(read, placement, pad=PAD, where=str(source.path)), placement

    return job
