"""`tune_keypoints`: which grid of cells suits a dataset's keypoints, from their statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ytrue.auditing import Examples
from ytrue.encoders.cellgrid import CellGrid
from ytrue.encoders.keypoints import KeypointGridEncoder, PointCells
from ytrue.errors import DataError
from ytrue.pointauditing import class_names, placed_points
from ytrue.resizing import ResizeMode

if TYPE_CHECKING:
    from ytrue.annotations import Annotations

STRIDES: Final = (4, 8, 16, 32, 64)
"""Pixels of a cell's side in the grids that are tried, besides one cell for the whole image."""
POINTS_PER_CELL: Final = (1, 2, 3, 4, 6, 8)
OFFSET_BINS: Final = 10
_IMAGES_AT_ONCE: Final = 1024


@dataclass(frozen=True, eq=False)
class KeypointChoice:
    """One grid with one number of points in a cell, and what it costs.

    Attributes:
        grid: (rows, columns).
        points_per_cell: P.
        lost: points that are taught, but own no slot because others took them.
        lost_share: the same, of the points that are taught.
        occupied_cells: share of the cells that hold at least one point.
        occupied_slots: share of the slots that hold a point.
        output_size: numbers in one image's target, `rows * columns * P * (2 + C)`.
        offset_y, offset_x: points by their place inside the cell, counts in ten equal bins.
    """

    grid: tuple[int, int]
    points_per_cell: int
    lost: int
    lost_share: float
    occupied_cells: float
    occupied_slots: float
    output_size: int
    offset_y: tuple[int, ...] = field(repr=False)
    offset_x: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class KeypointTuning:
    """What each candidate costs on a dataset, and which to take.

    Attributes:
        source: the dataset, in words.
        image_size: (height, width) of the network input.
        resize: how images were fitted.
        slots, classes: as `KeypointGridEncoder` has them.
        num_classes: C.
        images: how many there are.
        points: taught ones.
        not_taught: labelled points that no grid could hold: outside, not finite, skipped, of crowds.
        max_lost: the share that may be lost.
        choices: by rising output size, then by falling number of cells.
    """

    source: str
    image_size: tuple[int, int]
    resize: ResizeMode
    slots: Literal["any", "fixed"]
    classes: Literal["landmark", "object"]
    hidden: Literal["teach", "skip"]
    num_classes: int
    images: int
    points: int
    not_taught: int
    max_lost: float
    choices: tuple[KeypointChoice, ...] = field(repr=False)

    @property
    def recommended(self) -> KeypointChoice | None:
        """The smallest output that loses at most the asked share; None where each loses more."""
        good = (choice for choice in self.choices if choice.lost_share <= self.max_lost)
        return next(good, None)

    def encoder(self, choice: KeypointChoice | None = None) -> KeypointGridEncoder:
        """Return the encoder of a choice, by default of the recommended one.

        Raises:
            ValueError: none was named and none is recommended.
        """
        chosen = choice or self.recommended
        if chosen is None:
            raise ValueError(
                f"every candidate loses more than {self.max_lost:.2%} of the points: finer grids, "
                "more points in a cell, or a larger max_lost"
            )
        return KeypointGridEncoder(
            self.image_size,
            chosen.grid,
            num_classes=self.num_classes,
            points_per_cell=chosen.points_per_cell,
            slots=self.slots,
            classes=self.classes,
            hidden=self.hidden,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        names = (
            "source", "resize", "slots", "classes", "hidden", "num_classes", "images", "points",
            "not_taught", "max_lost",
        )  # fmt: skip
        chosen = self.recommended
        return {name: getattr(self, name) for name in names} | {
            "image_size": list(self.image_size),
            "choices": [_plain(choice) for choice in self.choices],
            "recommended": None if chosen is None else _plain(chosen),
            "encoder": None if chosen is None else self.encoder().config(),
        }


def tune_keypoints(
    dataset: Examples,
    image_size: int | Sequence[int],
    *,
    strides: Sequence[int] = STRIDES,
    points_per_cell: Sequence[int] = POINTS_PER_CELL,
    slots: Literal["any", "fixed"] = "any",
    classes: Literal["landmark", "object"] = "landmark",
    hidden: Literal["teach", "skip"] = "teach",
    max_lost: float = 0.01,
    resize: ResizeMode = "letterbox",
    progress: Callable[[int, int], None] | None = None,
) -> KeypointTuning:
    """Count what each grid and each number of points in a cell would lose to collisions.

    Args:
        dataset: `len`, `[i]` -> Example, `classes`; its objects have keypoints.
        image_size: (height, width) of the network input in pixels; one number for a square.
        strides: pixels of a cell's side; one cell for the whole image is always a candidate.
        points_per_cell: numbers to try; with `slots="fixed"` it is the number of landmarks.
        slots, classes, hidden: as `KeypointGridEncoder` has them.
        max_lost: share of the taught points that may be lost.
        resize: how images are fitted into the network input, as in the pipeline.
        progress: called with (images done, images in all), now and then.

    Raises:
        DataError: no image has a labelled keypoint to count.
        ValueError: an argument out of range.

    Example:
        tuning = tune_keypoints(dataset, 512, max_lost=0.005)
        encoder = tuning.encoder()
    """
    if not 0 <= max_lost < 1:
        raise ValueError(f"max_lost={max_lost}: expected a number in [0, 1)")
    if not points_per_cell or min(points_per_cell) < 1:
        raise ValueError(f"points_per_cell={points_per_cell}: expected numbers of at least 1")
    landmarks = _landmarks(dataset)
    grids = _candidates(image_size, strides)
    num_classes = landmarks if classes == "landmark" else max(1, len(dataset.classes))
    each = (landmarks,) if slots == "fixed" else sorted(set(points_per_cell))
    widest = KeypointGridEncoder(
        image_size, grids, num_classes=num_classes, points_per_cell=each[-1], slots=slots,
        classes=classes, hidden=hidden,
    )  # fmt: skip
    counts = _Counts(widest.cells, slots == "fixed")
    for batch in _batches(dataset, widest.image_size, resize, progress):
        counts.add(widest.locate(batch), len(batch))
    if not counts.points:
        raise DataError(
            "no labelled keypoint inside an image", where=repr(dataset),
            do="the grid of cells is chosen from keypoints; name a file that has them",
        )  # fmt: skip
    choices = [
        counts.choice(level, number, num_classes) for level in range(len(grids)) for number in each
    ]
    return KeypointTuning(
        source=repr(dataset), image_size=widest.image_size, resize=resize, slots=slots,
        classes=classes, hidden=hidden, num_classes=num_classes, images=counts.images,
        points=counts.points, not_taught=counts.not_taught, max_lost=max_lost,
        choices=tuple(sorted(choices, key=lambda c: (c.output_size, -c.grid[0] * c.grid[1]))),
    )  # fmt: skip


class _Counts:
    """How many points share a place (cell, or with fixed slots cell and landmark), grid by grid."""

    def __init__(self, cells: CellGrid, fixed: bool) -> None:
        self.cells, self.fixed = cells, fixed
        self.images = self.points = self.not_taught = 0
        levels = len(cells.grid)
        self._sharing: list[list[NDArray[np.int64]]] = [[] for _ in range(levels)]
        self._occupied = [0] * levels
        self._offsets = np.zeros((levels, 2, OFFSET_BINS), np.int64)

    def add(self, found: PointCells, images: int) -> None:
        """Add the points of a batch of images."""
        self.images += images
        taught = found.taught
        self.points += int(taught.sum())
        self.not_taught += int((found.labelled & ~taught).sum())
        image, landmark = found.image[taught], found.landmark[taught]
        per_place = int(landmark.max(initial=0)) + 1
        for level in range(len(self.cells.grid)):
            cell = image * len(self.cells) + found.cell[level, taught]
            self._occupied[level] += len(np.unique(cell))
            place = cell * per_place + landmark if self.fixed else cell
            self._sharing[level].append(np.unique(place, return_counts=True)[1])
            for axis in (0, 1):
                bins = np.minimum(found.offset[level, taught, axis] * OFFSET_BINS, OFFSET_BINS - 1)
                self._offsets[level, axis] += np.bincount(bins.astype(int), minlength=OFFSET_BINS)

    def choice(self, level: int, points_per_cell: int, num_classes: int) -> KeypointChoice:
        """Return what a grid with that many points in a cell costs."""
        sharing = np.concatenate([*self._sharing[level], np.zeros(0, np.int64)])
        room = 1 if self.fixed else points_per_cell
        lost = int(np.maximum(sharing - room, 0).sum())
        rows, columns = self.cells.grid[level]
        cells = rows * columns
        everywhere = max(1, cells * self.images)
        return KeypointChoice(
            grid=(rows, columns),
            points_per_cell=points_per_cell,
            lost=lost,
            lost_share=lost / max(1, self.points),
            occupied_cells=self._occupied[level] / everywhere,
            occupied_slots=(self.points - lost) / (everywhere * points_per_cell),
            output_size=cells * points_per_cell * (2 + num_classes),
            offset_y=tuple(self._offsets[level, 0].tolist()),
            offset_x=tuple(self._offsets[level, 1].tolist()),
        )


def _candidates(image_size: int | Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    grids = (CellGrid(image_size, stride=stride).grid[0] for stride in strides)
    return list(dict.fromkeys([*grids, (1, 1)]))


def _landmarks(dataset: Examples) -> int:
    """Return how many keypoints an object has; 1 where the dataset has none at all."""
    names = class_names(dataset, (), {"classes": "landmark"})
    if names:
        return len(names)
    for index in range(len(dataset)):
        keypoints = dataset[index].annotations.keypoints
        if keypoints is not None and keypoints.shape[1]:
            return int(keypoints.shape[1])
    return 1


def _batches(
    dataset: Examples, frame: tuple[int, int], resize: ResizeMode,
    progress: Callable[[int, int], None] | None,
) -> Iterator[list[Annotations]]:  # fmt: skip
    for first in range(0, len(dataset), _IMAGES_AT_ONCE):
        end = min(first + _IMAGES_AT_ONCE, len(dataset))
        yield [placed_points(dataset[index], frame, resize) for index in range(first, end)]
        if progress:
            progress(end, len(dataset))


def _plain(choice: KeypointChoice) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(choice).items()
    }
