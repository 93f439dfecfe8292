"""`ytrue tune`: an encoder's parameters from the statistics of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AsJson,
    Resize,
    Size,
    check_choice,
    check_share,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
    sides_of,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Source, reads_data
from ytrue.words import printable

tune = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Choose an encoder's parameters from the statistics of a dataset. "
    "Example: ytrue tune keypoints person_keypoints_train2017.json",
)
app.add_typer(tune, name="tune")


@tune.command("keypoints")
@reads_data
def tune_keypoints(
    source: Source,
    size: Size = "512",
    strides: Annotated[
        str, typer.Option("--strides", help="Pixels of a cell's side, with commas between.")
    ] = "4,8,16,32,64",
    points: Annotated[
        str, typer.Option("--points", help="Points in a cell, with commas between.")
    ] = "1,2,3,4,6,8",
    slots: Annotated[
        str, typer.Option("--slots", help="any, or fixed: a slot for each landmark.")
    ] = "any",
    classes: Annotated[
        str, typer.Option("--classes", help="What a point's class is: landmark or object.")
    ] = "landmark",
    hidden: Annotated[
        str, typer.Option("--hidden", help="Hidden points: teach or skip.")
    ] = "teach",
    lost: Annotated[
        float, typer.Option("--lost", help="Share of the points that may be lost to collisions.")
    ] = 0.01,
    resize: Resize = "letterbox",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also draw it (.png, .jpg, .svg, .pdf).")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Count which keypoints each grid of cells would lose, and recommend the smallest that will do.

    Example: ytrue tune keypoints person_keypoints_train2017.json --size 512 --lost 0.005
    """
    from ytrue import tuning

    words: dict[str, Any] = {"slots": slots, "classes": classes, "hidden": hidden}
    for name, allowed in (
        ("slots", ("any", "fixed")),
        ("classes", ("landmark", "object")),
        ("hidden", ("teach", "skip")),
    ):
        check_choice(f"--{name}", words[name], allowed)
    check_share("--lost", lost)
    if out is not None:
        outputs.picture(out, force=force)
    dataset = source.load()
    with progress_bar("counting points", quiet=as_json) as progress:
        found = tuning.tune_keypoints(
            dataset, sides_of(size), strides=_numbers("--strides", strides),
            points_per_cell=_numbers("--points", points), max_lost=lost, resize=resize_mode(resize),
            progress=progress, **words,
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        from ytrue import viz

        viz.print_tuning(found, rich_console())
    if out is not None:
        from ytrue import viz

        typer.echo(f"wrote {printable(viz.save_picture(viz.show_tuning(found), out))}", err=as_json)


def _numbers(option: str, text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and len(word) < 10 and int(word) > 0 for word in words):
        raise ValueError(f"{option} {text}: expected whole numbers above 0, such as 4,8,16")
    return [int(word) for word in words]


@tune.command("polygons")
@reads_data
def tune_polygons(
    source: Source,
    size: Size = "416",
    bins: Annotated[
        str, typer.Option("--bins", help="Numbers of bins to try, with commas between.")
    ] = "12,16,24,36,48",
    part_rule: Annotated[
        str, typer.Option("--part-rule", help="Of several parts: largest, or the hull of all.")
    ] = "largest",
    points: Annotated[
        str,
        typer.Option(
            "--points",
            help="vertices: bins without one are empty; outline: they hold a point of the outline.",
        ),
    ] = "outline",
    loss: Annotated[
        float, typer.Option("--loss", help="Mean IoU that fewer bins may cost.")
    ] = 0.01,
    resize: Resize = "letterbox",
    as_json: AsJson = False,
) -> None:
    """Measure how close polygons of so many bins come to the objects, and recommend a number.

    Example: ytrue tune polygons instances_train2017.json --size 416 --bins 16,24,36
    """
    from ytrue import polygontuning

    check_choice("--part-rule", part_rule, ("largest", "hull"))
    check_choice("--points", points, ("vertices", "outline"))
    check_share("--loss", loss)
    dataset = source.load()
    with progress_bar("drawing outlines", quiet=as_json) as progress:
        found = polygontuning.tune_polygons(
            dataset, sides_of(size), bins=_numbers("--bins", bins),
            part_rule=part_rule,  # type: ignore[arg-type]
            points=points,  # type: ignore[arg-type]
            max_loss=loss, resize=resize_mode(resize), progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        from ytrue import viz

        viz.print_polygon_tuning(found, rich_console())
