"""`Dataset`: annotated images in memory, as flat columns; indexing parses nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations, Example
from ytrue.datasets.splits import check_split, in_usual_order
from ytrue.errors import DataError, Problem
from ytrue.rle import RLE

Id = int | str
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Images:
    """I images, row by row.

    `height` and `width` are the frame of the annotations. `records` holds what the file says
    beyond the columns (as JSON values), None where there is nothing. `splits` names the splits that
    each image belongs to; it is empty where the dataset has none.
    """

    ids: Sequence[Id]
    file_names: Sequence[str]
    paths: Sequence[str]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    records: Sequence[Mapping[str, Any] | None]
    splits: Sequence[tuple[str, ...]] = ()

    def select(self, rows: NDArray[np.intp]) -> Images:
        """Return the given rows."""
        return Images(
            ids=[self.ids[i] for i in rows],
            file_names=[self.file_names[i] for i in rows],
            paths=[self.paths[i] for i in rows],
            height=self.height[rows],
            width=self.width[rows],
            records=[self.records[i] for i in rows],
            splits=[self.splits[i] for i in rows] if self.splits else (),
        )


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects in the order of the file, with the file's own numbers, so that nothing is lost.

    Coordinates stay `(x, y)` here, as files have them; `Dataset` turns them on indexing.
    """

    ids: Sequence[Id]
    image: NDArray[np.int64]  # (N,) row of the image
    label: NDArray[np.int32]  # (N,)
    crowd: NDArray[np.bool_]  # (N,)
    xywh: NDArray[np.float64]  # (N, 4) x_min, y_min, width, height, pixels
    area: NDArray[np.float64]  # (N,) nan where the file has none
    points: NDArray[np.float64]  # (P, 2) x, y of all polygons' vertices
    parts: NDArray[np.int64]  # (Q + 1,) where each polygon part begins in `points`
    first_part: NDArray[np.int64]  # (N + 1,) where each object begins in `parts`
    keypoints: NDArray[np.float64] | None  # (N, K, 3) x, y, visibility; nan where none
    rles: Mapping[int, tuple[Sequence[int], Any]]  # row -> (size, counts) as in the file
    extra: Mapping[int, Mapping[str, Any]]  # row -> further fields as in the file

    def __len__(self) -> int:
        return len(self.label)

    def polygon(self, row: int) -> list[NDArray[np.float64]]:
        """Return the parts of one object, each (V, 2) x, y."""
        first, end = self.first_part[row], self.first_part[row + 1]
        return [self.points[self.parts[q] : self.parts[q + 1]] for q in range(first, end)]


