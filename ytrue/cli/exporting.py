"""`ytrue export`: a detector for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ytrue.cli.app import app
from ytrue.cli.options import AsJson, print_json, silent_start
from ytrue.cli.predicting import Weights
from ytrue.words import printable

if TYPE_CHECKING:
    from ytrue.model.predict import Source


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
    if "int8" in formats and representative is None:
        raise ValueError("--to int8 needs --representative FOLDER: its images set the 8-bit ranges")
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
        typer.echo(f"wrote {printable(file)} ({file.stat().st_size / 1e6:.1f} MB)")
    lite = [name for name in ("float32", "float16", "int8") if name in formats]
    how = f"tflite --precision {lite[0]}" if lite else "saved_model"
    typer.echo(f"next: ytrue predict {out} IMAGES --runtime {how}")


def _spread(sources: list[Source], count: int) -> list[Source]:
    """Return at most `count` of them, from the first to the last at even steps."""
    chosen = min(count, len(sources))
    return [sources[k * len(sources) // chosen] for k in range(chosen)]
