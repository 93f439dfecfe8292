"""`ytrue compare`: several encoders on one dataset, as a table, JSON and a page with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AsJson,
    Resize,
    Size,
    check_choice,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Source, reads_data
from ytrue.cli.showing import frame_of
from ytrue.cli.tasks import TASK_BUILDERS, Choices, Settings, encoder_named, settings_for
from ytrue.words import counted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ytrue.contract import Encoder
    from ytrue.datasets.dataset import Dataset
    from ytrue.resizing import ResizeMode


@app.command()
@reads_data
def compare(
    source: Source,
    names: Annotated[
        str,
        typer.Option(
            "--with",
            help="Presets (ytrue, efficientdet, retinanet, keras_hub, atss, center_prior) and tasks "
            "(box, yolo, fcos, centernet, polygon, mask), with commas between.",
        ),
    ] = "ytrue,efficientdet,atss,yolo,fcos,centernet",
    size: Size = "512",
    settings: Settings = None,
    resize: Resize = "letterbox",
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page with pictures.")
    ] = None,
    images_shown: Annotated[
        int,
        typer.Option("--images-shown", min=0, help="Images on the page: those with most objects."),
    ] = 3,
    force: Force = False,
) -> None:
    """Encode the same images with several encoders and set what they teach side by side.

    Example: ytrue compare annotations.json --with ytrue,fcos,yolo --html compare.html
    """
    from ytrue import comparing

    chosen = _names_in(names)
    if html is not None:
        outputs.page(html, force=force)
    dataset = source.load()
    comparing.check_objects(dataset)
    mode = resize_mode(resize)
    given = _settings_of(chosen, settings or ())
    encoders = {
        name: _encoder(name, Choices(size, resize=mode, settings=given[name]), dataset)
        for name in chosen
    }
    with progress_bar("comparing", quiet=as_json) as progress:
        comparison = comparing.compare(dataset, encoders, resize=mode, progress=progress)
    if as_json:
        print_json(comparison.to_json())
    else:
        from ytrue import viz

        viz.print_comparison(comparison, rich_console())
    if html is not None:
        from ytrue import viz

        shown = comparison.busiest(images_shown)
        pictures = (
            (_heading(dataset, image), _drawn(dataset, image, encoders, mode)) for image in shown
        )
        page = viz.comparison_html(comparison, html, pictures=pictures)
        typer.echo(f"wrote {printable(page)}", err=as_json)


def _encoder(name: str, choices: Choices, dataset: Dataset) -> Encoder:
    """Return the encoder of a name; an error says whose it is, and how to do without."""
    try:
        return encoder_named(name, choices, dataset)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; or leave {name} out of --with") from error


def _settings_of(names: Sequence[str], texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what each encoder is set to: each takes the settings it knows.

    Raises:
        ValueError: a setting that none of them knows.
    """
    given = {name: settings_for(name, texts) for name in names}
    for text in texts:
        if not any(text in own for own in given.values()):
            raise ValueError(f"--set {text}: none of {', '.join(names)} takes it")
    return given


def _names_in(names: str) -> list[str]:
    """Return the names between the commas.

    Raises:
        ValueError: none, an unknown one, one of points, or one that comes twice.
    """
    from ytrue.encoders import PRESETS
    from ytrue.model.evaluating.kinds import FINDS

    of_objects = (name for name in TASK_BUILDERS if FINDS[name] in ("box", "mask"))
    known = tuple(dict.fromkeys((*PRESETS, *of_objects)))
    found = [name.strip() for name in names.split(",")]
    for name in found:
        check_choice("--with", name, known)
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"--with {names}: {', '.join(twice)} more than once")
    return found


def _heading(dataset: Dataset, image: int) -> str:
    example = dataset[image]
    count = counted(len(example.annotations), "object")
    return f"{example.path.name or example.image_id}: {count}"


def _drawn(
    dataset: Dataset, image: int, encoders: Mapping[str, Encoder], resize: ResizeMode
) -> Iterator[tuple[str, Figure]]:
    """Draw one image under each encoder, one at a time."""
    from ytrue import viz
    from ytrue.resizing import place

    example = dataset[image]
    for name, encoder in encoders.items():
        placement = place((example.height, example.width), encoder.image_size, resize)
        figure = viz.show_encoding(
            frame_of(dataset, example, placement), encoder, placement.apply(example.annotations),
            classes=dataset.classes, resize=resize,
        )  # fmt: skip
        yield name, figure
