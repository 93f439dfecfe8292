"""Verbs on datasets: a verb parses, calls one public function and shows what it returned."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ytrue.cli import outputs
from ytrue.cli.app import app
from ytrue.cli.options import (
    AnchorScale,
    AsJson,
    PresetName,
    Resize,
    Size,
    check_choice,
    check_share,
    print_json,
    progress_bar,
    resize_mode,
    rich_console,
)  # fmt: skip
from ytrue.cli.outputs import Force
from ytrue.cli.reading import Source, reads_data
from ytrue.cli.showing import draw_encoding
from ytrue.cli.tasks import Choices, Settings, TaskName, encoder_of
from ytrue.errors import DataError
from ytrue.words import counted, printable

if TYPE_CHECKING:
    from ytrue.contract import Encoder
    from ytrue.datasets.dataset import Dataset
    from ytrue.resizing import ResizeMode
    from ytrue.viz.page import Photograph

RECORDS: Final = ("plan.json", "manifest.json")
"""Files that tell a folder of records."""

_COST_NO_OBJECT: Final = ("split-missing", "field-unread", "image-invalid", "duplicate-image-id")
"""Kinds of problems that drop something else; objects of such images are listed by themselves."""

WORST_SHOWN: Final = 6
"""Photographs on an audit's page."""


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
                "splits": _split_counts(dataset),
                "notes": list(dataset.notes),
                "problems": [problem.to_json() for problem in dataset.problems],
            }
        )
    else:
        from ytrue import viz

        console = rich_console()
        viz.print_dataset(dataset, console)
        viz.print_problems(dataset, console)
    dropped = [p for p in dataset.problems if p.action == "dropped"]
    costly = [p for p in dropped if p.objects != 0 and p.kind not in _COST_NO_OBJECT]
    if not dataset.num_objects and (costly or (dropped and not len(dataset))):
        raise DataError(
            f"nothing is left of it: {counted(len(costly or dropped), 'problem')} cost "
            f"{'every object' if costly else 'every image'}",
            where=source.data, do="the list of problems tells what to mend",
        )  # fmt: skip
    found = list(dataset.problems) if fail_on == "any" else dropped
    if fail_on != "none" and found:
        raise typer.Exit(1)


def _split_counts(dataset: Dataset) -> dict[str, int]:
    """Return split -> how many images it has."""
    named = [split for splits in dataset.images.splits for split in splits]
    return {split: named.count(split) for split in dataset.splits}


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
    force: Force = False,
) -> None:
    """Encode a whole dataset and account for every object: what it owns, or why it is lost.

    Example: ytrue audit annotations.json --preset efficientdet --size 640 --html audit.html
    """
    from ytrue import auditing

    check_share("--fail-on", fail_on)
    if html is not None:
        outputs.page(html, force=force)
    dataset = source.load_telling()
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
            f"• outlines: {counted(outlines['polygon'], 'polygon')} of one part, "
            f"{outlines['parts']:,} of several, {counted(outlines['mask'], 'mask')}; "
            f"{counted(outlines['none'], 'object has', 'objects have')} none and "
            f"{'teaches' if outlines['none'] == 1 else 'teach'} class and box only"
        )
    if html is not None:
        from ytrue import viz

        worst = _photographs(dataset, encoder, report, resize_mode(resize))
        typer.echo(f"wrote {viz.report_html(report, html, photographs=worst)}", err=as_json)
    if fail_on is not None and report.lost_share > fail_on:
        typer.echo(
            f"ytrue: {report.lost_share:.1%} of the objects are lost, more than {fail_on:.1%}",
            err=True,
        )
        raise typer.Exit(1)


def _photographs(
    dataset: Dataset, encoder: Encoder, report: Any, resize: ResizeMode
) -> dict[str, list[Photograph]]:
    """Return, by part of the audit, the images in which most is lost, to be drawn."""
    from ytrue.contract import encoders_in
    from ytrue.viz.page import Photograph

    audits = getattr(report, "parts", {"": report})
    found: dict[str, list[Photograph]] = {}
    for name, part in encoders_in(encoder).items():
        found[name] = []
        for row in audits[name].worst_images(WORST_SHOWN):
            example = dataset[dataset.index_of(row["image_id"])]
            what = "points" if "points" in row else "objects"
            forced = f", {row['forced']} only forced" if row.get("forced") else ""
            found[name].append(
                Photograph(
                    row["image_id"], f"{row['lost']} of {row[what]} {what} lost{forced}",
                    example.path if dataset.store is None and example.path.is_file() else None,
                    partial(draw_encoding, dataset, example, part, resize, on_grey=True),
                )
            )  # fmt: skip
    return found


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
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as sharded TFRecords; killed and started again, it goes on.

    Example: ytrue encode annotations.json -o records --targets --size 512
    """
    from ytrue import datasets

    outputs.folder(out, RECORDS, force=force)
    dataset = source.load_telling()
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
            f"wrote {counted(manifest['examples'], 'example')} in "
            f"{counted(len(manifest['shards']), 'shard')} to {printable(out)}"
        )
        if skipped := manifest["skipped"]:
            typer.echo(
                f"{counted(len(skipped), 'image has', 'images have')} no file and "
                f"{'is' if len(skipped) == 1 else 'are'} left out, such as {printable(skipped[0])}"
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
    force: Force = False,
) -> None:
    """Write a dataset in another format; what that cannot hold is listed.

    Example: ytrue convert VOCdevkit/VOC2012 --to coco -o annotations.json
    """
    from ytrue import datasets, viz

    dataset = source.load_telling()
    lost = datasets.convert(dataset, to, out, copy_images=copy_images, force=force)
    if as_json:
        print_json({"images": len(dataset), "problems": [problem.to_json() for problem in lost]})
        return
    typer.echo(
        f"wrote {counted(len(dataset), 'image')}, {counted(dataset.num_objects, 'object')} as {to} "
        f"to {printable(out)}"
    )
    if lost:
        viz.print_losses(lost, rich_console())
