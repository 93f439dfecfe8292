"""What an encoder is: states, the `Encoder` protocol, and `Assignment`, its reasoning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example

POSITIVE: Final = 1
NEGATIVE: Final = 0
IGNORE: Final = -1
"""The states of a position (an anchor or a cell), int8."""

Target = dict[str, NDArray[Any]]
"""What an encoder returns: named arrays of one example, or of a batch with a leading axis."""

Given = Annotations | Example
"""What is encoded: annotations in the frame's pixels, or an example, which is letterboxed into it."""

Spec = dict[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
"""Name -> (shape, dtype) of one example's target; None: as many as the batch's largest has."""

Outcome = Literal[
    "matched", "forced", "crowd", "no-area", "not-finite", "outside", "low-iou", "taken", "padding",
    "no-point",
]  # fmt: skip
"""What an object got, or why it got nothing.

matched: at least one position on merit. forced: only positions that it was given although they
did not win it on merit: of too little overlap, or (of cells) those it did not ask for first.
crowd: a region to ignore, never matched. Lost: no-area, not-finite, outside (of the image), low-
iou (overlaps no position enough, and none was forced), taken (every position it could have had
went to a better match), padding (every position it had lies in padding, which overrides it), no-
point (no point lies in it that its size admits; of the anchors near its centre, none is centred
in it and good enough).
"""
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
LOST: Final[tuple[Outcome, ...]] = OUTCOMES[3:]

PointOutcome = Literal[
    "matched", "unlabelled", "hidden", "crowd", "not-finite", "outside", "padding", "taken"
]
"""What a point got, or why it got nothing.

matched: a slot of its cell, on one grid at least. unlabelled: its visibility is 0. hidden: left out
as the encoder was asked to. crowd: a point of a crowd region. Lost: not-finite, outside (of the
frame), padding (inside the frame, outside the image), taken (every slot it could have had went to a
point that is served before it).
"""
POINT_OUTCOMES: Final[tuple[PointOutcome, ...]] = get_args(PointOutcome)
POINT_LOST: Final[tuple[PointOutcome, ...]] = POINT_OUTCOMES[4:]


SEPARATOR: Final = "/"


def part_of(part: str, name: str) -> str:
    """Return what an array of one part of a joint target or output is called: "part/name"."""
    return f"{part}{SEPARATOR}{name}"


def parts_of(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return part -> name -> array of arrays that are named "part/name"."""
    found: dict[str, dict[str, Any]] = {}
    for full, array in arrays.items():
        part, _, name = full.partition(SEPARATOR)
        found.setdefault(part, {})[name] = array
    return found


def config_digest(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an encoder's config, in hex: its `digest`."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@runtime_checkable
class Encoder(Protocol):
    """Annotations in, target arrays out. A frozen, picklable value without hidden state."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the network input, pixels."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes; labels lie in [0, num_classes)."""
        ...

    @property
    def spec(self) -> Spec:
        """Name -> (shape, dtype) of one example's target, known before any data."""
        ...

    def encode(self, annotations: Given) -> Target:
        """Return the target of one example, whose annotations are in the frame, or placed in it."""
        ...

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples with a leading batch axis."""
        ...

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> Annotations:
        """Return the objects that one example's target, or prediction, stands for."""
        ...

    def explain(self, annotations: Given) -> Assignment | PointAssignment | JointAssignment:
        """Return what `encode` decided for every object (or point), from the same kernel."""
        ...

    def masks(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
        """Return loss name -> where that loss counts, for one target or a batch."""
        ...

    def pack(self, target: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the dense layout per level, such as "P3" -> (..., H, W, A, 4 + C + 1)."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the encoder that `config()` described."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the config, in hex: identifies the encoder in files."""
        ...


class ObjectEncoder(Encoder, Protocol):
    """An encoder that gives positions to objects."""

    def explain(self, annotations: Given) -> Assignment:
        """Return what `encode` decided for every object and position."""
        ...


class PointEncoder(Encoder, Protocol):
    """An encoder that gives slots of cells to points."""

    def explain(self, annotations: Given) -> PointAssignment:
        """Return what `encode` decided for every point and slot."""
        ...


@runtime_checkable
class JointEncoder(Encoder, Protocol):
    """Several encoders as one: the arrays of each are named "part/name"."""

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """Name -> encoder."""
        ...


def encoders_in(encoder: Encoder) -> Mapping[str, Encoder]:
    """Return name -> encoder of a joint encoder's parts; of another "" -> itself."""
    return encoder.encoders if isinstance(encoder, JointEncoder) else {"": encoder}


def gives_slots_to_points(encoder: Encoder) -> bool:
    """Return whether the encoder is about points: their classes need not be the objects'."""
    return isinstance(encoder.explain(Annotations()), PointAssignment)


@dataclass(frozen=True, eq=False)
class Assignment:
    """What every object got and why, and the state of every position: one encode, explained.

    N objects, A positions (anchors in the grid's flattened order).

    Attributes:
        annotations: the objects, in the pixels of the network input.
        image_size: (height, width) of the network input.
        outcome: N `Outcome`s.
        positives: (N,) int32, positions the object owns.
        forced: (N,) int32, how many of those are forced.
        stolen: (N,) int32, positions that overlap it best and enough, but were forced for others.
        best_iou: (N,) float32, highest IoU with any position; 0 where it was never matched.
        best_position: (N,) int32, the position of that IoU (the first, on ties), -1 without.
        level: (N,) int32, pyramid level of `best_position`, -1 without.
        state: (A,) int8.
        object: (A,) int32, index of the owning object, -1 where the position is not positive.
        forced_positions: (F,) int32, positions that are positive by force only.
        boxes: (A, 4) float32, the positions' boxes (shared with the grid, read-only).
        position_level: (A,) int8, the positions' pyramid level (shared with the grid, read-only).
        positive_iou: the threshold of IoU the encoder used, 0 where it has none; for the words of
            `why`.
        by_cell: whether objects ask for anchors of their own cells (YOLO) instead of for all that
            overlap them; for the words of `why`.
        by_overlap: whether IoU has a part in it; where not (CenterNet, FCOS), best_iou is 0
            throughout and best_position, of those the object could have, the one nearest its centre.
    """

    annotations: Annotations
    image_size: tuple[int, int]
    outcome: tuple[Outcome, ...]
    positives: NDArray[np.int32]
    forced: NDArray[np.int32]
    stolen: NDArray[np.int32]
    best_iou: NDArray[np.float32]
    best_position: NDArray[np.int32]
    level: NDArray[np.int32]
    state: NDArray[np.int8]
    object: NDArray[np.int32]
    forced_positions: NDArray[np.int32]
    boxes: NDArray[np.float32]
    position_level: NDArray[np.int8]
    positive_iou: float
    by_cell: bool = False
    by_overlap: bool = True

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def lost(self) -> tuple[int, ...]:
        """Indices of the objects that teach the network nothing."""
        return tuple(i for i, outcome in enumerate(self.outcome) if outcome in LOST)

    def why(self, index: int) -> str:
        """Say in one sentence what object `index` got, and why."""
        outcome = self.outcome[index]
        n, forced = int(self.positives[index]), int(self.forced[index])
        best, at = float(self.best_iou[index]), f"P{self.level[index]}"
        what = f"best IoU {best:.2f} on {at}" if self.by_overlap else f"on {at}"
        if outcome == "matched" and not self.by_overlap:
            levels = np.unique(self.position_level[self.object == index])
            return (
                f"owns {n} position{'s' * (n != 1)} on {' and '.join(f'P{own}' for own in levels)}"
            )
        if outcome == "matched":
            by_force = f", {forced} of them forced" if forced else ""
            return f"owns {n} position{'s' * (n != 1)}{by_force}; {what}"
        if outcome == "forced" and self.by_cell:
            return (
                f"owns {n} forced position{'s' * (n != 1)}: the anchors it asked for "
                f"({what}) went to others, or none is of its shape"
            )
        if outcome == "forced" and self.positive_iou == 0:
            return (
                f"owns {n} forced position{'s' * (n != 1)} only ({what}): the anchors near "
                "its centre went to other objects, or none is centred in it and overlaps it enough"
            )
        if outcome == "forced":
            return (
                f"owns {n} forced position{'s' * (n != 1)} only: its best IoU, {best:.2f} "
                f"on {at}, is below {self.positive_iou:.2f} or went to another object"
            )
        if outcome == "no-point" and self.by_overlap:
            return (
                f"lost: of the anchors near its centre none is centred in it and overlaps it enough "
                f"({what})"
            )
        return _WORDS[outcome].format(best=best, what=what, threshold=self.positive_iou)

    def __repr__(self) -> str:
        counts = {o: self.outcome.count(o) for o in OUTCOMES if o in self.outcome}
        words = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "no objects"
        n_positive, n_ignore = (int((self.state == s).sum()) for s in (POSITIVE, IGNORE))
        return (
            f"Assignment({words}; {n_positive} positive and {n_ignore} ignored "
            f"of {self.state.size} positions)"
        )

    def _repr_png_(self) -> bytes | None:
        from ytrue import notebook

        return notebook.png(self)


@dataclass(frozen=True, eq=False)
class PointAssignment:
    """What every point got and why, and the state of every slot: one encode, explained.

    M points: the landmarks of the first object, of the second, and so on. L grids, S slots in all:
    grid, row, column, slot of the cell.

    Attributes:
        annotations: the objects, in the pixels of the network input.
        image_size: (height, width) of the network input.
        grid: L (rows, columns).
        slots_per_cell: how many points a cell can hold.
        outcome: M `PointOutcome`s.
        object, landmark: (M,) int32, whose point it is, and which.
        label: (M,) int32, its class.
        cell: (L, M) int32, its cell, counted through all grids; -1 where it has none to be in.
        slot: (L, M) int32, the slot it owns on each grid; -1 where it owns none.
        state: (S,) int8.
        owner: (S,) int32, index of the object whose point the slot holds, -1 without.
    """

    annotations: Annotations
    image_size: tuple[int, int]
    grid: tuple[tuple[int, int], ...]
    slots_per_cell: int
    outcome: tuple[PointOutcome, ...]
    object: NDArray[np.int32]
    landmark: NDArray[np.int32]
    label: NDArray[np.int32]
    cell: NDArray[np.int32]
    slot: NDArray[np.int32]
    state: NDArray[np.int8]
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def positives(self) -> NDArray[np.int32]:
        """(M,) on how many grids the point owns a slot."""
        owns: NDArray[np.int32] = (self.slot >= 0).sum(axis=0, dtype=np.int32)
        return owns

    @property
    def lost(self) -> tuple[int, ...]:
        """Indices of the points that were to be taught and own no slot."""
        return tuple(i for i, outcome in enumerate(self.outcome) if outcome in POINT_LOST)

    def why(self, index: int) -> str:
        """Say in one sentence what point `index` got, and why."""
        outcome = self.outcome[index]
        if outcome == "matched":
            places = [self._place(level, index) for level in range(len(self.grid))]
            return "owns " + ", ".join(place for place in places if place)
        return _POINT_WORDS[outcome]

    def first_cell(self, level: int) -> int:
        """Return the index of a grid's first cell, counted through all grids."""
        return sum(rows * columns for rows, columns in self.grid[:level])

    def _place(self, level: int, index: int) -> str:
        slot = int(self.slot[level, index])
        if slot < 0:
            return ""
        rows, columns = self.grid[level]
        row, column = divmod(slot // self.slots_per_cell - self.first_cell(level), columns)
        return (
            f"slot {slot % self.slots_per_cell} of the cell in row {row}, column {column} of "
            f"{rows}x{columns}"
        )

    def __repr__(self) -> str:
        counts = {o: self.outcome.count(o) for o in POINT_OUTCOMES if o in self.outcome}
        words = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "no points"
        n_positive = int((self.state == POSITIVE).sum())
        return f"PointAssignment({words}; {n_positive} of {self.state.size} slots hold one)"

    def _repr_png_(self) -> bytes | None:
        from ytrue import notebook

        return notebook.png(self)


@dataclass(frozen=True, eq=False)
class JointAssignment:
    """What every object got of each part of a joint encoder.

    Attributes:
        parts: name of the part -> what it decided.
    """

    parts: Mapping[str, Assignment | PointAssignment | JointAssignment]

    def __repr__(self) -> str:
        return f"JointAssignment({', '.join(f'{n}: {p!r}' for n, p in self.parts.items())})"


_POINT_WORDS: Final[dict[str, str]] = {
    "unlabelled": "unlabelled: teaches nothing",
    "hidden": "hidden: left out, as hidden='skip' asks",
    "crowd": "point of a crowd region: teaches nothing",
    "not-finite": "lost: a coordinate is not finite",
    "outside": "lost: outside the frame",
    "padding": "lost: in the padding, outside the image",
    "taken": "lost: every slot it could have had went to a point served before it",
}

_WORDS: Final[dict[str, str]] = {
    "crowd": "crowd region: never matched, the positions it covers are ignored",
    "no-area": "lost: its box has no area",
    "not-finite": "lost: its box has a coordinate that is not finite",
    "outside": "lost: its box lies outside the image",
    "low-iou": "lost: its best IoU is {best:.2f}, below {threshold:.2f}, and none was forced",
    "taken": "lost: every position it could have had ({what}) went to another",
    "padding": "lost: every position it had ({what}) lies in padding",
    "no-point": "lost: no point lies in it, near its centre, on a level of its size",
}
