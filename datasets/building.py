"""`DatasetBuilder`: images and objects one by one, into the columns of a `Dataset`, vetted."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ytrue import boxes
from ytrue.datasets.dataset import Dataset, Id, Images, Objects, select_objects
from ytrue.datasets.imagefiles import Folder
from ytrue.datasets.skeletons import unknown_flips
from ytrue.datasets.values import as_number, short
from ytrue.datasets.vetting import Names, locate_images, vet_objects, vet_shapes
from ytrue.errors import Action, DataError, Problem
from ytrue.rle import RLE


def numbers(values: array[Any], dtype: str, shape: tuple[int, ...] = (-1,)) -> NDArray[Any]:
    """Return a growing array's numbers without copying them."""
    return (
        np.frombuffer(values, dtype).reshape(shape)
        if values
        else np.zeros(0, dtype).reshape(tuple(0 if side == -1 else side for side in shape))
    )


class DatasetBuilder:
    """Collects a dataset row by row.

    Args:
        source: the file or folder that is read, for messages.
        format: the format's name.
        images: the folder that file names are relative to.
        strict: raise with the first problem.
        allow_outside: read images that file names lead to outside of that folder, too.

    Raises:
        DataError: with `strict`, from whatever call meets the first problem.
    """

    def __init__(
        self, source: Path, *, format: str, images: Path, strict: bool = False,
        allow_outside: bool = False,
    ) -> None:  # fmt: skip
        self.source, self.format, self.strict = source, format, strict
        self.problems: list[Problem] = []
        self._folder = Folder(images, allow_outside=allow_outside)
        self._files: list[str] = []
        self._image_ids: list[Id] = []
        self._names: list[str] = []
        self._records: list[Mapping[str, Any] | None] = []
        self._splits: list[tuple[str, ...]] = []
        self._sizes = array("i")
        self._ids: list[Id] = []
        self._image, self._label, self._crowd = array("q"), array("i"), array("b")
        self._xywh, self._points = array("d"), array("d")
        self._parts, self._first_part = array("q", [0]), array("q", [0])
        self._keypoints: dict[int, NDArray[np.float64]] = {}
        self._rles: dict[int, tuple[Sequence[int], Any]] = {}
        self._extra: dict[int, Mapping[str, Any]] = {}

    def problem(
        self,
        kind: str,
        detail: str,
        action: Action,
        *,
        file: str = "",
        image_id: Id | None = None,
        annotation_id: Id | None = None,
    ) -> None:
        """List a problem; with `strict`, raise it."""
        found = Problem(kind, detail, action, file or str(self.source), image_id, annotation_id)
        self.problems.append(found)
        raise_first([found], self.strict)

    def image(
        self,
        *,
        file: str,
        image_id: Id,
        file_name: str,
        height: int = 0,
        width: int = 0,
        extra: Mapping[str, Any] | None = None,
        splits: tuple[str, ...] = (),
    ) -> int:
        """Add an image and return its row.

        A size of 0 is read from the image's header, as is one that no image has, which is listed.
        """
        if not (0 <= height < 2**31 and 0 <= width < 2**31):
            said = f"a size of {short(width)}x{short(height)} (width x height): taken from the file"
            self.problem("image-size-invalid", said, "kept", file=file, image_id=image_id)
            height = width = 0
        self._files.append(file)
        self._image_ids.append(image_id)
        self._names.append(file_name)
        self._sizes.extend((height, width))
        self._records.append(extra)
        self._splits.append(splits)
        return len(self._names) - 1

    def object(
        self,
        image: int,
        *,
        label: int,
        box: Sequence[float] | None = None,
        crowd: bool = False,
        keypoints: ArrayLike | None = None,
        polygons: Sequence[ArrayLike] = (),
        mask: RLE | None = None,
        annotation_id: Id | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an object of an image.

        Args:
            image: the image's row.
            label: class index.
            box: (y_min, x_min, y_max, x_max) pixels; None: tight around the rest.
            crowd: whether it is a region of many.
            keypoints: (K, 3) y, x, visibility.
            polygons: parts of (V, 2) y, x pixels.
            mask: run-length encoded mask of the image's size.
            annotation_id: its id in the file; None: counted.
            extra: further fields, kept as they are.
        """
        row = len(self._ids)
        parts = [_floats(part).reshape(-1, 2) for part in polygons]
        points = None if keypoints is None else _floats(keypoints).reshape(-1, 3)
        if box is None:
            box = tight_box(parts, mask, points)
        self._ids.append(row + 1 if annotation_id is None else annotation_id)
        self._image.append(image)
        self._label.append(label)
        self._crowd.append(crowd)
        self._xywh.extend(boxes.to_xywh(_floats(box)))
        for part in parts:
            self._points.extend(part[:, ::-1].ravel())
            self._parts.append(len(self._points) // 2)
        self._first_part.append(len(self._parts) - 1)
        if points is not None:
            self._keypoints[row] = boxes.points_to_xy(points)
        if mask is not None:
            self._rles[row] = ((mask.height, mask.width), mask.counts.tolist())
        if extra:
            self._extra[row] = extra

    def finish(
        self,
        *,
        classes: Sequence[str],
        class_ids: Sequence[Id],
        keypoint_names: Sequence[str] = (),
        keypoint_flips: Sequence[tuple[int, int]] | None = (),
        header: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Vet everything and return the dataset.

        Where keypoints are there and `keypoint_flips` is None, that is listed. It is not raised with
        `strict`: pairs are given once it is read.
        """
        sizes = numbers(self._sizes, "i4", (-1, 2))
        images = Images(
            self._image_ids, self._names, [], sizes[:, 0].copy(), sizes[:, 1].copy(), self._records,
            self._splits if any(self._splits) else (),
        )  # fmt: skip
        n = len(self._ids)
        keypoints = None
        if self._keypoints:
            count = max(len(points) for points in self._keypoints.values())
            keypoints = np.full((n, count, 3), np.nan)
            for row, points in self._keypoints.items():
                keypoints[row] = 0.0  # unlabelled beyond those that the object has
                keypoints[row, : len(points)] = points
        objects = Objects(
            ids=self._ids,
            image=numbers(self._image, "i8"),
            label=numbers(self._label, "i4"),
            crowd=numbers(self._crowd, "i1").astype(bool),
            xywh=numbers(self._xywh, "f8", (-1, 4)),
            area=np.full(n, np.nan),
            points=numbers(self._points, "f8", (-1, 2)),
            parts=numbers(self._parts, "i8"),
            first_part=numbers(self._first_part, "i8"),
            keypoints=keypoints,
            rles=self._rles,
            extra=self._extra,
        )
        if keypoint_flips is None and keypoints is not None:
            self.problems.append(unknown_flips(keypoint_names, str(self.source)))
        dataset = Dataset(
            source=self.source,
            format=self.format,
            classes=tuple(classes),
            class_ids=tuple(class_ids),
            images=images,
            objects=objects,
            problems=tuple(self.problems),
            keypoint_names=tuple(keypoint_names),
            keypoint_flips=None if keypoint_flips is None else tuple(keypoint_flips),
            header=header or {},
        )
        return vetted(
            dataset, self._folder, Names(lambda row: self._files[row]), strict=self.strict
        )


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    """Return numbers as float64; whole numbers beyond it are infinite."""
    try:
        return np.asarray(values, np.float64)
    except OverflowError:
        given = np.asarray(values, object)
        return np.array([as_number(value) for value in given.flat]).reshape(given.shape)


def tight_box(
    parts: Sequence[NDArray[np.float64]], mask: RLE | None, keypoints: NDArray[np.float64] | None
) -> tuple[float, float, float, float]:
    """Return the box around polygons (y, x), else a mask, else labelled keypoints; nan without."""
    points = [part for part in parts if len(part)]
    around = None if points or mask is None else mask.box
    if around is not None:
        y_min, x_min, y_max, x_max = map(float, around)
        return y_min, x_min, y_max, x_max
    if not points and keypoints is not None:
        points = [keypoints[keypoints[:, 2] > 0, :2]]
    every = np.concatenate(points) if points else np.zeros((0, 2))
    if not len(every):
        return (float("nan"),) * 4
    (y_min, x_min), (y_max, x_max) = every.min(axis=0), every.max(axis=0)
    return float(y_min), float(x_min), float(y_max), float(x_max)


def vetted(dataset: Dataset, folder: Folder | None, names: Names, *, strict: bool) -> Dataset:
    """Return the dataset with images located (not without a folder) and unusable rows gone."""
    images, problems = dataset.images, list[Problem]()
    usable = np.ones(len(images.ids), bool)
    if folder is None:
        images = replace(images, paths=list(images.file_names))
    else:
        images, usable, problems = locate_images(images, folder, names)
    raise_first(problems, strict)
    objects = select_objects(dataset.objects, usable[dataset.objects.image])
    objects, odd_shapes = vet_shapes(images, objects, names)
    raise_first(odd_shapes, strict)
    objects, found = vet_objects(images, objects, names)
    raise_first(found, strict)
    problems = [*dataset.problems, *problems, *odd_shapes, *found]
    if not usable.all():
        rows = np.flatnonzero(usable)
        position = np.cumsum(usable) - 1
        images = images.select(rows)
        objects = replace(objects, image=position[objects.image])
    return replace(dataset, images=images, objects=objects, problems=tuple(problems))


def raise_first(problems: Sequence[Problem], strict: bool) -> None:
    """Raise the first problem where `strict` asks for it."""
    if strict and problems:
        first = problems[0]
        raise DataError(
            f"{first.detail} [{first.kind}]",
            where=first.where,
            do="mend the file, or load without strict to have it listed",
        )
