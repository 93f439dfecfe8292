"""`PointAudit`: what an encoder of points does with a whole dataset, in numbers and words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import POINT_LOST, POINT_OUTCOMES, POSITIVE, PointAssignment
from ytrue.resizing import ResizeMode, place

if TYPE_CHECKING:
    from collections.abc import Sequence


@runtime_checkable
class NamesLandmarks(Protocol):
    """A dataset that knows what its keypoints are called."""

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """Names, in the order of an object's keypoints."""
        ...


@dataclass(frozen=True, eq=False)
class PointRows:
    """One row for every point of the dataset, M in all, L grids."""

    image: NDArray[np.int32]  # position of the image in the dataset
    object: NDArray[np.int32]  # index of the object in its image
    landmark: NDArray[np.int32]
    label: NDArray[np.int32]  # class
    outcome: NDArray[np.int8]  # place in `POINT_OUTCOMES`
    owns: NDArray[np.bool_]  # (M, L) whether it owns a slot of each grid


@dataclass(frozen=True, eq=False)
class PointAudit:
    """What became of every keypoint of a dataset. Print it, or take the numbers.

    Attributes:
        source: what was audited, in words.
        encoder: the encoder's config.
        image_size: (height, width) of the network input.
        resize: how images were fitted.
        classes: names of the points' classes.
        grid: L (rows, columns).
        image_ids: of all images, in the dataset's order.
        rows: one row for every point.
        image_positives: (I,) slots of each image that hold a point.
        slots: how many an image has.
    """

    source: str
    encoder: Mapping[str, Any] = field(repr=False)
    image_size: tuple[int, int]
    resize: ResizeMode
    classes: tuple[str, ...] = field(repr=False)
    grid: tuple[tuple[int, int], ...]
    image_ids: tuple[int | str, ...] = field(repr=False)
    rows: PointRows = field(repr=False)
    image_positives: NDArray[np.int64] = field(repr=False)
    slots: int

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def num_points(self) -> int:
        """Number of points, unlabelled ones included."""
        return len(self.rows.label)

    @cached_property
    def lost(self) -> NDArray[np.bool_]:
        """(M,) the points that were to be taught and own no slot on any grid."""
        return np.isin(self.rows.outcome, [POINT_OUTCOMES.index(outcome) for outcome in POINT_LOST])

    @cached_property
    def wanted(self) -> NDArray[np.bool_]:
        """(M,) the points that were to be taught: labelled, of no crowd, not skipped."""
        return np.asarray(self.lost | (self.rows.outcome == POINT_OUTCOMES.index("matched")))

    @property
    def lost_share(self) -> float:
        """Share of the points to be taught that own no slot."""
        return int(self.lost.sum()) / max(1, int(self.wanted.sum()))

    @property
    def occupied_share(self) -> float:
        """Share of all slots that hold a point."""
        return float(self.image_positives.sum() / max(1, self.num_images * self.slots))

    def outcomes(self) -> dict[str, int]:
        """Return outcome -> number of points."""
        counts = np.bincount(self.rows.outcome, minlength=len(POINT_OUTCOMES))
        return {name: int(count) for name, count in zip(POINT_OUTCOMES, counts, strict=True)}

    def by_class(self) -> dict[str, dict[str, int]]:
        """Return class -> points to be taught, and how many of them are lost and to collisions."""
        out = {}
        for label, name in enumerate(self.classes):
            chosen = self.rows.label == label
            if chosen.any():
                out[name] = self._summary(chosen)
        return out

    def by_grid(self) -> dict[str, dict[str, int]]:
        """Return grid -> points to be taught, and how many own no slot of that grid."""
        inside = self.wanted & ~np.isin(
            self.rows.outcome, [POINT_OUTCOMES.index(o) for o in POINT_LOST if o != "taken"]
        )
        return {
            f"{rows}x{columns}": {
                "points": int(self.wanted.sum()),
                "lost": int((self.wanted & ~self.rows.owns[:, level]).sum()),
                "taken": int((inside & ~self.rows.owns[:, level]).sum()),
            }
            for level, (rows, columns) in enumerate(self.grid)
        }

    def _summary(self, chosen: NDArray[np.bool_]) -> dict[str, int]:
        return {
            "points": int((chosen & self.wanted).sum()),
            "lost": int((chosen & self.lost).sum()),
            "taken": int((chosen & (self.rows.outcome == POINT_OUTCOMES.index("taken"))).sum()),
        }

    def worst_images(self, count: int = 10) -> list[dict[str, Any]]:
        """Return the images with most lost points; none without any."""
        n = self.num_images
        lost = np.bincount(self.rows.image[self.lost], minlength=n)
        points = np.bincount(self.rows.image[self.wanted], minlength=n)
        order = np.argsort(-lost, kind="stable")[:count]
        return [
            {"image_id": self.image_ids[i], "points": int(points[i]), "lost": int(lost[i])}
            for i in order
            if lost[i]
        ]

    def lost_points(self) -> list[dict[str, Any]]:
        """Return every lost point: image id, object in the image, landmark, class, reason."""
        rows = self.rows
        return [
            {
                "image_id": self.image_ids[rows.image[m]],
                "object": int(rows.object[m]),
                "landmark": int(rows.landmark[m]),
                "class": self.classes[rows.label[m]],
                "reason": POINT_OUTCOMES[rows.outcome[m]],
            }
            for m in np.flatnonzero(self.lost)
        ]

    def advice(self) -> list[str]:
        """Return what to do about it, in sentences; nothing where nothing is to be said."""
        return list(_advice(self))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "source": self.source,
            "encoder": dict(self.encoder),
            "image_size": list(self.image_size),
            "resize": self.resize,
            "images": self.num_images,
            "points": self.num_points,
            "slots_per_image": self.slots,
            "outcomes": self.outcomes(),
            "lost_share": self.lost_share,
            "occupied_share": self.occupied_share,
            "by_grid": self.by_grid(),
            "by_class": self.by_class(),
            "worst_images": self.worst_images(),
            "lost_points": self.lost_points(),
            "advice": self.advice(),
        }

    def _repr_html_(self) -> str:
        from ytrue import notebook

        return notebook.html(self)


