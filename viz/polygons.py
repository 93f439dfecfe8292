"""Pictures of outlines in polar bins: which vertices are kept, and what they decode to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ytrue.annotations import Example, Polygon
from ytrue.contract import LOST, Assignment
from ytrue.encoders.outlines import outline_of
from ytrue.encoders.polygon import PolygonVertices
from ytrue.outlinefits import OutlineFit, outline_fit
from ytrue.resizing import ResizeMode
from ytrue.viz import style
from ytrue.viz.assignment import (
    frame_pixels,
    label_rank,
    names_of,
    objects_and_lost,
    outcome_colour,
)
from ytrue.viz.drawing import (
    Sheet,
    box_key,
    check_object,
    class_name,
    dot_key,
    new_sheet,
    padding_key,
    rectangle,
    say,
    shade_padding,
    view_of,
    write_labels,
    write_legend,
)  # fmt: skip

_PANEL: Final = 900
_RAYS_FROM: Final = 90.0  # pixels of the picture: smaller boxes have no room for rays
_MOST_NUMBERS: Final = 48
_MARGIN: Final = 1.14
_SHADES: Final = (
    "white only: missed;\ngreen only: added;\norange numbers: bins\nwithout vertex;\n"
    "IoU: of decoded outline\nand object"
)
_TRUE: Final = "white"
_DECODED: Final = style.MATCHED
_EMPTY: Final = "#FFB000"  # numbers of bins without vertex
_HALO: Final = (withStroke(linewidth=3.4, foreground="black", alpha=0.6),)


def show_polygons(
    image: Example | NDArray[np.uint8],
    vertices: PolygonVertices,
    assignment: Assignment,
    *,
    object: int | None = None,
    classes: Sequence[str] = (),
    resize: ResizeMode = "letterbox",
    title: str = "",
) -> Figure:
    """Draw an image in the network's frame with its objects' outlines and what bins keep of them.

    White is the outline that counts, cut to its box; green, shaded, what the kept vertices decode
    to. Green dots are kept vertices, small red rings dropped ones; rays bound the bins of objects
    large enough to show them. All annotated parts are dashed where an object has several. Objects
    that own no place are red, with the reason.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        vertices: what `encoder.vertices` returned for the annotations in the frame.
        assignment: what `encoder.explain` returned for the same.
        object: show this object alone, enlarged, its bins numbered, with a line from the centre of
            the box to every kept vertex.
        classes: names, where `image` is no example.
        resize: how the image was fitted into the frame.
        title: a line above the picture.

    Raises:
        ValueError: no such object.
        DataError: the image file cannot be read.
    """
    check_object(object, len(assignment))
    names = names_of(image, classes)
    pixels = frame_pixels(image, assignment.image_size, resize)
    scene = _Scene(vertices, outline_fit(vertices, assignment), pixels, names)
    return _whole(scene, title) if object is None else _one(scene, object, title)


@dataclass(frozen=True, eq=False)
class _Scene:
    vertices: PolygonVertices
    fit: OutlineFit
    pixels: NDArray[np.uint8]
    classes: tuple[str, ...]

    @property
    def assignment(self) -> Assignment:
        return self.fit.assignment

    def name(self, k: int) -> str:
        return class_name(self.classes, int(self.assignment.annotations.labels[k]))

    def label(self, k: int) -> str:
        outcome, fit = self.assignment.outcome[k], self.fit
        if outcome == "crowd":
            return f"{self.name(k)}: crowd"
        if outcome in LOST:
            return f"#{k} {self.name(k)}: lost, {outcome}"
        if not fit.given[k]:
            return f"#{k} {self.name(k)}: no outline"
        return f"#{k} {self.name(k)}: {fit.kept[k]}/{fit.given[k]} · {fit.iou[k]:.2f}"

    @cached_property
    def several_parts(self) -> dict[int, Polygon]:
        """Object -> all parts of its outline, as annotated, where there are several."""
        outlined = np.flatnonzero(self.fit.given).tolist()
        return {k: parts for k in outlined if len(parts := self._parts(k)) > 1}

    def _parts(self, k: int) -> Polygon:
        annotations = self.assignment.annotations
        if annotations.polygons is not None and annotations.polygons[k]:
            return annotations.polygons[k]
        mask = None if annotations.masks is None else annotations.masks[k]
        return () if mask is None else outline_of(mask)


def _whole(scene: _Scene, title: str) -> Figure:
    a = scene.assignment
    height, width = view_of(a.annotations, a.image_size)
    sheet = new_sheet(scene.pixels[:height, :width])
    shade_padding(sheet.axes, a.annotations, a.image_size)
    everyone = range(len(a))
    _boxes(sheet.axes, scene, everyone, 0.6 if len(a) > 60 else 0.9)
    _outlines(sheet.axes, scene, everyone, 0.5 if len(a) > 60 else 1.0)
    sides = scene.vertices.boxes[:, 2:] - scene.vertices.boxes[:, :2]
    seen = sheet.scale * sides.min(axis=1, initial=np.inf)
    _rays(sheet.axes, scene, np.flatnonzero(scene.fit.taught & (seen >= _RAYS_FROM)).tolist())
    _dots(sheet, scene, everyone, 24.0)
    texts = [
        (a.annotations.boxes[k], scene.label(k), outcome_colour(a.outcome[k]), label_rank(a, k))
        for k in everyone
        if np.isfinite(a.annotations.boxes[k]).all()
    ]
    hidden = write_labels(sheet.axes, texts, 1 / sheet.scale)
    say(sheet.figure, title or _headline(scene), 11.5)
    _legend(sheet, scene, hidden)
    return sheet.figure


def _headline(scene: _Scene) -> str:
    fit = scene.fit
    said, taught = objects_and_lost(scene.assignment), int(fit.taught.sum())
    if not taught:
        return f"{said}; no outline is taught"
    kept, given = int(fit.kept[fit.taught].sum()), int(fit.given[fit.taught].sum())
    return (
        f"{said}; {fit.bins} bins keep {kept:,} of {given:,} vertices, {given - kept:,} dropped; "
        f"{taught} decoded outline{'s' * (taught != 1)}, mean IoU {fit.mean_iou:.3f}"
    )


def _boxes(axes: Axes, scene: _Scene, chosen: Sequence[int], line: float) -> None:
    a = scene.assignment
    for k in chosen:
        outcome = a.outcome[k]
        if not np.isfinite(a.annotations.boxes[k]).all():
            continue
        crowd, lost = outcome == "crowd", outcome in LOST
        axes.add_patch(
            rectangle(
                a.annotations.boxes[k], outcome_colour(outcome), line * (1.6 if lost else 1.0),
                linestyle="--" if lost else "-", alpha=0.5 if crowd else 0.8,
                hatch="/" if crowd else None,
            )
        )  # fmt: skip


def _outlines(axes: Axes, scene: _Scene, chosen: Sequence[int], line: float) -> None:
    """Draw the true and the decoded outlines; of lost objects the true ones, red."""
    fit = scene.fit
    taught = [k for k in chosen if fit.taught[k]]
    lost = [k for k in chosen if fit.given[k] and not fit.taught[k]]
    several = [_path(parts) for k, parts in scene.several_parts.items() if k in chosen]
    decoded = [_path(fit.decoded[k]) for k in taught]
    true = [_path(fit.true[k]) for k in taught]
    _add_paths(axes, several, "parts", 0.9 * line, "--")
    _add_paths(axes, true, "halo", 3.4 * line, edge="black", alpha=0.5)
    _add_paths(axes, true, "true", 2.0 * line)
    _add_paths(axes, decoded, "shade", face=_DECODED, alpha=0.25)
    _add_paths(axes, decoded, "decoded", 1.1 * line, edge=_DECODED)
    _add_paths(axes, [_path(fit.true[k]) for k in lost], "lost", 1.2 * line, "--", edge=style.LOST)


def _add_paths(
    axes: Axes, paths: Sequence[Path], gid: str, line: float = 0.0, dashes: str = "-", *,
    edge: str = _TRUE, face: str = "none", alpha: float = 1.0,
) -> None:  # fmt: skip
    """Add outlines to a picture; `gid` names them there."""
    axes.add_collection(
        PathCollection(
            paths,
            facecolors=face,
            edgecolors=edge if line else "none",
            linewidths=line,
            linestyles=dashes,
            alpha=alpha,
            gid=gid,
        )
    )


def _path(outline: Polygon) -> Path:
    """Return the rings of an outline, closed, as (x, y)."""
    finite = [part for part in outline if len(part) and np.isfinite(part).all()]
    return Path.make_compound_path(*(Path([*part[:, ::-1], part[0, ::-1]]) for part in finite))


def _rays(axes: Axes, scene: _Scene, chosen: Sequence[int], radius: float | None = None) -> None:
    """Draw the bins' borders from each centre to the border of its box, or as far as told."""
    towards = _towards(np.arange(scene.fit.bins), scene.fit.bins)
    lines = []
    for k in chosen:
        centre, half = _centre_and_half(scene, k)
        with np.errstate(divide="ignore"):
            reach = (half / np.abs(towards)).min(axis=1, keepdims=True)
        ends = centre + towards * (reach if radius is None else radius)
        lines += [np.stack((centre, end)) for end in ends]
    axes.add_collection(
        LineCollection(lines, colors="white", linewidths=0.6, alpha=0.45, gid="rays")
    )


