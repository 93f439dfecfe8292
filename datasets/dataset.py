"""`Dataset`: annotated images in memory, as flat columns; indexing parses nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ytrue import boxes
from ytrue.annotations import Annotations, Example
from ytrue.errors import DataError, Problem
from ytrue.rle import RLE

Id = int | str


@dataclass(frozen=True, eq=False)
class Images:
    """I images, row by row.

    `height` and `width` are the frame of the annotations. `records` holds what the file says
    beyond the columns (as JSON values), None where there is nothing.
    """

    ids: Sequence[Id]
    file_names: Sequence[str]
    paths: Sequence[str]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    records: Sequence[Mapping[str, Any] | None]

    def select(self, rows: NDArray[np.intp]) -> Images:
        """Return the given rows."""
        return Images(
            ids=[self.ids[i] for i in rows],
            file_names=[self.file_names[i] for i in rows],
            paths=[self.paths[i] for i in rows],
            height=self.height[rows],
            width=self.width[rows],
            records=[self.records[i] for i in rows],
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
        keypoint_flips: pairs of keypoints that a left-right flip swaps.
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
    keypoint_flips: tuple[tuple[int, int], ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    store: ImageStore | None = field(default=None, repr=False)

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        return len(self.classes)

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
        )
        return Example(
            image_id=self.images.ids[index],
            path=Path(self.images.paths[index]),
            height=int(self.images.height[index]),
            width=int(self.images.width[index]),
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
        for position, names in enumerate(self._names):
            if wanted in names:
                return position
        every = [name for names in self._names for name in names]
        close = difflib.get_close_matches(wanted, every, n=3) or every[:3]
        raise DataError(
            f"no image {wanted!r} among {len(self)}",
            where=self.source,
            do=f"name it by id, file name or position; close ones: {', '.join(close)}",
        )

    @cached_property
    def _names(self) -> list[tuple[str, ...]]:
        return [
            (str(image_id), name, Path(name).name, Path(name).stem)
            for image_id, name in zip(self.images.ids, self.images.file_names, strict=True)
        ]

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return the images at these positions, in this order, with their objects."""
        rows = np.array([range(len(self))[i] for i in indices], np.intp)
        position = np.full(len(self), -1, np.int64)
        position[rows] = np.arange(len(rows))
        kept = position[self.objects.image] >= 0
        chosen = select_objects(self.objects, kept)
        return replace(
            self,
            images=self.images.select(rows),
            objects=replace(chosen, image=position[chosen.image]),
        )

    def to_coco(self, path: str | Path) -> None:
        """Write a COCO JSON file; what came from one is written back with its own numbers."""
        from ytrue.datasets.coco import write

        write(self, Path(path))


def select_objects(objects: Objects, keep: NDArray[np.bool_]) -> Objects:
    """Return the objects where `keep` (N,) is True; everything else unchanged."""
    if keep.all():
        return objects
    rows = np.flatnonzero(keep)
    new_row = {int(old): new for new, old in enumerate(rows)}
    part_counts = np.diff(objects.first_part)
    keep_part = np.repeat(keep, part_counts)
    lengths = np.diff(objects.parts)
    return Objects(
        ids=[objects.ids[row] for row in rows.tolist()],
        image=objects.image[rows],
        label=objects.label[rows],
        crowd=objects.crowd[rows],
        xywh=objects.xywh[rows],
        area=objects.area[rows],
        points=objects.points[np.repeat(keep_part, lengths)],
        parts=np.concatenate(([0], np.cumsum(lengths[keep_part]))),
        first_part=np.concatenate(([0], np.cumsum(part_counts[rows]))),
        keypoints=None if objects.keypoints is None else objects.keypoints[rows],
        rles={new_row[r]: rle for r, rle in objects.rles.items() if r in new_row},
        extra={new_row[r]: extra for r, extra in objects.extra.items() if r in new_row},
    )
