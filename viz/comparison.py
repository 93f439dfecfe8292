"""Several encoders side by side: a table on a terminal, and a page with pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ytrue.auditing import SIZE_BINS
from ytrue.comparing import Comparison
from ytrue.viz.numbers import escape as escape_line
from ytrue.viz.numbers import numbers_table, tell
from ytrue.viz.page import picture_tag, table, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

_STYLE: Final = """
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem }
figure { margin: 0 } figcaption { font-weight: 600 } label { cursor: zoom-in }
th { white-space: pre-line; vertical-align: bottom }
figure:has(:checked) { grid-column: 1 / -1 } :checked + label { cursor: zoom-out }
"""

Pictures = Iterable[tuple[str, Iterable[tuple[str, "Figure"]]]]
"""A heading for each image, and (encoder's name, figure) for each encoder."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison: a row for each encoder, what they lose, and what the columns mean."""
    tell(console, f"[bold]{escape_line(_headline(comparison))}[/]")
    head, *rows = _cells(comparison)
    lines = numbers_table(*head)
    for row in rows:
        lines.add_row(*row)
    console.print(lines)
    for sentence in (*_losses(comparison), *_notes(comparison)):
        tell(console, f"• {escape_line(sentence)}")


def comparison_html(comparison: Comparison, path: str | Path, *, pictures: Pictures = ()) -> Path:
    """Write a comparison as a self-contained HTML page and return its path.

    Args:
        comparison: what `ytrue.compare` returned.
        path: the file to write.
        pictures: of the same images under each encoder, shown two in a row; a click enlarges one.
    """
    shown = "".join(_group(k, heading, group) for k, (heading, group) in enumerate(pictures))
    configs = "".join(
        f"<p>{escape(row.name)}: <code>{escape(str(dict(row.audit.encoder)))}</code></p>"
        for row in comparison.rows
    )
    body = (
        f"<h1>What each encoder would teach</h1>{comparison_fragment(comparison)}{shown}"
        f"<h2>Encoders</h2>{configs}"
    )
    return write_page(path, "ytrue compare", body, style=_STYLE)


def comparison_fragment(comparison: Comparison) -> str:
    """Return a comparison's table and sentences as HTML."""
    head, *rows = _cells(comparison)
    said = "".join(
        f"<li>{escape(line)}</li>" for line in (*_losses(comparison), *_notes(comparison))
    )
    return f"<p>{escape(_headline(comparison))}</p>{table(head, rows)}<ul>{said}</ul>"


def _group(number: int, heading: str, figures: Iterable[tuple[str, Figure]]) -> str:
    # A hidden check box remembers, without a script, which picture is enlarged.
    shown = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f'<input type="checkbox" hidden id="p{number}-{k}"/><label for="p{number}-{k}">'
        f"{picture_tag(figure, f'{heading}, {name}', photograph=True)}</label></figure>"
        for k, (name, figure) in enumerate(figures)
    )
    return f'<h2>{escape(heading)}</h2><div class="pictures">{shown}</div>'


def _headline(comparison: Comparison) -> str:
    height, width = comparison.first.image_size
    return (
        f"{comparison.num_images:,} images, {comparison.num_objects:,} objects at "
        f"{height}x{width} ({comparison.first.resize})"
    )


def _cells(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table's head, a row on the objects themselves, and one for each encoder."""
    sizes = [f"{name}\n{f'<{high:g}' if np.isfinite(high) else f'{low:g}+'} px"
             for name, low, high in SIZE_BINS]  # fmt: skip
    head = ("", "owned\nper object", *sizes, "lost", "ignored", "class\nbalance",
            "µs an\nimage", "kB an\nimage")  # fmt: skip
    counts = [_count(n) for n in comparison.objects_by_size().values()]
    balance = f"{comparison.object_balance().ratio:,.1f}"
    objects = ("(objects)", _count(comparison.num_objects), *counts, "", "", balance, "", "")
    rows = [
        (
            row.name, _mean(row.positives_per_object), *map(_mean, row.positives_by_size().values()),
            f"{row.audit.lost_share:.2%}", f"{row.audit.ignored_share:.2%}",
            f"{row.balance().ratio:,.1f}", f"{row.encode_seconds * 1e6:,.0f}",
            f"{row.target_bytes / 1e3:,.0f}",
        )
        for row in comparison.rows
    ]  # fmt: skip
    return [head, objects, *rows]


def _count(number: int) -> str:
    return f"{number:,}" if number < 100_000 else f"{number / 1000:,.0f}k"


def _mean(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}"


def _losses(comparison: Comparison) -> Sequence[str]:
    return [
        f"{row.name} loses {row.lost:,} of {comparison.num_objects:,} objects: "
        + ", ".join(f"{n:,} {reason}" for reason, n in row.lost_reasons().items())
        for row in comparison.rows
        if row.lost
    ] or ["none of them loses an object"]


def _notes(comparison: Comparison) -> Sequence[str]:
    most, least, _ = comparison.object_balance()
    spread = f" ({most} to {least} among the objects)" if most != least else ""
    batch, cores = comparison.sample_images, comparison.cores
    return (
        "lost: of all objects; ignored: of all positions; class balance: the largest class's "
        f"positives to the smallest's{spread}",
        f"time and bytes: of one batch of {batch} image{'s' * (batch != 1)} on {cores} "
        f"core{'s' * (cores != 1)}, the least of several rounds",
    )
