"""`audit`: what an encoder does with a whole dataset, in numbers and words, without its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import (
    IGNORE,
    LOST,
    OUTCOMES,
    POSITIVE,
    Assignment,
    Encoder,
    JointEncoder,
    ObjectEncoder,
    PointAssignment,
    PointEncoder,
)
from ytrue.jointauditing import JointAudit
from ytrue.pointauditing import PointAudit, PointLedger, class_names, placed_points
from ytrue.resizing import ResizeMode, place

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE_BINS: Final = (
    ("tiny", 0.0, 12.0),
    ("small", 12.0, 32.0),
    ("medium", 32.0, 96.0),
    ("large", 96.0, np.inf),
)
"""Name, from, to: square root of the box area, in pixels of the network input."""
RATIO_BINS: Final = (
    ("taller than 1:3", 0.0, 1 / 3), ("1:3 to 1:1.5", 1 / 3, 1 / 1.5), ("about square", 1 / 1.5, 1.5),
    ("1.5:1 to 3:1", 1.5, 3.0), ("wider than 3:1", 3.0, np.inf),
)  # fmt: skip
"""Name, from, to: width / height."""
OWNED_BINS: Final = (("0", 0, 0), ("1", 1, 1), ("2-5", 2, 5), ("6-20", 6, 20), ("more", 21, 2**31))
"""Name, from, to (inclusive): positions that an object owns."""


class Examples(Protocol):
    """What `audit` asks of a dataset."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in label order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True, eq=False)