def _towards(place: NDArray[np.number], bins: int) -> NDArray[np.float64]:
    """Return (M, 2) unit vectors (x, y) at angles in bins: 0 to the left, rising over the top."""
    angle = place * 2 * np.pi / bins
    return -np.stack((np.cos(angle), np.sin(angle)), axis=-1)


def _centre_and_half(scene: _Scene, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre of an object's box and half its sides, as (x, y)."""
    box = scene.vertices.boxes[k].astype(np.float64)
    return (box[:2] + box[2:])[::-1] / 2, (box[2:] - box[:2])[::-1] / 2


def _dots(sheet: Sheet, scene: _Scene, chosen: Sequence[int], largest: float) -> None:
    """Draw kept and dropped vertices, of areas up to `largest` points, smaller where they crowd.

    And squares for the points of the outline in bins without a vertex.
    """
    vertices, fit = scene.vertices, scene.fit
    mine = fit.taught[vertices.object] & np.isin(vertices.object, list(chosen))
    length = sheet.scale * np.array([_length(outline) for outline in fit.true])
    for gid, rows, count, share, face, edge in (
        ("dropped", mine & ~vertices.kept, fit.given, 0.5, "none", style.LOST),
        ("kept", mine & vertices.kept, fit.kept, 1.0, _DECODED, "black"),
    ):
        gap = length / np.maximum(count, 1)  # pixels of the picture
        sizes = np.clip((0.35 * gap) ** 2, 1.5, share * largest)[vertices.object[rows]]
        sheet.axes.scatter(
            vertices.yx[rows, 1], vertices.yx[rows, 0], s=sizes, c=face, edgecolors=edge,
            linewidths=np.clip(sizes / 15, 0.3, 0.9).tolist(), zorder=3, gid=gid,
        )  # fmt: skip
    filled = np.concatenate(
        [np.zeros((0, 2)), *(_filled(scene, k) for k in chosen if fit.taught[k])]
    )
    sheet.axes.scatter(
        filled[:, 0], filled[:, 1], s=0.25 * largest, c=_DECODED, marker="s", lw=0, zorder=3,
        gid="filled",
    )  # fmt: skip


def _filled(scene: _Scene, k: int) -> NDArray[np.float32]:
    """Return (F, 2) `(x, y)` the points of the outline in an object's bins without a vertex."""
    if not scene.fit.filled[k]:
        return np.zeros((0, 2), np.float32)
    vertices = scene.vertices
    bins = np.flatnonzero(vertices.polar[k, :, 2])
    kept = vertices.bin[(vertices.object == k) & vertices.kept]
    points: NDArray[np.float32] = scene.fit.decoded[k][0][~np.isin(bins, kept), ::-1]
    return points


def _length(outline: Polygon) -> float:
    return sum(float(np.hypot(*(part - np.roll(part, 1, axis=0)).T).sum()) for part in outline)


def _legend(sheet: Sheet, scene: _Scene, hidden: int) -> None:
    a = scene.assignment
    handles = _keys(scene, range(len(a)))
    forced, crowds = a.outcome.count("forced"), a.outcome.count("crowd")
    if forced:
        handles.append(box_key(style.FORCED, f"{forced} only forced", lw=2))
    if a.lost:
        handles.append(box_key(style.LOST, f"{len(a.lost)} lost", lw=2, ls="--"))
    without = int(((a.positives > 0) & (scene.fit.given == 0)).sum())
    if without:
        handles.append(box_key(style.MATCHED, f"{without} without outline", lw=1))
    if crowds:
        label = f"{crowds} crowd region{'s' * (crowds > 1)}"
        handles.append(box_key(style.CROWD, label, hatch="/"))
    if a.annotations.content is not None:
        handles.append(padding_key())
    note = "label: #object class:\nvertices kept/given · IoU of\ndecoded outline and object"
    write_legend(sheet, handles, note, hidden)


def _keys(scene: _Scene, chosen: Sequence[int]) -> list[Line2D | Patch]:
    """Return the legend's entries of outlines and vertices."""
    fit = scene.fit
    mine = np.zeros(len(fit.given), bool)
    mine[list(chosen)] = True
    mine &= fit.taught
    kept, given = int(fit.kept[mine].sum()), int(fit.given[mine].sum())
    keys: list[Line2D | Patch] = [
        Line2D(
            [], [], color=_TRUE, lw=1.6, path_effects=_HALO, label="true outline, cut to its box"
        ),
        Patch(fc=to_rgba(_DECODED, 0.3), ec=_DECODED, lw=1.4, label="decoded outline"),
        dot_key(_DECODED, f"{kept:,} vertices kept"),
        dot_key("none", f"{given - kept:,} dropped", edge=style.LOST, size=4),
        Line2D([], [], color="#999999", lw=0.8, label=f"borders of {fit.bins} bins"),
    ]
    filled = int(fit.filled[mine].sum())
    if filled:
        label = f"{filled:,} bins with another point"
        keys.insert(4, Line2D([], [], ls="", marker="s", ms=4, color=_DECODED, label=label))
    if any(k in chosen for k in scene.several_parts):
        dashes = withStroke(linewidth=2.2, foreground="black", alpha=0.5)
        keys.append(
            Line2D(
                [], [], color=_TRUE, lw=1.1, ls="--", path_effects=[dashes], label="all its parts"
            )
        )
    return keys


def _one(scene: _Scene, k: int, title: str) -> Figure:
    fit, radius = scene.fit, float(np.hypot(*_centre_and_half(scene, k)[1]))
    a = scene.assignment
    if radius > 0:
        centre, reach = _centre_and_half(scene, k)[0][::-1], _MARGIN * radius
        window = (*(centre - reach).tolist(), *(centre + reach).tolist())
    else:
        window = (0.0, 0.0, *map(float, view_of(a.annotations, a.image_size)))
    sheet = new_sheet(scene.pixels, window=window, long_side=_PANEL, lines=2)
    shade_padding(sheet.axes, a.annotations, a.image_size)
    _boxes(sheet.axes, scene, [k], 1.4)
    if fit.taught[k]:
        _bins(sheet, scene, k, radius)
        _add_paths(sheet.axes, [_path(fit.true[k])], "true shade", face=_TRUE, alpha=0.25)
    _outlines(sheet.axes, scene, [k], 1.0)
    _dots(sheet, scene, [k], 46.0)
    said = f": IoU {fit.iou[k]:.3f}" if fit.taught[k] else ""
    say(sheet.figure, title or f"object {k}, {scene.name(k)}{said}", 11.5)
    say(sheet.figure, fit.why(k), 9.5, line=1)
    write_legend(sheet, _keys_of_one(scene, k), _SHADES if fit.taught[k] else "")
    return sheet.figure


def _keys_of_one(scene: _Scene, k: int) -> list[Line2D | Patch]:
    if scene.fit.taught[k]:
        return [
            *_keys(scene, [k]),
            Line2D([], [], color=_DECODED, lw=1, label="distances from the centre"),
        ]
    outcome = scene.assignment.outcome[k]
    keys: list[Line2D | Patch] = [box_key(outcome_colour(outcome), f"its box: {outcome}", lw=1.4)]
    if scene.fit.given[k]:
        keys.append(
            Line2D([], [], color=style.LOST, lw=1.2, ls="--", label="its outline: not taught")
        )
    return keys


def _bins(sheet: Sheet, scene: _Scene, k: int, radius: float) -> None:
    """Draw an object's bins with their numbers, and a line to every kept vertex."""
    vertices, bins = scene.vertices, scene.fit.bins
    centre, _ = _centre_and_half(scene, k)
    _rays(sheet.axes, scene, [k], radius)
    kept = vertices.yx[(vertices.object == k) & vertices.kept, ::-1]
    lines = [np.stack((centre, point)) for point in (*kept, *_filled(scene, k))]
    sheet.axes.add_collection(
        LineCollection(lines, colors=_DECODED, linewidths=1.0, alpha=0.8, gid="distances")
    )
    sheet.axes.scatter(
        centre[:1], centre[1:], s=40, c=_TRUE, marker="+", lw=1.4, zorder=3, gid="centre"
    )
    full = vertices.polar[k, :, 2] > 0
    middle = centre + 1.06 * radius * _towards(np.arange(bins) + 0.5, bins)
    for v in range(0, bins, -(-bins // _MOST_NUMBERS)):
        sheet.axes.text(
            middle[v, 0], middle[v, 1], str(v), fontsize=7.5, ha="center", va="center", path_effects=_HALO,
            color=_TRUE if full[v] else _EMPTY,
        )  # fmt: skip