class ImageStore(Protocol):
    """Images that lie in no files of their own."""

    @property
    def shard_of(self) -> NDArray[np.int64]:
        """(I,) the shard of each image, in the dataset's order when it was read."""
        ...

    def image_bytes(self, image_id: Id) -> bytes:
        """Return the bytes of one image file."""
        ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Annotated images. `len`, `[i]` and iteration give `Example`s.

    Attributes:
        source: the file or folder it came from.
        format: the format's name.
        classes: names, in label order.
        class_ids: the classes' ids in the file, in label order.
        problems: everything odd that was found, and what was done about it.
        keypoint_names: names of the K keypoints, empty where there are none.
        keypoint_flips: pairs of keypoints that a left-right flip swaps; None: nobody knows which
            landmarks have sides, so nothing is mirrored.
        header: what the file says about the whole dataset (info, licences, ...).
        store: where the images are read from, None where each is a file.
    """

    source: Path
    format: str
    classes: tuple[str, ...]
    class_ids: tuple[Id, ...]
    images: Images = field(repr=False)
    objects: Objects = field(repr=False)
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    keypoint_names: tuple[str, ...] = ()
    keypoint_flips: tuple[tuple[int, int], ...] | None = ()
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    store: ImageStore | None = field(default=None, repr=False)

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints that an object may have, K; 0 where there are none."""
        keypoints = self.objects.keypoints
        return len(self.keypoint_names) if keypoints is None else keypoints.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return len(self.classes)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that its images belong to, such as ("train", "val")."""
        return in_usual_order(name for names in set(self.images.splits) for name in names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader decided about the whole dataset, in words."""
        notes = () if self.format == "coco" else self.header.get("notes", ())
        return tuple(note for note in notes if isinstance(note, str))

    def split(self, name: str) -> Dataset:
        """Return the images of one split, their objects, and the problems that are about them.

        Args:
            name: one of `splits`; "valid", "validation" and "val2017" are "val".

        Raises:
            DataError: no such split.
        """
        wanted = check_split(name, self.splits, self.source)
        rows = [row for row, names in enumerate(self.images.splits) if wanted in names]
        chosen = self.subset(rows)
        others = set(self.images.ids) - set(chosen.images.ids)
        problems = tuple(p for p in self.problems if p.image_id not in others)
        return replace(chosen, problems=problems)

    @property
    def outlines(self) -> dict[str, int]:
        """How many objects, crowds aside, are outlined, by what; and by nothing.

        "polygon": by one part; "parts": by several; "mask": by run lengths; "none".
        """
        objects = self.objects
        asked = ~objects.crowd
        parts = np.diff(objects.first_part)[asked]
        masked = np.isin(np.flatnonzero(asked), list(objects.rles)) & (parts == 0)
        return {
            "polygon": int((parts == 1).sum()),
            "parts": int((parts > 1).sum()),
            "mask": int(masked.sum()),
            "none": int(((parts == 0) & ~masked).sum()),
        }

    @property
    def num_objects(self) -> int:
        """Number of objects, crowds included."""
        return len(self.objects)

    def __len__(self) -> int:
        return len(self.images.ids)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return (
            f"Dataset({self.source.name!r}, {self.format}: {len(self)} images, "
            f"{self.num_objects} objects, {self.num_classes} classes, "
            f"{len(self.problems)} problems)"
        )

    def _repr_html_(self) -> str:
        from ytrue import notebook

        return notebook.html(self)

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the objects sorted by image, and where each image begins in them."""
        order = np.argsort(self.objects.image, kind="stable")
        counts = np.bincount(self.objects.image, minlength=len(self))
        return order, np.concatenate(([0], np.cumsum(counts)))

    @cached_property
    def _has_polygons(self) -> bool:
        return len(self.objects.parts) > 1

    def rows_of(self, index: int) -> NDArray[np.int64]:
        """Return the rows of `objects` that belong to image `index`."""
        order, starts = self._order
        return order[starts[index] : starts[index + 1]]

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]  # also from the end, IndexError beyond
        rows, objects = self.rows_of(index), self.objects
        height, width = int(self.images.height[index]), int(self.images.width[index])
        keypoints = None
        if objects.keypoints is not None:
            keypoints = boxes.points_from_xy(np.nan_to_num(objects.keypoints[rows]))
        polygons = masks = None
        if self._has_polygons:
            polygons = [[boxes.points_from_xy(p) for p in objects.polygon(row)] for row in rows]
        if objects.rles:
            coded = [objects.rles.get(int(row)) for row in rows]
            if any(coded):
                masks = [RLE.from_coco(*rle) if rle else None for rle in coded]
        annotations = Annotations(
            boxes=boxes.from_xywh(objects.xywh[rows]),
            labels=objects.label[rows],
            crowd=objects.crowd[rows],
            keypoints=keypoints,
            polygons=polygons,
            masks=masks,
            image_size=(height, width),
        )
        return Example(
            image_id=self.images.ids[index],
            path=Path(self.images.paths[index]),
            height=height,
            width=width,
            annotations=annotations,
            annotation_ids=tuple(objects.ids[row] for row in rows.tolist()),
            classes=self.classes,
        )

    def index_of(self, image_id: Id) -> int:
        """Return the position of the image with this id, file name or file stem.

        Raises:
            DataError: no such image; the message names the closest ones.
        """
        wanted = str(image_id)
        for names in self._names:
            if wanted in names:
                return names[wanted]
        every = list(dict.fromkeys(name for names in self._names for name in names))
        close = difflib.get_close_matches(wanted, every, n=3) or every[:3]
        raise DataError(
            f"no image {wanted!r} among {len(self)}",
            where=self.source,
            do=f"name it by id, file name or position; close ones: {', '.join(close)}",
        )

    @cached_property
    def _names(self) -> list[dict[str, int]]:
        """Name -> position, in order of precedence: an id is never taken for another's stem."""
        names = self.images.file_names
        kinds = (
            map(str, self.images.ids),
            names,
            (Path(name).name for name in names),
            (Path(name).stem for name in names),
        )
        return [
            {name: row for row, name in reversed(list(enumerate(each)))} for each in kinds
        ]  # of equal names the first counts

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return the images at these positions, in this order, with their objects.

        A position may be named more than once; its objects are then there as often.
        """
        rows = np.array([range(len(self))[i] for i in indices], np.intp)
        image = np.repeat(np.arange(len(rows)), [len(self.rows_of(row)) for row in rows])
        taken = np.concatenate([np.zeros(0, np.int64), *(self.rows_of(row) for row in rows)])
        in_file = np.argsort(taken, kind="stable")
        return replace(
            self,
            images=self.images.select(rows),
            objects=replace(take_objects(self.objects, taken[in_file]), image=image[in_file]),
        )

    def hold_out(self, every: int) -> tuple[Dataset, Dataset]:
        """Return (the rest, every `every`-th image by file name, from the first).

        Raises:
            ValueError: `every` below 2, or one part would be empty.
        """
        if every < 2:
            raise ValueError(f"every={every}: expected at least 2")
        names = self.images.file_names
        order = sorted(range(len(self)), key=lambda row: names[row])
        held = order[::every]
        rest = sorted(set(order) - set(held))
        if not rest:
            raise ValueError(f"{len(self)} images are too few to hold out every {every}th")
        return self.subset(rest), self.subset(held)

    def to_coco(self, path: str | Path) -> None:
        """Write a COCO JSON file; what came from one is written back with its own numbers."""
        from ytrue.datasets.coco import write

        write(self, Path(path))


def select_objects(objects: Objects, keep: NDArray[np.bool_]) -> Objects:
    """Return the objects where `keep` (N,) is True; everything else unchanged."""
    if keep.all():
        return objects
    return take_objects(objects, np.flatnonzero(keep))


def take_objects(objects: Objects, rows: NDArray[np.int64]) -> Objects:
    """Return the objects at `rows` (M,), in that order; a row may be named more than once."""
    part_counts = np.diff(objects.first_part)[rows]
    firsts = objects.first_part[rows]
    starts = _spans(objects.parts[:-1], firsts, part_counts)
    lengths = _spans(np.diff(objects.parts), firsts, part_counts)
    return Objects(
        ids=[objects.ids[row] for row in rows.tolist()],
        image=objects.image[rows],
        label=objects.label[rows],
        crowd=objects.crowd[rows],
        xywh=objects.xywh[rows],
        area=objects.area[rows],
        points=_spans(objects.points, starts, lengths),
        parts=np.concatenate(([0], np.cumsum(lengths))),
        first_part=np.concatenate(([0], np.cumsum(part_counts))),
        keypoints=None if objects.keypoints is None else objects.keypoints[rows],
        rles=_renumbered(objects.rles, rows),
        extra=_renumbered(objects.extra, rows),
    )


def _spans(
    values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """Return `values[start : start + length]` of every span, one after the other."""
    starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    ends = starts + lengths
    chosen: NDArray[Any]
    if (starts[1:] >= ends[:-1]).all():
        # Each value at most once and in order: a mask takes an eighth of the room of indices.
        steps = np.zeros(len(values) + 1, np.int8)
        steps[starts] += 1
        steps[ends] -= 1
        chosen = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    else:
        before = np.cumsum(lengths) - lengths
        chosen = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return np.asarray(values[chosen])


def _renumbered(values: Mapping[int, Value], rows: NDArray[np.int64]) -> dict[int, Value]:
    if not values:
        return {}
    return {new: values[old] for new, old in enumerate(rows.tolist()) if old in values}
