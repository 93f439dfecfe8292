"""Verbs on datasets: a verb parses, calls one public function and shows what it returned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ytrue.cli.app import app
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    PresetName,
    Resize,
    Size,
    check_choice,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
)  # fmt: skip
from ytrue.cli.reading import Source, reads_data
from ytrue.cli.tasks import Choices, Settings, TaskName, encoder_of


@app.command()
@reads_data
def inspect(
    source: Source,
    as_json: AsJson = False,
    fail_on: Annotated[
        str, typer.Option(help="any, dropped or none: which problems make the exit code 1.")
    ] = "none",
) -> None:
    """Read a dataset and tell what is in it and what is wrong with it.

    Example: ytrue inspect annotations/instances_train2017.json --fail-on dropped
    """
    check_choice("--fail-on", fail_on, ("any", "dropped", "none"))
    dataset = source.load()
    if as_json:
        print_json(
            {
                "source": str(dataset.source),
                "format": dataset.format,
                "images": len(dataset),
                "objects": dataset.num_objects,
                "classes": dict(zip(dataset.classes, dataset.class_ids, strict=True)),
                "problems": [problem.to_json() for problem in dataset.problems],
            }
        )
    else:
        from ytrue import viz

        console = rich_console()
        viz.print_dataset(dataset, console)
        viz.print_problems(dataset, console)
    found = [p for p in dataset.problems if fail_on == "any" or p.action == "dropped"]
    if fail_on != "none" and found:
        raise typer.Exit(1)


@app.command()
@reads_data
def audit(
    source: Source,
    task: TaskName = "box",
    settings: Settings = None,
    preset: PresetName = "ytrue",
    size: Size = "512",
    anchor_scale: AnchorScale = None,
    resize: Resize = "letterbox",
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML report.")
    ] = None,
    fail_on: Annotated[
        float | None, typer.Option(help="Exit code 1 when more than this share of objects is lost.")
    ] = None,
) -> None:
    """Encode a whole dataset and account for every object: what it owns, or why it is lost.

    Example: ytrue audit annotations.json --preset efficientdet --size 640 --html audit.html
    """
    from ytrue import auditing

    dataset = source.load()
    encoder = encoder_of(
        task, Choices(size, preset, anchor_scale, settings, resize=resize_mode(resize)), dataset
    )
    with progress_bar("auditing", quiet=as_json) as progress:
        report = auditing.audit(dataset, encoder, resize=resize_mode(resize), progress=progress)
    outlines = dataset.outlines if {"polygon", "masks"} & encoder.spec.keys() else {}
    if as_json:
        print_json(report.to_json() | ({"outlines": outlines} if outlines else {}))
    else:
        from ytrue import viz

        viz.print_audit(report, rich_console())
    if outlines and not as_json:
        typer.echo(
            f"• outlines: {outlines['polygon']:,} polygons of one part, {outlines['parts']:,} of "
            f"several, {outlines['mask']:,} masks; {outlines['none']:,} objects have none and "
            "teach class and box only"
        )
    if html is not None:
        from ytrue import viz

        typer.echo(f"wrote {viz.report_html(report, html)}", err=as_json)
    if fail_on is not None and report.lost_share > fail_on:
        typer.echo(
            f"ytrue: {report.lost_share:.1%} of the objects are lost, more than {fail_on:.1%}",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
@reads_data
def encode(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the records.")],
    targets: Annotated[
        bool, typer.Option("--targets", help="Also store encoded targets, compactly.")
    ] = False,
    task: TaskName = "box",
    settings: Settings = None,
    preset: PresetName = "ytrue",
    size: Size = "512",
    anchor_scale: AnchorScale = None,
    resize: Resize = "letterbox",
    shard_examples: Annotated[int, typer.Option(min=1, help="Examples in a shard.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as sharded TFRecords; killed and started again, it goes on.

    Example: ytrue encode annotations.json -o records --targets --size 512
    """
    from ytrue import datasets

    dataset = source.load()
    choices = Choices(size, preset, anchor_scale, settings, resize=resize_mode(resize))
    encoder = encoder_of(task, choices, dataset) if targets else None
    with progress_bar("writing records", quiet=as_json) as progress:
        manifest = datasets.write_records(
            dataset, out, encoder=encoder, resize=resize_mode(resize), shard_examples=shard_examples,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json(manifest)
    else:
        typer.echo(
            f"wrote {manifest['examples']} examples in {len(manifest['shards'])} shards to {out}"
        )


@app.command()
@reads_data
def convert(
    source: Source,
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo or labelme.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File (coco) or folder to write.")],
    as_json: AsJson = False,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the images as well.")
    ] = False,
) -> None:
    """Write a dataset in another format; what that cannot hold is listed.

    Example: ytrue convert VOCdevkit/VOC2012 --to coco -o annotations.json
    """
    from ytrue import datasets, viz

    dataset = source.load()
    lost = datasets.convert(dataset, to, out, copy_images=copy_images)
    if as_json:
        print_json({"images": len(dataset), "problems": [problem.to_json() for problem in lost]})
        return
    typer.echo(f"wrote {len(dataset)} images, {dataset.num_objects} objects as {to} to {out}")
    if lost:
        from dataclasses import replace

        viz.print_problems(replace(dataset, problems=tuple(lost)), rich_console())
