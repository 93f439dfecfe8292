"""An audit as one HTML file: everything inside it, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ytrue.auditing import Audit
from ytrue.files import MARK, replace_file
from ytrue.jointauditing import JointAudit
from ytrue.pointauditing import PointAudit
from ytrue.viz.style import jpeg_bytes, png_bytes
from ytrue.words import counted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1f; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } img { max-width: 100%; height: auto }
.wide { overflow-x: auto; margin: .5rem 0 } figure { margin: 1rem 0 }
p, li, figcaption, td:first-child { overflow-wrap: anywhere } td:first-child { min-width: 8rem }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.advice li { margin: .3rem 0 } .quiet { color: #666 }
code { background: #f2f2f4; padding: 0 .25rem; overflow-wrap: anywhere }
"""


@dataclass(frozen=True)
class Photograph:
    """An image of a dataset on a page.

    Attributes:
        image_id: as the audit's tables have it.
        said: what the picture shows, in words.
        file: the image's own file, which is linked to; None where it lies in none.
        figure: draws it.
    """

    image_id: int | str
    said: str
    file: Path | None
    figure: Callable[[], Figure]


def report_html(
    audit: Audit | PointAudit | JointAudit,
    path: str | Path,
    *,
    pictures: Iterable[tuple[str, Figure]] = (),
    photographs: Mapping[str, Sequence[Photograph]] | None = None,
) -> Path:
    """Write an audit as a self-contained HTML page and return its path.

    Args:
        audit: what `ytrue.audit` returned.
        path: the file to write.
        pictures: (caption, figure) pairs shown below the tables.
        photographs: of the worst images, by the audit's part; "" where it has one only.
    """
    shown = "".join(
        f"<figure>{picture_tag(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, figure in pictures
    )
    body = _body(audit, "", photographs or {}, Path(path).resolve().parent)
    return write_page(path, "ytrue audit", f"<h1>What your detector is taught</h1>{body}{shown}")


def write_page(path: str | Path, title: str, body: str, *, style: str = "") -> Path:
    """Write HTML as a page of its own, with more style where it needs some; return its path."""
    target = Path(path)
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta name="generator" content="{MARK}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title>"
        f"<style>{_STYLE}{style}</style></head><body>{body}</body></html>\n"
    )
    # Control characters are no part of HTML, and halves of characters none of UTF-8.
    content = "\n".join(map(printable, page.split("\n"))).encode()
    replace_file(target, lambda file: file.write(content))
    return target


def picture_tag(figure: Figure, caption: str, *, photograph: bool = False) -> str:
    """Return a figure as an HTML image that holds its own pixels: PNG, or JPEG of a photograph."""
    kind, pixels = ("jpeg", jpeg_bytes(figure)) if photograph else ("png", png_bytes(figure))
    data = base64.b64encode(pixels).decode()
    return f'<img alt="{escape(caption, quote=True)}" src="data:image/{kind};base64,{data}"/>'


def _body(
    audit: Audit | PointAudit | JointAudit,
    name: str,
    photographs: Mapping[str, Sequence[Photograph]],
    folder: Path,
) -> str:
    if isinstance(audit, JointAudit):
        return "".join(
            f"<h1>{escape(name)}</h1>{_body(part, name, photographs, folder)}"
            for name, part in audit.parts.items()
        )
    worst = _worst(photographs.get(name, ()), folder)
    points = isinstance(audit, PointAudit)
    positions = audit.slots if isinstance(audit, PointAudit) else audit.positions
    body = _points(audit) if isinstance(audit, PointAudit) else _objects(audit)
    return f"""
<p class="quiet">{escape(audit.source)} at {audit.image_size[0]}x{audit.image_size[1]},
{escape(audit.resize)}, {positions:,} {"slots" if points else "positions"} an image</p>
{body}
{worst}
<h2>Encoder</h2><p><code>{escape(str(dict(audit.encoder)))}</code></p>"""