class PointLedger:
    """Takes in one `PointAssignment` after another; `rows` are theirs together."""

    def __init__(self, grids: int) -> None:
        self.positives: list[int] = []
        self._blocks: list[tuple[NDArray[Any], ...]] = [
            (*(np.zeros(0, np.int32),) * 5, np.zeros((0, grids), bool))
        ]

    def add(self, assignment: PointAssignment) -> None:
        """Add the points of the next image."""
        image = np.full(len(assignment), len(self.positives))
        outcome = np.array([_PLACE[outcome] for outcome in assignment.outcome], np.int8)
        self._blocks.append(
            (image, assignment.object, assignment.landmark, assignment.label, outcome,
             assignment.slot.T >= 0)
        )  # fmt: skip
        self.positives.append(int((assignment.state == POSITIVE).sum()))

    @property
    def rows(self) -> PointRows:
        """One row for every point so far."""
        image, owner, landmark, label, outcome, owns = (
            np.concatenate(column) for column in zip(*self._blocks, strict=True)
        )
        return PointRows(
            image=image.astype(np.int32),
            object=owner.astype(np.int32),
            landmark=landmark.astype(np.int32),
            label=label.astype(np.int32),
            outcome=outcome.astype(np.int8),
            owns=owns.astype(bool),
        )


def placed_points(example: Example, frame: tuple[int, int], resize: ResizeMode) -> Annotations:
    """Return an example's objects with their keypoints, without outlines, in the frame's pixels."""
    points = example.annotations.replace(polygons=None, masks=None)
    return place((example.height, example.width), frame, resize).apply(points)


def class_names(dataset: object, classes: Sequence[str], encoder: Mapping[str, Any]) -> list[str]:
    """Return the names of the points' classes, numbers where the dataset has none for them."""
    names = list(classes)
    if encoder.get("classes") == "landmark":
        names = list(dataset.keypoint_names) if isinstance(dataset, NamesLandmarks) else []
    count: int = encoder.get("num_classes", len(names))
    return names[:count] + [str(k) for k in range(len(names), count)]


_PLACE: Final = {outcome: place for place, outcome in enumerate(POINT_OUTCOMES)}


def _advice(audit: PointAudit) -> Iterator[str]:
    for rule in _RULES:
        yield from rule(audit)


def _none(audit: PointAudit) -> Iterator[str]:
    if not audit.wanted.any():
        yield "No labelled keypoint in the dataset: a network would learn background only."


def _lost(audit: PointAudit) -> Iterator[str]:
    if audit.lost.any():
        counts = audit.outcomes()
        words = ", ".join(f"{counts[name]} {name}" for name in POINT_LOST if counts[name])
        yield (
            f"{int(audit.lost.sum())} of {int(audit.wanted.sum())} points own no slot and teach "
            f"nothing ({words})."
        )


def _collisions(audit: PointAudit) -> Iterator[str]:
    taken = {name: row["taken"] for name, row in audit.by_grid().items() if row["taken"]}
    if taken:
        words = ", ".join(f"{n} on {name}" for name, n in taken.items())
        yield (
            f"Points lost to others in their cell: {words}. A finer grid or more points in a cell "
            "would keep them: ytrue tune keypoints counts what each choice costs."
        )


_RULES: Final[tuple[Callable[[PointAudit], Iterator[str]], ...]] = (_none, _lost, _collisions)
