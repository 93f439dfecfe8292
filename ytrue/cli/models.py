"""Verbs on detectors: a verb parses, calls one public function and shows what it returned."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ytrue.cli.app import app
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    Data,
    Format,
    Images,
    PresetName,
    Resize,
    Strict,
    check_choice,
    encoder_of,
    load,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
    silent_start,
)  # fmt: skip
from ytrue.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ytrue.datasets.dataset import Dataset
    from ytrue.model.evaluate import Evaluation
    from ytrue.model.predict import Detector, Finder, Found, Source, Timing
    from ytrue.model.training import Moment, Watch

Weights = Annotated[
    str | None, typer.Option("--weights", help="best or last; default: best where there is one.")
]
ScoreThreshold = Annotated[
    float, typer.Option("--score-threshold", help="Lowest score of a detection.")
]
Suppression = Annotated[
    str, typer.Option("--suppression", help="class (rivals are of one class) or global.")
]
Soft = Annotated[
    bool,
    typer.Option("--soft", help="Lower the scores of overlapping boxes, drop none (gaussian)."),
]
IoUThreshold = Annotated[
    float, typer.Option("--iou-threshold", help="Overlap from which one of two boxes falls.")
]
MaxDetections = Annotated[
    int, typer.Option("--max-detections", min=1, help="Most detections of an image.")
]
Runtime = Annotated[
    str, typer.Option("--runtime", help="keras (RUN of ytrue train); saved_model or tflite "
    "(folder of ytrue export).")
]  # fmt: skip


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the run; resumed if there.")],
    model: Annotated[
        str, typer.Option("--model", help="d0 to d7, d7x, lite0 to lite4, or nano.")
    ] = "d0",
    pretrained: Annotated[
        str | None,
        typer.Option("--pretrained", help="lite0-imagenet, or an official checkpoint."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="SIDE or HEIGHTxWIDTH; default: the model's.")
    ] = None,
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
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Train a detector; killed and started again, it goes on where it was.

    Example: ytrue train annotations.json -o run --model lite0 --pretrained lite0-imagenet --hold-out 5
    """
    if validation is not None and hold_out is not None:
        raise ValueError("--validation and --hold-out: choose one")
    learnt = load(data, format, images, strict)
    held: Dataset | None = None
    if validation is not None:
        held = load(validation, format, images, strict)
    elif hold_out is not None:
        learnt, held = learnt.hold_out(hold_out)
    with silent_start():
        from ytrue.model import Recipe
        from ytrue.model import train as train_detector
        from ytrue.model.training import LostObjectsError
        from ytrue.model.variants import DETECTORS, known
    spec = DETECTORS[known(DETECTORS, model, "--model")]
    encoder = encoder_of(
        preset, size or str(spec.image_size), learnt,
        anchor_scale=_anchor_scale(preset, spec.anchor_scale) if anchor_scale is None
        else anchor_scale,
        max_level=spec.max_level,
    )  # fmt: skip
    recipe = Recipe(
        epochs=epochs, batch_size=batch_size, optimizer=optimizer, learning_rate=learning_rate,  # type: ignore[arg-type]
        warmup_epochs=warmup_epochs, weight_decay=weight_decay, clip_norm=clip_norm,
        average=average, freeze_norms=freeze_norms, augment=augment, precision=precision, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        with training_watch(learnt, held, quiet=as_json) as watch:
            train_detector(
                learnt, encoder, out, recipe, variant=model, pretrained=pretrained,
                validation=held, evaluate_every=evaluate_every, save_every=save_every,
                max_lost=max_lost, resize=resize_mode(resize), watch=watch,
            )  # fmt: skip
    except LostObjectsError as error:
        from ytrue import viz

        viz.print_audit(error.report, rich_console())
        typer.echo(f"ytrue: {error}", err=True)
        raise typer.Exit(1) from None
    for why in watch.report.skipped.values():
        typer.echo(f"skipped: {why}", err=True)
    _show_run(out, as_json=as_json)


def _anchor_scale(preset: str, of_model: float) -> float | None:
    """Return the model's, but for presets whose anchors are their own."""
    from ytrue.encoders.presets import PRESETS

    own = preset in PRESETS and "shapes" in PRESETS[preset].grid()
    return None if own else of_model


def _show_run(out: Path, *, as_json: bool) -> None:
    from ytrue import viz

    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    curve = viz.save_png(viz.show_history(history), out / "history.png")
    if as_json:
        print_json({"run": str(out), "history": history})
        return
    typer.echo(f"wrote {curve}")
    typer.echo(f"next: ytrue predict {out} IMAGES, or ytrue export {out} -o exported")


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
            moment=None if self.bar is None else self.moment,
            epoch=None if self.quiet else self.epoch,
            pictures=self.pictures,
        )

    def __exit__(self, *error: object) -> None:
        self.stack.close()

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
        parts += [f"{name} {entry[name]:.4f}" for name in ("loss", "class", "box")]
        parts += [f"{name} {entry[name]:.3f}" for name in ("AP", "AP50") if name in entry]
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
        from ytrue.resizing import place

        example = self.learnt[0]
        placement = place(
            (example.height, example.width), detector.encoder.image_size, detector.resize
        )
        assignment = detector.encoder.explain(placement.apply(example.annotations))
        drawn = {
            "assignment": viz.picture(
                viz.show_assignment(example, assignment, resize=detector.resize)
            )
        }
        shown = self.learnt if self.held is None else self.held
        sources = images_of(shown, range(min(3, len(shown))))
        truth = {shown[row].image_id: shown[row].annotations for row in range(len(sources))}
        read = {source.image_id: source.read for source in sources}
        for found in predict(detector, sources, skipped={}, score_threshold=0.3):
            figure = viz.show_detections(
                read[found.image_id](1), found.detections, classes=detector.classes,
                truth=truth[found.image_id], title=f"image {found.image_id}",
            )  # fmt: skip
            drawn[f"predictions/{found.image_id}"] = viz.picture(figure)
        return drawn


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of ytrue train, or of ytrue export.")],
    sources: Annotated[list[Path] | None, typer.Argument(help="Image files or folders.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="COCO results file to write.")] = Path(
        "detections.json"
    ),
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="Dataset whose image ids to write; without sources all of it."),
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=2, help="Of --ids only what train held out."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder for a picture of each image.")
    ] = None,
    runtime: Runtime = "keras",
    precision: Annotated[
        str, typer.Option("--precision", help="Of tflite: float32, float16 or int8.")
    ] = "float32",
    weights: Weights = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch; tflite: 1.")] = 1,
    score_threshold: ScoreThreshold = 0.05,
    suppression: Suppression = "class",
    soft: Soft = False,
    iou_threshold: IoUThreshold = 0.5,
    max_detections: MaxDetections = 100,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out images that cannot be read; list them.")
    ] = False,
    format: Format = None,
    images: Images = None,
    as_json: AsJson = False,
) -> None:
    """Find objects in images: COCO results, and pictures; says how long it took.

    Example: ytrue predict run photos/ -o detections.json --pictures found
    """
    from ytrue.model.predict import Timing, results
    from ytrue.model.predict import predict as predict_images

    chosen = _sources(sources or [], ids, hold_out, format, images)
    finder = _finder(run, runtime, precision, weights)
    timing = Timing()
    options = _options(suppression, soft, iou_threshold, score_threshold, max_detections)
    skipped: dict[Any, str] | None = {} if skip_broken else None
    read = {source.image_id: source.read for source in chosen}
    with progress_bar("predicting", quiet=as_json) as progress:
        found = []
        for one in predict_images(
            finder, chosen, batch_size=batch_size, timing=timing, progress=progress,
            skipped=skipped, **options,
        ):  # fmt: skip
            found.append(one)
            if pictures is not None:
                _draw(read[one.image_id](1), one, finder, pictures)
    records = results(found, finder.class_ids)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(records) + "\n", encoding="utf-8")
    _say_predicted(out, records, timing, skipped or {}, as_json=as_json)


