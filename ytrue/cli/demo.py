"""`ytrue demo`: the whole job on a sample that it draws itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import progress_bar, rich_console, silent_start
from ytrue.cli.outputs import Force
from ytrue.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from ytrue.datasets.dataset import Dataset
    from ytrue.encoders.anchor import AnchorEncoder
    from ytrue.model.evaluate import Evaluation
    from ytrue.model.predict import Detector

SAMPLE: Final = 600
STEPS: Final = 2200
MODEL: Final = "nano"
SIZE: Final = (192, 256)
ANCHOR_SCALE: Final = 2.0
RECIPE: Final[dict[str, Any]] = {
    "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.16, "augment": "mild",
    "box_weight": 10.0, "drop_connect": 0.0, "average": 0.99,
}  # fmt: skip


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("-o", "--out", help="Where to write everything.")] = Path(
        "ytrue-demo"
    ),
    images: Annotated[
        int, typer.Option("--images", min=16, help="How many images to draw.")
    ] = SAMPLE,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Training steps; 0: no training.")
    ] = STEPS,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample and of the training.")] = 0,
    force: Force = False,
) -> None:
    """Make a sample dataset, find what is wrong with it, encode it, audit it, draw it, learn it.

    Example: ytrue demo -o ytrue-demo
    """
    from ytrue import auditing, datasets, viz
    from ytrue.encoders import preset
    from ytrue.resizing import place

    outputs.folder(folder, ("shapes/shapes.json",), force=force)
    console = rich_console()
    console.rule("1. a sample dataset")
    with progress_bar("drawing images") as progress:
        file = datasets.write_shapes(
            folder / "shapes", num_images=images, seed=seed, bad=True, progress=progress
        )
    _say(
        console, f"wrote {file} ({counted(images, 'image')}), with a few bad annotations on purpose"
    )
    console.rule("2. reading it, as any COCO file")
    dataset = datasets.load(file)
    viz.print_dataset(dataset, console)
    viz.print_problems(dataset, console, examples=1)
    console.rule("3. what a detector would be taught")
    encoder = preset("ytrue", (512, 512), dataset.num_classes)
    with progress_bar("auditing") as progress:
        report = auditing.audit(dataset, encoder, progress=progress)
    viz.print_audit(report, console)
    console.rule("4. pictures")
    with_crowd = next((i for i in range(len(dataset)) if dataset[i].annotations.crowd.any()), 0)
    example = dataset[with_crowd]
    placed = place((example.height, example.width), encoder.image_size, "letterbox").apply(
        example.annotations
    )
    assignment = encoder.explain(placed)
    for name, figure in (
        ("assignment.png", viz.show_assignment(example, assignment)),
        ("levels.png", viz.show_assignment(example, assignment, levels=True)),
        ("object.png", viz.show_assignment(example, assignment, object=0)),
        ("audit.png", viz.show_audit(report)),
    ):
        _say(console, f"wrote {viz.save_picture(figure, folder / name)}")
    _say(console, f"wrote {viz.report_html(report, folder / 'audit.html')}")
    console.rule("5. the first batch")
    _first_batch(dataset, encoder, console)
    if steps:
        console.rule("6. a small detector, taught on half of the sample")
        _train(dataset, folder, steps, seed, console)
    console.rule("next, with your own data")
    for line in (
        "ytrue inspect path/to/annotations.json",
        "ytrue audit path/to/annotations.json --size 512",
        "ytrue show path/to/annotations.json IMAGE -o picture.png",
        "ytrue train path/to/annotations.json -o run --model lite0 --hold-out 5",
    ):
        _say(console, f"  {line}")


def _say(console: Console, line: str) -> None:
    from ytrue.viz.numbers import escape, tell

    tell(console, escape(line))


def _first_batch(dataset: Dataset, encoder: AnchorEncoder, console: Console) -> None:
    from ytrue import datasets

    with silent_start():
        import tensorflow  # noqa: F401
    report = datasets.Report()
    batches = datasets.pipeline(
        dataset, encoder, batch_size=4, augment="light", shuffle=True, images="imagenet",
        on_error="skip", report=report,
    )  # fmt: skip
    pixels, targets = next(iter(batches))
    _say(console, f"  images {tuple(pixels.shape)} {pixels.dtype.name}")
    for name, array in targets.items():
        _say(console, f"  {name} {tuple(array.shape)} {array.dtype.name}")


def _train(dataset: Dataset, folder: Path, steps: int, seed: int, console: Console) -> None:
    """Train on every other image; print the AP on the others before and after."""
    from ytrue.encoders import preset

    with silent_start():
        from ytrue.model import Detector, EfficientDet, Recipe, train
    from ytrue.model.training import Watch

    # Two images are missing on purpose.
    present = dataset.subset(row for row in range(len(dataset)) if dataset[row].path.is_file())
    learnt, held = present.hold_out(2)
    encoder = preset("ytrue", SIZE, dataset.num_classes, anchor_scale=ANCHOR_SCALE)
    untrained = Detector(
        EfficientDet(MODEL, dataset.num_classes), encoder, dataset.classes, dataset.class_ids
    )
    before = _score(held, untrained)
    epochs = max(1, round(steps * RECIPE["batch_size"] / len(learnt)))
    start = time.perf_counter()
    with progress_bar("training") as progress:
        watch = Watch(
            moment=None if progress is None
            else lambda now: progress(now.epoch * now.steps + now.step + 1, now.epochs * now.steps)
        )  # fmt: skip
        detector = train(
            learnt, encoder, folder / "run", Recipe(epochs=epochs, seed=seed, **RECIPE),
            variant=MODEL, evaluate_every=epochs, watch=watch,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    after = _score(held, detector)
    _say(
        console,
        f"  {MODEL} at {SIZE[0]} x {SIZE[1]} on {len(learnt)} images, {epochs} epochs, {seconds:.0f} s",
    )
    for name in ("AP50", "AP"):
        _say(
            console,
            f"  {name} on the {len(held)} images held out: {before.coco[name]:.3f} before, "
            f"{after.coco[name]:.3f} after",
        )
    _say(console, f"wrote {_picture(held, detector, folder / 'found.png')}")


def _score(held: Dataset, detector: Detector) -> Evaluation:
    from ytrue.model.evaluate import evaluate
    from ytrue.model.predict import MIN_SCORE, images_of, predict

    found = predict(detector, images_of(held), batch_size=8, score_threshold=MIN_SCORE)
    return evaluate(held, {one.image_id: one.detections for one in found})


def _picture(held: Dataset, detector: Detector, file: Path) -> Path:
    from ytrue import viz
    from ytrue.model.predict import images_of, predict

    (source,) = images_of(held, [1])
    (found,) = predict(detector, [source], score_threshold=0.3)
    figure = viz.show_detections(
        source.read(1), found.detections, classes=detector.classes, truth=held[1].annotations
    )
    return viz.save_picture(figure, file)