class ObjectRows:
    """One row for every object of the dataset, M in all; lengths in network input pixels."""

    image: NDArray[np.int32]  # position of the image in the dataset
    index: NDArray[np.int32]  # of the object in its image
    label: NDArray[np.int32]
    height: NDArray[np.float32]
    width: NDArray[np.float32]
    outcome: NDArray[np.int8]  # place in `OUTCOMES`
    positives: NDArray[np.int32]
    forced: NDArray[np.int32]
    stolen: NDArray[np.int32]
    best_iou: NDArray[np.float32]
    level: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Audit:
    """The assignment of a whole dataset. Show it in a notebook, print it, or take the numbers.

    Attributes:
        source: what was audited, in words.
        encoder: the encoder's config.
        image_size: (height, width) of the network input.
        resize: how images were fitted.
        classes: names, in label order.
        image_ids: of all images, in the dataset's order.
        rows: one row for every object.
        image_positives, image_ignored: (I,) positions of each image in that state.
        positions: how many an image has.
        by_overlap: whether IoU has a part in the assignment; where not, nothing is said of it.
        by_cell: whether objects ask for anchors of their own cells, as `Assignment` has it.
    """

    source: str
    encoder: Mapping[str, Any] = field(repr=False)
    image_size: tuple[int, int]
    resize: ResizeMode
    classes: tuple[str, ...] = field(repr=False)
    image_ids: tuple[int | str, ...] = field(repr=False)
    rows: ObjectRows = field(repr=False)
    image_positives: NDArray[np.int64] = field(repr=False)
    image_ignored: NDArray[np.int64] = field(repr=False)
    positions: int
    by_overlap: bool = True
    by_cell: bool = False

    @property
    def box_encoder(self) -> Mapping[str, Any]:
        """Config of what gives boxes their positions: the encoder, or the part of it that does."""
        config: Mapping[str, Any] = self.encoder.get("boxes", self.encoder)
        return config

    @property
    def level_word(self) -> str:
        """What an object's level is of: its "best anchor", or its "cell"."""
        return "best anchor" if self.by_overlap else "cell"

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    @property
    def num_objects(self) -> int:
        """Number of objects, crowds included."""
        return len(self.rows.label)

    @cached_property
    def matchable(self) -> NDArray[np.bool_]:
        """(M,) the objects that are no crowd."""
        return np.asarray(self.rows.outcome != OUTCOMES.index("crowd"))

    @cached_property
    def lost(self) -> NDArray[np.bool_]:
        """(M,) the objects that teach the network nothing."""
        return np.isin(self.rows.outcome, [OUTCOMES.index(outcome) for outcome in LOST])

    @property
    def lost_share(self) -> float:
        """Share of the objects (crowds aside) that own no position."""
        return _share(self.lost[self.matchable])

    @property
    def forced_share(self) -> float:
        """Share of the objects (crowds aside) that own forced positions only."""
        return _share((self.rows.outcome == OUTCOMES.index("forced"))[self.matchable])

    @property
    def ignored_share(self) -> float:
        """Share of all positions that are ignored."""
        return float(self.image_ignored.sum() / max(1, self.num_images * self.positions))

    @cached_property
    def size(self) -> NDArray[np.float64]:
        """(M,) square root of each box's area, pixels of the network input; 0 without area."""
        sides = np.maximum(np.stack((self.rows.height, self.rows.width)).astype(np.float64), 0)
        return np.asarray(np.sqrt(np.nan_to_num(sides[0] * sides[1])))

    @cached_property
    def ratio(self) -> NDArray[np.float64]:
        """(M,) width / height, nan without area."""
        height, width = self.rows.height.astype(np.float64), self.rows.width.astype(np.float64)
        good = (height > 0) & (width > 0)
        ratio = np.full(len(height), np.nan)
        ratio[good] = width[good] / height[good]
        return ratio

    def outcomes(self) -> dict[str, int]:
        """Return outcome -> number of objects."""
        counts = np.bincount(self.rows.outcome, minlength=len(OUTCOMES))
        return {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True)}

    def owned(self) -> dict[str, int]:
        """Return how many objects (crowds aside) own 0, 1, 2-5, ... positions."""
        n = self.rows.positives[self.matchable]
        return {name: int(((n >= low) & (n <= high)).sum()) for name, low, high in OWNED_BINS}

    def by_size(self) -> dict[str, dict[str, float]]:
        """Return bin -> summary of the objects of that size."""
        return {
            f"{name} (< {high:g} px)"
            if np.isfinite(high)
            else f"{name} (>= {low:g} px)": self._summary((self.size >= low) & (self.size < high))
            for name, low, high in SIZE_BINS
        }

    def by_ratio(self) -> dict[str, dict[str, float]]:
        """Return bin -> summary of the objects of that aspect ratio (width : height)."""
        return {
            name: self._summary((self.ratio >= low) & (self.ratio < high))
            for name, low, high in RATIO_BINS
        }

    def by_level(self) -> dict[str, dict[str, float]]:
        """Return level of the best position -> summary of the objects."""
        levels = sorted(int(level) for level in np.unique(self.rows.level) if level >= 0)
        return {f"P{level}": self._summary(self.rows.level == level) for level in levels}

    def by_class(self) -> dict[str, dict[str, float]]:
        """Return class -> summary, with its share of objects and of positive positions."""
        total = max(1, int(self.matchable.sum()))
        positives = max(1, int(self.rows.positives.sum()))
        out = {}
        for label, name in enumerate(self.classes):
            chosen = self.rows.label == label
            if not chosen.any():
                continue
            out[name] = self._summary(chosen) | {
                "share_of_objects": float((chosen & self.matchable).sum() / total),
                "share_of_positives": float(self.rows.positives[chosen].sum() / positives),
            }
        return out

    def _summary(self, chosen: NDArray[np.bool_]) -> dict[str, float]:
        chosen = chosen & self.matchable
        best = self.rows.best_iou[chosen & self.by_overlap]
        quantiles = np.quantile(best, (0.1, 0.5, 0.9)) if best.size else np.full(3, np.nan)
        return {
            "objects": int(chosen.sum()),
            "lost": int(self.lost[chosen].sum()),
            "forced": int((self.rows.outcome[chosen] == OUTCOMES.index("forced")).sum()),
            "positives": int(self.rows.positives[chosen].sum()),
            "best_iou_p10": float(quantiles[0]),
            "best_iou_median": float(quantiles[1]),
            "best_iou_p90": float(quantiles[2]),
        }

    def worst_images(self, count: int = 10) -> list[dict[str, Any]]:
        """Return the images with most lost, then most forced objects; none without any."""
        n = self.num_images
        lost = np.bincount(self.rows.image[self.lost], minlength=n)
        is_forced = self.rows.outcome == OUTCOMES.index("forced")
        forced = np.bincount(self.rows.image[is_forced], minlength=n)
        objects = np.bincount(self.rows.image, minlength=n)
        order = np.lexsort((np.arange(n), -forced, -lost))[:count]
        return [
            {
                "image_id": self.image_ids[i],
                "objects": int(objects[i]),
                "lost": int(lost[i]),
                "forced": int(forced[i]),
            }
            for i in order
            if lost[i] or forced[i]
        ]

    def lost_objects(self) -> list[dict[str, Any]]:
        """Return every lost object: image id, index in the image, class, reason, size.

        And its best IoU, where that has a part in the assignment (`by_overlap`).
        """
        rows = self.rows
        return [
            {
                "image_id": self.image_ids[rows.image[m]],
                "object": int(rows.index[m]),
                "class": self.classes[rows.label[m]],
                "reason": OUTCOMES[rows.outcome[m]],
                **({"best_iou": round(float(rows.best_iou[m]), 4)} if self.by_overlap else {}),
                "size": round(float(self.size[m]), 1),
            }
            for m in np.flatnonzero(self.lost)
        ]

    def advice(self) -> list[str]:
        """Return what to do about it, in sentences; nothing where nothing is to be said."""
        from ytrue.advising import advise

        return advise(self)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values (nan as None)."""
        plain = {
            "source": self.source,
            "encoder": dict(self.encoder),
            "image_size": list(self.image_size),
            "resize": self.resize,
            "images": self.num_images,
            "objects": self.num_objects,
            "positions_per_image": self.positions,
            "outcomes": self.outcomes(),
            "owned": self.owned(),
            "lost_share": self.lost_share,
            "forced_share": self.forced_share,
            "ignored_share": self.ignored_share,
            "by_size": self.by_size(),
            "by_ratio": self.by_ratio(),
            "by_level": self.by_level(),
            "by_class": self.by_class(),
            "worst_images": self.worst_images(),
            "lost_objects": self.lost_objects(),
            "advice": self.advice(),
        }
        cleaned: dict[str, Any] = _without_nan(plain)
        return cleaned

    def _repr_html_(self) -> str:
        from ytrue import notebook

        return notebook.html(self)


@overload
def audit(
    dataset: Examples,
    encoder: ObjectEncoder,
    *,
    resize: ResizeMode = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> Audit: ...
@overload
def audit(
    dataset: Examples,
    encoder: PointEncoder,
    *,
    resize: ResizeMode = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> PointAudit: ...
@overload
def audit(
    dataset: Examples,
    encoder: JointEncoder,
    *,
    resize: ResizeMode = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> JointAudit: ...
@overload
def audit(
    dataset: Examples,
    encoder: Encoder,
    *,
    resize: ResizeMode = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> Audit | PointAudit | JointAudit: ...
def audit(
    dataset: Examples,
    encoder: Encoder,
    *,
    resize: ResizeMode = "letterbox",
    progress: Callable[[int, int], None] | None = None,
) -> Audit | PointAudit | JointAudit:
    """Encode every image's annotations and account for every object or point; no pixels are read.

    Args:
        dataset: `len`, `[i]` -> Example, `classes`.
        encoder: any encoder.
        resize: how images are fitted into the network input, as in the pipeline.
        progress: called with (images done, images in all), now and then.

    Returns:
        An `Audit` where `encoder.explain` returns an `Assignment`, a `PointAudit` where it returns
        a `PointAssignment`, a `JointAudit` of a joint encoder.

    Raises:
        ValueError: the encoder knows fewer classes than the dataset has.

    Example:
        report = ytrue.audit(dataset, ytrue.encoders.preset("ytrue", (512, 512), dataset.num_classes))
        report.lost_share, report.advice()
    """
    if isinstance(encoder, JointEncoder):
        return JointAudit(
            {
                name: audit(dataset, part, resize=resize, progress=progress)
                for name, part in encoder.encoders.items()
            }
        )
    first = encoder.explain(Annotations())
    if isinstance(first, PointAssignment):
        return _audit_points(dataset, encoder, first, resize, progress)
    if encoder.num_classes < len(dataset.classes):
        raise ValueError(
            f"the encoder knows {encoder.num_classes} classes, the dataset has "
            f"{len(dataset.classes)}: build it with num_classes={len(dataset.classes)}"
        )
    assert isinstance(first, Assignment)  # neither points nor parts
    blocks, image_ids, positives, ignored = [], [], [], []
    for index, example in _examples(dataset, progress):
        assignment = encoder.explain(_placed(example, encoder.image_size, resize))
        assert isinstance(assignment, Assignment)  # an encoder explains in one way
        image_ids.append(example.image_id)
        positives.append(np.count_nonzero(assignment.state == POSITIVE))
        ignored.append(np.count_nonzero(assignment.state == IGNORE))
        if len(assignment):
            blocks.append(_block(index, assignment))
    return Audit(
        source=repr(dataset),
        encoder=encoder.config(),
        image_size=encoder.image_size,
        resize=resize,
        classes=tuple(dataset.classes),
        image_ids=tuple(image_ids),
        rows=_join(blocks),
        image_positives=np.array(positives, np.int64),
        image_ignored=np.array(ignored, np.int64),
        positions=first.state.size,
        by_overlap=first.by_overlap,
        by_cell=first.by_cell,
    )


def _audit_points(
    dataset: Examples,
    encoder: Encoder,
    first: PointAssignment,
    resize: ResizeMode,
    progress: Callable[[int, int], None] | None,
) -> PointAudit:
    ledger, image_ids = PointLedger(len(first.grid)), []
    for _, example in _examples(dataset, progress):
        assignment = encoder.explain(placed_points(example, encoder.image_size, resize))
        assert isinstance(assignment, PointAssignment)  # an encoder explains in one way
        image_ids.append(example.image_id)
        ledger.add(assignment)
    return PointAudit(
        source=repr(dataset),
        encoder=encoder.config(),
        image_size=encoder.image_size,
        resize=resize,
        classes=tuple(class_names(dataset, dataset.classes, encoder.config())),
        grid=first.grid,
        image_ids=tuple(image_ids),
        rows=ledger.rows,
        image_positives=np.array(ledger.positives, np.int64),
        slots=first.state.size,
    )


def _examples(
    dataset: Examples, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[int, Example]]:
    for index in range(len(dataset)):
        yield index, dataset[index]
        if progress and (index % 64 == 63 or index + 1 == len(dataset)):
            progress(index + 1, len(dataset))


def _placed(example: Example, frame: tuple[int, int], resize: ResizeMode) -> Annotations:
    # Outlines and keypoints decide nothing here; only crowds' masks do.
    annotations = example.annotations
    if annotations.polygons is not None or annotations.keypoints is not None:
        annotations = annotations.replace(polygons=None, keypoints=None)
    if annotations.masks is not None:
        masks = [
            m if c else None for m, c in zip(annotations.masks, annotations.crowd, strict=True)
        ]
        annotations = annotations.replace(masks=masks if any(masks) else None)
    return place((example.height, example.width), frame, resize).apply(annotations)


_TYPES: Final = {
    "image": np.int32, "index": np.int32, "label": np.int32, "height": np.float32,
    "width": np.float32, "outcome": np.int8, "positives": np.int32, "forced": np.int32,
    "stolen": np.int32, "best_iou": np.float32, "level": np.int32,
}  # fmt: skip
_PLACE: Final = {outcome: place for place, outcome in enumerate(OUTCOMES)}


def _block(image: int, assignment: Assignment) -> tuple[Iterable[Any], ...]:
    boxes = assignment.annotations.boxes
    n = len(assignment)
    return (
        np.full(n, image),
        np.arange(n),
        assignment.annotations.labels,
        boxes[:, 2] - boxes[:, 0],
        boxes[:, 3] - boxes[:, 1],
        np.array([_PLACE[outcome] for outcome in assignment.outcome]),
        assignment.positives,
        assignment.forced,
        assignment.stolen,
        assignment.best_iou,
        assignment.level,
    )


def _join(blocks: Sequence[tuple[Iterable[Any], ...]]) -> ObjectRows:
    columns = zip(*blocks, strict=True) if blocks else ((np.zeros(0),) for _ in _TYPES)
    return ObjectRows(
        **{
            name: np.concatenate([np.asarray(part) for part in column]).astype(dtype)
            for (name, dtype), column in zip(_TYPES.items(), columns, strict=True)
        }
    )


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if mask.size else 0.0


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