def _say_predicted(
    out: Path,
    records: list[dict[str, Any]],
    timing: Timing,
    skipped: Mapping[Any, str],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "results": str(out),
                "images": timing.images,
                "detections": len(records),
                "seconds": timing.seconds,
                "milliseconds_per_image": timing.latency,
                "skipped": list(skipped.values()),
            }
        )
        return
    for why in skipped.values():
        typer.echo(f"left out: {why}", err=True)
    typer.echo(timing.words())
    typer.echo(f"wrote {len(records)} detections to {out}")


def _sources(
    paths: list[Path],
    ids: Path | None,
    hold_out: int | None,
    format: str | None,
    images: Path | None,
) -> list[Source]:
    from ytrue.model.predict import image_files, images_of

    if ids is None:
        if not paths:
            raise ValueError("name image files or folders, or a dataset with --ids")
        return image_files(paths)
    dataset = load(ids, format, images, False)
    if hold_out is not None:
        _, dataset = dataset.hold_out(hold_out)
    if not paths:
        return images_of(dataset)
    return images_of(dataset, [dataset.index_of(one.path.name) for one in image_files(paths)])


def _finder(run: Path, runtime: str, precision: str, weights: str | None) -> Finder:
    check_choice("--runtime", runtime, ("keras", "saved_model", "tflite"))
    with silent_start():
        from ytrue.model.predict import Detector

        if runtime == "keras":
            return Detector.load(run, weights).folded()
        from ytrue.model.export import load_export

        finder: Finder = load_export(run, runtime=runtime, precision=precision)  # type: ignore[arg-type]
        return finder


