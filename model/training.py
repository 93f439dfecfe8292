"""`train`: a dataset, an encoder and a recipe to a detector, in a folder that can be resumed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
import tensorflow as tf

from ytrue.auditing import Audit, audit
from ytrue.contract import Encoder
from ytrue.datasets.augment import NAMED
from ytrue.datasets.parting import learnt_part, validation_part
from ytrue.datasets.tfdata import Report, pipeline
from ytrue.errors import DataError, check_choice, check_count
from ytrue.files import locked, replace_file
from ytrue.jointauditing import JointAudit
from ytrue.model.averaging import WeightAverage
from ytrue.model.efficientdet import EfficientDet
from ytrue.model.events import Events
from ytrue.model.layers import BatchNorm
from ytrue.model.losses import Loss
from ytrue.model.predict import (
    MIN_SCORE,
    RUN_FILE,
    Detector,
    images_of,
    predict,
    read_run,
    without,
)
from ytrue.model.pretrained import PRETRAINED
from ytrue.model.pyramidnet import PyramidNet
from ytrue.model.recipe import Recipe, make_optimizer
from ytrue.model.runstate import load_state, named, save_state
from ytrue.model.step import training_step
from ytrue.model.tasks import build_model, check_learnable, check_scorable, task_of
from ytrue.model.warmstart import own_run, start_from
from ytrue.pointauditing import PointAudit
from ytrue.resizing import ResizeMode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ytrue.datasets.dataset import Dataset

log = logging.getLogger("ytrue")

STATE_FILE: Final = "state.npz"
HISTORY_FILE: Final = "history.json"
LOGS: Final = "logs"
_IDENTITY: Final = (
    "network", "model", "encoder", "classes", "class_ids", "landmarks", "resize", "recipe",
    "pretrained",
)  # fmt: skip
"""What of a run's description must be equal for it to be gone on with, the datasets aside."""


_META: Final = ("epoch", "step", "best", "sums", "history")
"""What a training state holds beside variables."""
LAGGING: Final = 3.0
"""How many times the loss may grow from a batch's own statistics to the running ones."""

AnyAudit = Audit | PointAudit | JointAudit


class LostObjectsError(DataError):
    """Too many objects or points would own nothing: training on them is refused.

    Attributes:
        report: the audit that says which, and why.
    """

    def __init__(self, report: AnyAudit, most: float) -> None:
        self.report = report
        lost, helps = (
            ("objects would own no anchor", "a smaller --anchor-scale helps small objects")
            if isinstance(report, Audit)
            else ("objects or points would own nothing", "a finer grid helps crowded points")
        )
        super().__init__(
            f"{report.lost_share:.1%} of the {lost}, more than the {most:.1%} allowed, so the "
            "detector could not learn them",
            where=report.source,
            do=f"see ytrue audit for the reasons; a larger --size or {helps}, --max-lost allows more",
        )


