"""`ytrue train`: a run in a folder, watched."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ytrue.cli import outputs, showing
from ytrue.cli.app import app
from ytrue.cli.failures import INTERRUPTED
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    PresetName,
    Resize,
    check_share,
    print_json,
    resize_mode,
    rich_console,
    silent_start,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Source, reads_data
from ytrue.cli.tasks import Choices, Settings, TaskName, encoder_of
from ytrue.errors import DataError
from ytrue.words import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ytrue.annotations import Example
    from ytrue.datasets.dataset import Dataset
    from ytrue.model.predict import Detector
    from ytrue.model.training import Moment, Watch

log = logging.getLogger("ytrue")


@app.command()
@reads_data
def train(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run; resumed if there.")],
    model: Annotated[
        str, typer.Option("--model", help="d0 to d7, d7x, lite0 to lite4, lite3x, or nano.")
    ] = "d0",
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--pretrained",
            help="lite0-imagenet, an official checkpoint, or a run of yours (its folder, or one of "
            "its .weights.h5).",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="SIDE or HEIGHTxWIDTH; default: the model's.")
    ] = None,
    task: TaskName = "box",
    settings: Settings = None,
    anchor_scale: AnchorScale = None,
    preset: PresetName = "ytrue",
    resize: Resize = "letterbox",
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Dataset that AP is computed on.")
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=2, help="AP on every N-th image by file name, not learnt."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="How many.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 8,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd",
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Of a batch of 64, scaled to yours; default: sgd 0.08, adamw 0.004."),
    ] = None,
    warmup_epochs: Annotated[float, typer.Option(help="Epochs of the rising rate.")] = 1.0,
    weight_decay: Annotated[
        float | None, typer.Option(help="Default: sgd 4e-5 (L2 loss), adamw 1e-4.")
    ] = None,
    clip_norm: Annotated[float, typer.Option(help="Largest norm of the gradients; 0: any.")] = 10.0,
    average: Annotated[
        float, typer.Option(help="Decay of the moving average of weights; 0: none.")
    ] = 0.9998,
    xy_weight: Annotated[
        float, typer.Option("--xy-weight", help="Weight of the keypoints' places in the loss.")
    ] = 1.0,
    mask_weight: Annotated[
        float, typer.Option("--mask-weight", help="Weight of masks in the loss.")
    ] = 1.0,
    freeze_norms: Annotated[
        bool, typer.Option("--freeze-norms", help="Keep the batch norms as they are.")
    ] = False,
    augment: Annotated[str, typer.Option(help="none, flip, mild, light or strong.")] = "light",
    precision: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Epochs between evaluations.")] = 1,
    save_every: Annotated[
        float, typer.Option(help="Seconds between states to resume from, in an epoch.")
    ] = 300.0,
    max_lost: Annotated[
        float, typer.Option(help="Refuse when more than this share of objects owns no anchor.")
    ] = 0.05,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a detector; killed and started again, it goes on where it was.

    Example: ytrue train annotations.json -o run --model lite0 --pretrained lite0-imagenet --hold-out 5
    """
    if validation is not None and hold_out is not None:
        raise ValueError("--validation and --hold-out: choose one")
    check_share("--max-lost", max_lost)
    outputs.folder(out, ("run.json", "state.npz"), force=force)
    learnt, held = _parts(source, validation, hold_out)
    with silent_start():
        from ytrue.model import Recipe
        from ytrue.model import train as train_detector
        from ytrue.model.training import STATE_FILE, LostObjectsError
        from ytrue.model.variants import DETECTORS, known
    spec = DETECTORS[known(DETECTORS, model, "--model")]
    grid = {"anchor_scale": spec.anchor_scale, "max_level": spec.max_level}
    choices = Choices(
        size or str(spec.image_size), preset, anchor_scale, settings, grid, resize_mode(resize)
    )
    encoder = encoder_of(task, choices, learnt)
    recipe = Recipe(
        epochs=epochs, batch_size=batch_size, optimizer=optimizer, learning_rate=learning_rate,  # type: ignore[arg-type]
        warmup_epochs=warmup_epochs, weight_decay=weight_decay, clip_norm=clip_norm,
        average=average, xy_weight=xy_weight, mask_weight=mask_weight, freeze_norms=freeze_norms, augment=augment,
        precision=precision, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        with training_watch(learnt, held, quiet=as_json) as watch:
            train_detector(
                learnt, encoder, out, recipe, variant=model, pretrained=pretrained,
                validation=held, evaluate_every=evaluate_every, save_every=save_every,
                max_lost=max_lost, resize=resize_mode(resize), watch=watch,
            )  # fmt: skip
    except KeyboardInterrupt:
        saved = (out / STATE_FILE).is_file()
        how = "goes on from the last state saved" if saved else "starts anew: no state is saved yet"
        typer.echo(f"ytrue: interrupted; the same command {how} in {out}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except LostObjectsError as error:
        from ytrue import viz

        viz.print_audit(error.report, rich_console())
        typer.echo(f"ytrue: {error}", err=True)
        raise typer.Exit(1) from None
    for why in watch.report.skipped.values():
        typer.echo(f"skipped: {printable(why)}", err=True)
    _show_run(out, as_json=as_json)


def _parts(
    source: Source, validation: Path | None, hold_out: int | None
) -> tuple[Dataset, Dataset | None]:
    """Return what is learnt and what is validated on, and say what was made of splits."""
    from ytrue.datasets.parting import learnt_part, validation_part

    whole, held = source.load_telling(), None
    if validation is not None:
        held = replace(source.at(validation), split=None).load_telling()
    if source.split is not None:  # all of it, also where its images are of other splits, too
        return whole.hold_out(hold_out) if hold_out is not None else (whole, held)
    learnt, said = learnt_part(whole)
    if hold_out is not None:
        learnt, held, on_validation = *learnt.hold_out(hold_out), ""
    else:
        held, on_validation = validation_part(whole, held)
    for words in filter(None, (said, on_validation)):
        typer.echo(words, err=True)
    return learnt, held


def _show_run(out: Path, *, as_json: bool) -> None:
    from ytrue import viz

    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    curve = viz.save_png(viz.show_history(history), out / "history.png")
    if as_json:
        print_json({"run": str(out), "history": history})
        return
    typer.echo(f"wrote {printable(curve)}")
    typer.echo(printable(f"next: ytrue predict {out} IMAGES, or ytrue export {out} -o exported"))


class training_watch:
    """Shows a run: a bar of steps with losses, speed and time left; a line for each epoch."""

    def __init__(self, learnt: Dataset, held: Dataset | None, *, quiet: bool = False) -> None:
        self.learnt, self.held, self.quiet = learnt, held, quiet
        self.stack = ExitStack()
        self.bar: Any = None

    def __enter__(self) -> Watch:
        from ytrue.model.training import Watch

        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                       TextColumn("{task.fields[said]}"))  # fmt: skip
            self.bar = self.stack.enter_context(Progress(*columns, console=Console(stderr=True)))
            self.task = self.bar.add_task("compiling", total=None, said="")
        return Watch(
            resumed=None if self.quiet else self.resumed,
            moment=None if self.bar is None else self.moment,
            epoch=None if self.quiet else self.epoch,
            advice=self.advice,
            pictures=self.pictures,
        )

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def resumed(self, epochs: int) -> None:
        """Say that the folder holds the run, and how far it is."""
        typer.echo(f"the folder holds this run, epochs done: {epochs}", err=True)

    def advice(self, sentence: str) -> None:
        """Say what the run has to say."""
        if self.bar is None:
            typer.echo(sentence, err=True)
        else:
            self.bar.console.print(sentence, highlight=False, markup=False)

    def moment(self, now: Moment) -> None:
        """Move the bar."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in now.losses.items() if value)
        left = f"{now.remaining / 60:.0f} min left" if now.rate else ""
        self.bar.update(
            self.task, description=f"epoch {now.epoch + 1}/{now.epochs}", completed=now.step + 1,
            total=now.steps, said=f"{losses}  {now.rate:.1f} images/s  {left}",
        )  # fmt: skip

    def epoch(self, entry: Mapping[str, Any]) -> None:
        """Print an epoch's line."""
        parts = [f"epoch {entry['epoch']}"]
        parts += [f"{name} {value:.4f}" for name, value in entry["losses"].items() if value]
        parts += [f"{name} {value:.3f}" for name, value in entry["scores"].items()]
        if entry["images_per_second"]:  # an epoch of one step, which compiles, has no speed
            parts.append(f"{entry['images_per_second']:.1f} images/s")
        line = "  ".join(parts)
        if self.bar is None:
            typer.echo(line)
        else:
            self.bar.console.print(line, highlight=False)

    def pictures(self, detector: Detector) -> dict[str, NDArray[np.uint8]]:
        """Return an assignment, and what is found in the first images held out."""
        from ytrue import viz
        from ytrue.model.predict import images_of, predict

        drawn = self._assignments(detector)
        shown = self.learnt if self.held is None else self.held
        sources = images_of(shown, range(min(3, len(shown))))
        row_of = {source.image_id: row for row, source in enumerate(sources)}
        for found in predict(detector, sources, skipped={}, score_threshold=0.3):
            row = row_of[found.image_id]
            figure = viz.show_detections(
                sources[row].read(1), found.detections, classes=detector.classes,
                truth=shown[row].annotations, title=f"image {found.image_id}",
            )  # fmt: skip
            drawn[f"predictions/{found.image_id}"] = viz.picture(figure)
        return drawn

    def _assignments(self, detector: Detector) -> dict[str, NDArray[np.uint8]]:
        """Return what the first image that can be read is encoded as."""
        for row in range(min(10, len(self.learnt))):
            try:
                return self._assignment(detector, self.learnt[row])
            except DataError as error:
                log.warning("no picture of an assignment: %s", error)
        return {}

    def _assignment(self, detector: Detector, example: Example) -> dict[str, NDArray[np.uint8]]:
        from ytrue import viz
        from ytrue.contract import encoders_in
        from ytrue.resizing import place

        size = (example.height, example.width)
        placement = place(size, detector.encoder.image_size, detector.resize)
        frame = showing.frame_of(self.learnt, example, placement)
        placed = placement.apply(example.annotations)
        return {
            f"assignment/{name}" if name else "assignment": viz.picture(
                viz.show_encoding(
                    frame, part, placed, classes=self.learnt.classes, resize=detector.resize
                )
            )
            for name, part in encoders_in(detector.encoder).items()
        }