def _options(
    suppression: str, soft: bool, iou_threshold: float, score_threshold: float, most: int
) -> dict[str, Any]:
    check_choice("--suppression", suppression, ("class", "global"))
    return {
        "scope": suppression,
        "method": "gaussian" if soft else "hard",
        "iou_threshold": iou_threshold,
        "score_threshold": score_threshold,
        "max_detections": most,
    }


def _draw(pixels: Any, found: Found, finder: Finder, folder: Path) -> None:
    from ytrue import viz

    figure = viz.show_detections(
        pixels, found.detections, classes=finder.classes, score_threshold=0.3,
        title=str(found.image_id),
    )  # fmt: skip
    # The suffix stays, as dog.jpg may lie beside dog.png.
    name = str(found.image_id).replace("/", "_").replace(".", "_")
    viz.save_png(figure, folder / f"{name}.png")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of ytrue train.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="New folder for the files.")],
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            help="saved_model, float32, float16, int8; may be given again; default: all but int8.",
        ),
    ] = None,
    representative: Annotated[
        Path | None,
        typer.Option("--representative", help="Folder of images, for int8: they set the ranges."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many of those images.")] = 100,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Write a detector for other runtimes: SavedModel and TFLite, decoding inside.

    Example: ytrue export run -o exported --to float32 --to int8 --representative photos/
    """
    formats = tuple(to or ("saved_model", "float32", "float16"))
    with silent_start():
        from ytrue.model.export import export as export_detector
        from ytrue.model.predict import Detector, frames, image_files

        detector = Detector.load(run, weights)
        shown = None
        if representative is not None:
            shown = frames(detector, _spread(image_files([representative]), count))
        export_detector(detector, out, formats, shown)  # type: ignore[arg-type]
    files = sorted(path for path in out.rglob("*") if path.is_file())
    if as_json:
        print_json({str(file.relative_to(out)): file.stat().st_size for file in files})
        return
    for file in files:
        typer.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    typer.echo(f"next: ytrue predict {out} IMAGES --runtime tflite")


def _spread(sources: list[Source], count: int) -> list[Source]:
    step = max(1, len(sources) // count)
    return sources[::step][:count]


@app.command()
def evaluate(
    data: Data,
    results: Annotated[
        Path,
        typer.Argument(help="COCO results file; or a run's folder: its detector is asked."),
    ],
    hold_out: Annotated[
        int | None,
        typer.Option("--hold-out", min=2, help="Only what train held out: every N-th image."),
    ] = None,
    weights: Weights = None,
    score_threshold: Annotated[
        float, typer.Option("--score-threshold", help="Least score in found, missed and mistaken.")
    ] = 0.3,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="PNG of the precision-recall curves.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Folder for the three best and worst images, by F1."),
    ] = None,
    fail_under: Annotated[
        float | None,
        typer.Option("--fail-under", help="Exit code 1 when COCO's AP50 is less or undefined."),
    ] = None,
    format: Format = None,
    images: Images = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare detections with a dataset: COCO's and VOC's AP, and what was found or missed.

    Example: ytrue evaluate annotations.json detections.json --fail-under 0.5
    """
    from ytrue.model.evaluate import evaluate

    dataset = load(data, format, images, strict)
    if hold_out is not None:
        _, dataset = dataset.hold_out(hold_out)
    found: Any = results
    if results.is_dir():
        dataset, found = _predicted(dataset, results, weights, as_json)
    report = evaluate(dataset, found, score_threshold=score_threshold)
    if as_json:
        print_json(report.to_json())
    else:
        from ytrue import viz

        viz.print_evaluation(report, rich_console())
    if out is not None:
        from ytrue import viz

        typer.echo(f"wrote {viz.save_png(viz.show_evaluation(report), out)}", err=as_json)
    if pictures is not None:
        _draw_extremes(dataset, report, found, pictures)
    if fail_under is not None and (report.ap50 is None or report.ap50 < fail_under):
        said = "not defined" if report.ap50 is None else f"{report.ap50:.3f}"
        typer.echo(f"ytrue: AP50 is {said}, expected {fail_under:g} or more", err=True)
        raise typer.Exit(1)


def _draw_extremes(dataset: Dataset, report: Evaluation, found: Any, folder: Path) -> None:
    """Draw the three images of highest and of lowest F1, detections beside the truth."""
    import numpy as np

    from ytrue import viz
    from ytrue.model.evaluating.results import annotations_of
    from ytrue.model.predict import images_of

    order = np.argsort(report.image_f1, kind="stable")
    order = order[~np.isnan(report.image_f1[order])]
    by_image = annotations_of(dataset, found)
    named = [(f"best_{k + 1}", row) for k, row in enumerate(order[::-1][:3])]
    named += [(f"worst_{k + 1}", row) for k, row in enumerate(order[:3])]
    for name, row in named:
        (source,) = images_of(dataset, [int(row)])
        figure = viz.show_detections(
            source.read(1), by_image[row], classes=dataset.classes,
            truth=dataset[row].annotations, score_threshold=report.score_threshold,
            title=f"{source.image_id}: F1 {report.image_f1[row]:.2f}",
        )  # fmt: skip
        viz.save_png(figure, folder / f"{name}.png")


def _predicted(
    dataset: Dataset, run: Path, weights: str | None, quiet: bool
) -> tuple[Dataset, dict[Any, Any]]:
    """Return what a run's detector finds, and the dataset without what cannot be read."""
    finder = _finder(run, "keras", "float32", weights)
    if finder.classes != dataset.classes:
        raise DataError(
            f"the run knows {', '.join(finder.classes)}; the dataset's classes are "
            f"{', '.join(dataset.classes)}",
            where=run,
            do="evaluate on a dataset of the same classes",
        )
    from ytrue.model.predict import MIN_SCORE, images_of, without
    from ytrue.model.predict import predict as predict_images

    skipped: dict[Any, str] = {}
    with progress_bar("predicting", quiet=quiet) as progress:
        predicted = predict_images(
            finder, images_of(dataset), score_threshold=MIN_SCORE, progress=progress,
            skipped=skipped,
        )  # fmt: skip
        found = {one.image_id: one.detections for one in predicted}
    return without(dataset, skipped), found