class DivergedError(ArithmeticError):
    """The loss is no number any more."""

    def __init__(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        said = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        super().__init__(
            f"the loss is no number in epoch {epoch + 1}, step {step + 1} ({said}); start again in "
            "another folder with a lower learning rate or a longer warm-up"
        )


@dataclass(frozen=True)
class Moment:
    """Where a run is, told after every step.

    Attributes:
        epoch, step: that were just done, from 0.
        epochs, steps: how many there are, of the run and of an epoch.
        losses: name -> value of this step.
        rate: images a second of this process, compiling aside.
        remaining: seconds until the end, evaluation aside.
    """

    epoch: int
    step: int
    epochs: int
    steps: int
    losses: Mapping[str, float]
    rate: float
    remaining: float


@dataclass
class Watch:
    """What a run tells while it goes on; every part may be left out.

    Attributes:
        resumed: called with the epochs that are done where the folder holds the run already.
        moment: called after every step.
        epoch: called with the epoch's entry of the history.
        report: counts what augmentation dropped, and lists the images that were skipped.
        advice: called with each sentence that the run has to say: the audit's advice, what starts
            anew of pretrained weights, norms that cannot learn; without it they go to the log.
        pictures: makes the pictures that TensorBoard shows, from the detector, after every epoch
            that is evaluated: name -> (H, W, 3) uint8.
    """

    resumed: Callable[[int], None] | None = None
    moment: Callable[[Moment], None] | None = None
    epoch: Callable[[Mapping[str, Any]], None] | None = None
    report: Report = field(default_factory=Report)
    advice: Callable[[str], None] = log.warning
    pictures: Callable[[Detector], Mapping[str, NDArray[Any]]] | None = None


def train(
    dataset: Dataset,
    encoder: Encoder,
    folder: str | Path,
    recipe: Recipe | None = None,
    *,
    variant: str = "d0",
    pretrained: str | Path | None = None,
    validation: Dataset | None = None,
    evaluate_every: int = 1,
    save_every: float = 300.0,
    max_lost: float = 0.05,
    resize: ResizeMode = "letterbox",
    watch: Watch | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Detector:
    """Train a detector; killed and called again with the same arguments, it goes on.

    So does a run that has ended, with more epochs: along the learning rate of the longer run.

    The folder gets `run.json` (what `Detector.load` reads), `best.weights.h5` (of the epoch of
    highest AP, only with `validation`), `last.weights.h5` (of the last that ended), `history.json` and `logs/` for
    TensorBoard, and meanwhile `state.npz`. With `recipe.deterministic` on one CPU a run that was
    killed at any moment ends with the weights, to the bit, of one that was not.

    Args:
        dataset: what is learnt; where it has splits: its "train" is, and its "val" is validated on.
        encoder: makes the targets, and so says what is learnt (`ytrue.model.tasks`); `image_size`
            is the network's input.
        folder: of the run.
        recipe: the settings; None: google/automl's.
        variant: of `EfficientDet`.
        pretrained: "lite0-imagenet" for the backbone; an official checkpoint of a detector,
            whose class output is left out; a folder of a run of one's own, or one of its
            `.weights.h5`, whose class output is left out where the classes are others; None: random
            weights.
        validation: what AP is computed on, in place of the split "val"; None, and no such split:
            never.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        save_every: seconds between two writings of the state, which is also written after every
            epoch.
        max_lost: share of the objects (or points) that may own no anchor (or slot).
        resize: how images are fitted.
        watch: is told what happens.
        strategy: shares the batches among replicas; None: a MirroredStrategy where this process
            has several GPUs. Under MultiWorkerMirroredStrategy every worker needs a folder of its
            own.

    Returns:
        The detector with the averaged weights of the last epoch (the best ones:
        `Detector.load(folder)`).

    Raises:
        LostObjectsError: more objects than `max_lost` would own no anchor.
        DivergedError: the loss is no number any more.
        DataError: the folder holds another run, or a dataset cannot be used.
        ValueError: arguments that do not go together.
    """
    recipe = Recipe() if recipe is None else recipe
    watch = Watch() if watch is None else watch
    check_count("evaluate_every", evaluate_every)
    if isinstance(recipe.augment, str):
        check_choice("augment", recipe.augment, NAMED)
    if not save_every >= 0:
        raise ValueError(f"save_every={save_every}: expected seconds from 0")
    validation, on_validation = validation_part(dataset, validation)
    dataset, on_learnt = learnt_part(dataset)
    for said in filter(None, (on_learnt, on_validation)):
        watch.advice(said)
    _check(dataset, encoder, validation, max_lost)
    report = audit(dataset, encoder, resize=resize)
    if report.lost_share > max_lost:
        raise LostObjectsError(report, max_lost)
    keras.utils.set_random_seed(recipe.seed)
    strategy = _strategy() if strategy is None else strategy
    if recipe.batch_size < strategy.num_replicas_in_sync:
        raise ValueError(
            f"batch_size={recipe.batch_size}: expected at least one image for each of the "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "training"):
        run = _Run.made(
            dataset, encoder, folder, recipe, variant, pretrained, validation, resize, watch, strategy,
        )  # fmt: skip
        for sentence in report.advice():
            watch.advice(f"audit: {sentence}")
        run.go_on(evaluate_every, save_every)
        return Detector.load(folder, "last")


def _check(dataset: Dataset, encoder: Encoder, validation: Dataset | None, max_lost: float) -> None:
    if not 0 <= max_lost <= 1:
        raise ValueError(f"max_lost={max_lost}: expected a share in [0, 1]")
    if validation is not None and validation.classes != dataset.classes:
        raise DataError(
            f"its classes are {', '.join(validation.classes)}, those of the training data "
            f"{', '.join(dataset.classes)}",
            where=validation.source,
            do="both need the same classes in the same order",
        )
    check_learnable(task_of(encoder), dataset)
    _check_readable(dataset)
    if validation is not None:
        check_scorable(task_of(encoder), validation)


@dataclass
class _Run:
    """A run in a folder: its detector, optimizer and averages, and where it is."""

    detector: Detector
    loss: Loss
    average: WeightAverage | None
    recipe: Recipe
    folder: Path
    dataset: Dataset
    validation: Dataset | None
    watch: Watch
    strategy: Any
    epoch: int = 0
    step: int = 0  # done in this epoch
    best: float = -1.0
    told_of_norms: bool = False
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def made(
        cls, dataset: Dataset, encoder: Encoder, folder: Path, recipe: Recipe, variant: str,
        pretrained: str | Path | None, validation: Dataset | None, resize: ResizeMode, watch: Watch,
        strategy: tf.distribute.Strategy,
    ) -> _Run:  # fmt: skip
        """Return a new run, or the one that the folder holds, where it was."""
        steps = _steps(dataset, recipe)
        with strategy.scope():
            model = _model(encoder, recipe, variant, pretrained, dataset, watch)
            loss = task_of(encoder).loss(encoder, recipe)
            model.compile(make_optimizer(recipe, steps, model), loss, weight_decay=recipe.l2)
            model.optimizer.build(model.trainable_variables)
            average = WeightAverage(model, recipe.average) if recipe.average else None
        detector = Detector(
            model, encoder, dataset.classes, dataset.class_ids, resize, dataset.keypoint_names
        )
        run = cls(detector, loss, average, recipe, folder, dataset, validation, watch, strategy)
        run.resume_or_begin(pretrained)
        return run

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return _steps(self.dataset, self.recipe)

    def resume_or_begin(self, pretrained: str | Path | None) -> None:
        """Take up what the folder holds; write its description where it holds nothing."""
        settings = {
            "recipe": self.recipe.config(),
            "data": _digest(self.dataset),
            "validation": None if self.validation is None else _digest(self.validation),
            "pretrained": None if pretrained is None else str(pretrained),
        }
        file, state = self.folder / RUN_FILE, self.folder / STATE_FILE
        if file.is_file():
            if _check_same(self.folder, self.detector.description() | settings):
                self.detector.save_description(self.folder, **settings)
        elif state.is_file():
            raise DataError(
                f"a training state, but no {RUN_FILE} that says of which run", where=state,
                do="delete it to start anew, or train into another folder",
            )  # fmt: skip
        else:
            self.detector.save_description(self.folder, **settings)
        if state.is_file():
            meta = load_state(state, self.variables(), _META)
            self.epoch, self.step, self.best = meta["epoch"], meta["step"], meta["best"]
            self.sums, self.history = meta["sums"], meta["history"]
            self._write_history()
            if self.watch.resumed is not None:
                self.watch.resumed(self.epoch)

    def variables(self) -> dict[str, Any]:
        """Return everything that a step changes, by name."""
        model = self.detector.model
        return named(
            {
                "model": model.variables,  # the seeds of drop connect as well
                "optimizer": model.optimizer.variables,
                "average": self.average.averages if self.average else [],
                "loss": self.loss.variables,
            }
        )

    def save(self) -> None:
        """Write the state."""
        meta = {name: getattr(self, name) for name in _META}
        save_state(self.folder / STATE_FILE, self.variables(), meta)

    def go_on(self, evaluate_every: int, save_every: float) -> None:
        """Train from where the run is to its end."""
        if self.epoch >= self.recipe.epochs:
            return
        batches = self.batches()
        step = training_step(
            self.detector.model, self.strategy, average=self.average,
            clip_norm=self.recipe.clip_norm, spec=batches.element_spec,
        )  # fmt: skip
        events = Events(self.folder / LOGS)
        clock = _Clock(save_every)
        for batch in self.watch.report.drawn(batches):
            losses = {name: float(value) for name, value in step(batch).items()}
            if not math.isfinite(losses["loss"]):
                raise DivergedError(self.epoch, self.step, losses)
            self.step += 1
            for name, value in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.tell(losses, clock, events)
            if self.step == self.steps:
                self.tell_of_norms(batch, losses, evaluate_every)
                self.end_epoch(evaluate_every, events, clock)
                self.save()
            elif clock.save_is_due():
                self.save()

    def batches(self) -> Any:
        """Return the batches from where the run is."""
        batches = pipeline(
            self.dataset, self.detector.encoder, batch_size=self.recipe.batch_size,
            augment=self.recipe.augment, shuffle=True, seed=self.recipe.seed,
            epochs=self.recipe.epochs, resize=self.detector.resize, on_error="skip",
            start=(self.epoch, self.step), report=self.watch.report,
        )  # fmt: skip
        return self.strategy.experimental_distribute_dataset(batches)

    def tell(self, losses: Mapping[str, float], clock: _Clock, events: Events) -> None:
        """Tell the watcher of a step that was done, and TensorBoard of every tenth."""
        done = self.epoch * self.steps + self.step
        seconds = clock.step_done()
        if done % 10 == 0:
            rate = float(self.detector.model.optimizer.learning_rate)
            events.numbers({**_tagged("train", losses), "train/learning_rate": rate}, done)
        if self.watch.moment is not None:
            left = self.recipe.epochs * self.steps - done
            per_second = self.recipe.batch_size / seconds if seconds else 0.0
            moment = Moment(
                self.epoch, self.step - 1, self.recipe.epochs, self.steps, losses, per_second,
                left * seconds,
            )  # fmt: skip
            self.watch.moment(moment)

    def evaluates(self, every: int) -> bool:
        """Return whether this epoch is evaluated at its end."""
        return self.epoch + 1 == self.recipe.epochs or (self.epoch + 1) % every == 0

    def tell_of_norms(self, batch: Any, trained: Mapping[str, float], evaluate_every: int) -> None:
        """Say, once, that what was learnt is not found again by the norms' running statistics.

        Training norms by its own batch, evaluation by statistics that follow the batches: where
        batches are small or few those lag, and a loss near 0 finds nothing.
        """
        if self.told_of_norms or self.recipe.freeze_norms or not self.evaluates(evaluate_every):
            return
        images, targets = (_of_first_replica(part, self.strategy) for part in batch)
        outputs = self.detector.model(images, training=False)
        found = float(self.loss(targets, outputs, training=False)["loss"])
        learnt = trained["loss"] - trained["l2"]
        if found > LAGGING * learnt:
            self.told_of_norms = True
            self.watch.advice(
                f"the norms lag: the loss of the last batch is {learnt:.3g} by its own statistics, as "
                f"training has it, but {found:.3g} by the running statistics, as evaluation and "
                f"prediction have it. Batch norms learn little from batches of "
                f"{self.recipe.batch_size}, or from few of them: train with --freeze-norms, a larger "
                "--batch-size or more --epochs"
            )

    def end_epoch(self, evaluate_every: int, events: Events, clock: _Clock) -> None:
        """Evaluate, keep the best weights, write the history, and go to the next epoch."""
        entry: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "images_per_second": clock.rate(self.recipe),
            "losses": {name: total / self.steps for name, total in self.sums.items()},
            "scores": {},
        }
        with self.average.applied() if self.average else nullcontext():
            if self.evaluates(evaluate_every):
                entry["scores"] = self.evaluate(events)
            self.detector.save_weights(self.folder, "last")
        self.history.append(entry)
        self._write_history()
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        if self.watch.epoch is not None:
            self.watch.epoch(entry)
        clock.pause_over()

    def _write_history(self) -> None:
        content = json.dumps(self.history, indent=1) + "\n"
        replace_file(self.folder / HISTORY_FILE, lambda out: out.write(content.encode()))

    def evaluate(self, events: Events) -> dict[str, float]:
        """Return the scores of the weights in the model, and keep them if they are the best."""
        scores: dict[str, float] = {}
        if self.validation is not None:
            skipped: dict[Any, str] = {}
            predicted = predict(
                self.detector, images_of(self.validation), batch_size=self.recipe.batch_size,
                skipped=skipped, score_threshold=MIN_SCORE,
            )  # fmt: skip
            found = {one.image_id: one.detections for one in predicted}
            self.validation = without(self.validation, skipped)
            encoder = self.detector.encoder
            scores = task_of(encoder).scores(encoder, self.validation, found)
            decisive = next(iter(scores.values()))
            if decisive > self.best:
                self.best = decisive
                self.detector.save_weights(self.folder, "best")
        step = (self.epoch + 1) * self.steps
        if scores:
            events.numbers(_tagged("validation", scores), step)
        if self.watch.pictures is not None:
            events.pictures(self.watch.pictures(self.detector), step)
        return scores


class _Clock:
    """Times steps, the first of which compiles, and says when the state is to be written."""

    def __init__(self, save_every: float) -> None:
        self._save_every = save_every
        self._saved = self._last = time.perf_counter()
        self._steps, self._seconds, self._first = 0, 0.0, True

    def step_done(self) -> float:
        """Return the mean seconds of a step so far, 0 after the first."""
        now = time.perf_counter()
        if not self._first:
            self._steps += 1
            self._seconds += now - self._last
        self._first, self._last = False, now
        return self._seconds / self._steps if self._steps else 0.0

    def rate(self, recipe: Recipe) -> float:
        """Return images a second."""
        return self._steps * recipe.batch_size / self._seconds if self._seconds else 0.0

    def pause_over(self) -> None:
        """Begin to time again after an evaluation."""
        self._last = self._saved = time.perf_counter()

    def save_is_due(self) -> bool:
        """Return whether the state was last written long enough ago; if so, start anew."""
        now = time.perf_counter()
        due = now - self._saved >= self._save_every
        if due:
            self._saved = now
        return due


def _of_first_replica(part: Any, strategy: Any) -> Any:
    """Return images, or targets by name, of a batch as the first replica has them."""
    if isinstance(part, dict):
        return {name: strategy.experimental_local_results(x)[0] for name, x in part.items()}
    return strategy.experimental_local_results(part)[0]


def _strategy() -> Any:
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _steps(dataset: Dataset, recipe: Recipe) -> int:
    steps = len(dataset) // recipe.batch_size
    if steps == 0:
        raise ValueError(
            f"batch_size={recipe.batch_size} is more than the {len(dataset)} images: take a "
            "smaller one"
        )
    return steps


def _model(
    encoder: Encoder,
    recipe: Recipe,
    variant: str,
    pretrained: str | Path | None,
    dataset: Dataset,
    watch: Watch,
) -> PyramidNet:
    backbone = str(pretrained) if str(pretrained) in PRETRAINED else None
    model = build_model(
        encoder, variant, drop_connect_rate=recipe.drop_connect, pretrained=backbone,
        dtype=keras.dtype_policies.get(recipe.precision),
    )  # fmt: skip
    own = None if pretrained is None or backbone else own_run(pretrained)
    if own is not None:
        for sentence in start_from(model, own, dataset.classes, dataset.keypoint_names):
            watch.advice(sentence)
    elif pretrained is not None and backbone is None:
        if not isinstance(model, EfficientDet):
            raise ValueError(
                f"pretrained={str(pretrained)!r}: official checkpoints are of detectors of boxes; "
                f"expected one of {', '.join(PRETRAINED)}, the folder of a run of ytrue train, or none"
            )
        model.load_official(pretrained, head="skip")
    if recipe.freeze_norms:
        for layer in model._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.trainable = False
    return model


def _check_readable(dataset: Dataset) -> None:
    """Raise DataError if none of the dataset's images can be read; mostly one look is enough."""
    first = ""
    for row in range(len(dataset)):
        (source,) = images_of(dataset, [row])
        try:
            source.read(1)
        except DataError as error:
            first = first or str(error)
        else:
            return
    raise DataError(
        f"none of its {len(dataset)} images can be read; the first: {first}",
        where=dataset.source, do="check where the images lie (--images, images=)",
    )  # fmt: skip


def _check_same(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether the folder's run is the one that is asked for but for more epochs.

    Raises:
        DataError: it is another one.
    """
    there = read_run(folder)
    wanted = json.loads(json.dumps(wanted))
    differs = []
    for name, part in (("training data", "data"), ("validation data", "validation")):
        digests = there.get(part), wanted[part]
        if digests[0] is None and digests[1] is not None:
            differs.append(f"it has no {name}, some are asked for")
        elif digests[1] is None and digests[0] is not None:
            differs.append(f"it has {name}, none are asked for")
        elif digests[0] != digests[1]:
            differs.append(f"its {name} are other images or annotations")
    for name in _IDENTITY:
        differs += _differences(name, there.get(name), wanted[name])
    longer = len(differs) == 1 and _longer(there.get("recipe"), wanted["recipe"])
    if differs and not longer:
        raise DataError(
            f"the folder holds another run: {'; '.join(differs)}", where=folder / RUN_FILE,
            do="train into another folder (--pretrained starts from this run's weights), or with the "
            "settings of that run",
        )  # fmt: skip
    return longer


def _longer(there: Any, wanted: Mapping[str, Any]) -> bool:
    """Return whether a recipe is asked for that has more epochs than a run's."""
    epochs = there.get("epochs") if isinstance(there, dict) else None
    return isinstance(epochs, int) and epochs < wanted["epochs"]


def _differences(name: str, there: Any, wanted: Any) -> list[str]:
    """Return in words where two JSON values differ; of two objects each part that does."""
    if there == wanted:
        return []
    if not isinstance(there, dict) or not isinstance(wanted, dict):
        return [f"{name} {there!r} there, {wanted!r} asked for"]
    return [
        said
        for key in sorted(there.keys() | wanted.keys())
        for said in _differences(f"{name}/{key}", there.get(key), wanted.get(key))
    ]


def _digest(dataset: Dataset) -> str:
    """Return a short digest of images, labels, boxes, keypoints and outlines."""
    objects = dataset.objects
    said = hashlib.sha256(repr(list(dataset.images.ids)).encode())
    columns: list[NDArray[Any]] = [
        objects.image, objects.label, objects.crowd, objects.xywh,
        objects.points, objects.parts, objects.first_part,
    ]  # fmt: skip
    if objects.keypoints is not None:
        columns.append(objects.keypoints)
    for column in columns:
        said.update(np.ascontiguousarray(column).tobytes())
    for row in sorted(objects.rles):
        said.update(repr((row, objects.rles[row])).encode())
    return said.hexdigest()[:16]


def _tagged(group: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}