def _worst(photographs: Sequence[Photograph], folder: Path) -> str:
    """Return photographs of images with what is lost in them, each with a link to its file."""
    shown = "".join(
        f"<figure>{picture_tag(one.figure(), one.said, photograph=True)}"
        f"<figcaption>{_link(one, folder)}: {escape(one.said)}</figcaption></figure>"
        for one in photographs
    )
    return f"<h2>The worst images</h2>{shown}" if shown else ""


def _link(one: Photograph, folder: Path) -> str:
    name = escape(str(one.image_id))
    if one.file is None:
        return name
    to = quote(os.fsencode(os.path.relpath(one.file.resolve(), folder)))
    return f'<a href="{to}">{name}</a>'


def _objects(audit: Audit) -> str:
    from ytrue.viz.figures import show_audit

    return f"""{audit_fragment(audit)}
<h2>In pictures</h2>{picture_tag(show_audit(audit), "plots of the audit")}
<h2>By size</h2>{_summaries(audit, audit.by_size())}
<h2>By width : height</h2>{_summaries(audit, audit.by_ratio())}
<h2>By level of the {audit.level_word}</h2>{_summaries(audit, audit.by_level())}
<h2>By class</h2>{_summaries(audit, audit.by_class())}
<h2>Images with most lost or only forced objects</h2>{_records(audit.worst_images(20))}
<h2>Lost objects</h2>{_lost(audit.lost_objects())}"""


def _summaries(audit: Audit, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return summaries as a table, without IoU where that has no part in the assignment."""
    return summary_table(
        {
            name: {
                column: value
                for column, value in row.items()
                if audit.by_overlap or not column.startswith("best_iou")
            }
            for name, row in rows.items()
        }
    )


def _points(audit: PointAudit) -> str:
    return f"""{point_fragment(audit)}
<h2>By grid</h2>{summary_table(audit.by_grid())}
<h2>By class</h2>{summary_table(audit.by_class())}
<h2>Images with most lost points</h2>{_records(audit.worst_images(20))}
<h2>Lost points</h2>{_lost(audit.lost_points())}"""


def point_fragment(audit: PointAudit) -> str:
    """Return the headline numbers and advice of an audit of points as HTML."""
    outcomes = {name: n for name, n in audit.outcomes().items() if n}
    return (
        f"<p>{counted(audit.num_images, 'image')}, {counted(audit.num_points, 'point')}: "
        f"<b>{audit.lost_share:.1%} lost</b>; {audit.occupied_share:.2%} of slots occupied.</p>"
        + table(("outcome", *outcomes), [("points", *outcomes.values())])
        + _advice(audit.advice())
    )


def audit_fragment(audit: Audit) -> str:
    """Return the audit's headline numbers and advice as HTML."""
    owned = [("objects owning", *audit.owned()), ("", *audit.owned().values())]
    outcomes = {name: n for name, n in audit.outcomes().items() if n}
    return (
        f"<p>{counted(audit.num_images, 'image')}, {counted(audit.num_objects, 'object')}: "
        f"<b>{audit.lost_share:.1%} lost</b>, {audit.forced_share:.1%} only forced; "
        f"{audit.ignored_share:.2%} of positions ignored.</p>"
        + table(owned[0], [owned[1]])
        + table(("outcome", *outcomes), [("objects", *outcomes.values())])
        + _advice(audit.advice())
    )


def _advice(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="advice">{items}</ul>' if items else "<p>No advice: it looks sound.</p>"


def summary_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return summaries as an HTML table."""
    if not rows:
        return '<p class="quiet">none</p>'
    columns = list(next(iter(rows.values())))
    return table(
        ("", *columns), [(name, *(row[column] for column in columns)) for name, row in rows.items()]
    )


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; every cell is escaped."""
    header = "".join(f"<th>{escape(str(cell).replace('_', ' '))}</th>" for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{header}</tr>{lines}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3g}"
    return escape(f"{value:,}" if isinstance(value, int) else str(value))


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return '<p class="quiet">none</p>'
    return table(tuple(records[0]), [tuple(str(v) for v in record.values()) for record in records])


def _lost(lost: Sequence[Mapping[str, Any]]) -> str:
    more = f'<p class="quiet">and {len(lost) - 200} more</p>' if len(lost) > 200 else ""
    return _records(lost[:200]) + more
