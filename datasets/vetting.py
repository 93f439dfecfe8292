"""What is checked in every dataset, whatever its format, and what is done about it.

Columns in, columns and `Problem`s out; a Python loop only over what has a problem.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ytrue.datasets.dataset import Images, Objects, select_objects
from ytrue.datasets.imagefiles import (
    Folder,
    Found,
    Header,
    doubt_about_greys,
    read_headers,
)
from ytrue.errors import Action, DataError, Problem
from ytrue.limits import MAX_COORDINATE

PROBLEM_KINDS: Final[dict[str, str]] = {
    "box-overhang": "The box reaches over the image's edge by at most the tolerance; clipped.",
    "box-overhang-large": "The box reaches further over the edge; kept as it is.",
    "box-outside": "The box lies outside the image; dropped.",
    "box-inverted": "A negative width or height; dropped.",
    "box-empty": "A width or height of 0; dropped.",
    "box-not-finite": "A coordinate is nan, infinite or beyond 1e9 pixels; dropped.",
    "box-missing": "No box; taken tight around the object's polygons, mask or keypoints.",
    "box-invalid": "The box is not four numbers; taken tight around the object's shape, without one "
    "dropped.",
    "area-invalid": "The area is no finite number; the box's is taken.",
    "shape-missing": "Neither a box nor a usable shape; dropped.",
    "number-text": "Numbers written as text; read as numbers.",
    "text-invalid": "A text that holds half a character, which no file can; the half is replaced.",
    "boxes-look-normalised": "Nearly all boxes fit into [0, 1]: pixels are due; kept.",
    "boxes-look-xyxy": "Nearly all boxes overhang as x, y, width, height and fit as corners; kept.",
    "coordinates-look-like-pixels": "Numbers above 1 where normalised ones are due.",
    "duplicate-annotation-id": "An annotation id that another has too; kept.",
    "duplicate-image-id": "An image id that another has too; the later image is dropped.",
    "duplicate-image-file": "Several image records name one file, and each teaches the others' objects "
    "as background; kept.",
    "duplicate-object": "Same image, class and box as another object; kept.",
    "duplicate-category": "Two categories share an id or a name.",
    "category-unnamed": "Categories are missing; named by their ids.",
    "annotation-unnumbered": "Annotations have no id of their own; counted.",
    "id-retyped": "Annotations name images or categories by text where the ids are numbers, or "
    "reverse; taken for the same.",
    "ids-prefixed": "Splits number their images or annotations alike; the split's name is put before.",
    "unknown-category": "The category is not in the file's list; dropped.",
    "unknown-image": "The image is not in the file's list; dropped.",
    "annotation-invalid": "A field is missing or of the wrong kind; dropped.",
    "image-invalid": "An image record lacks what is needed; dropped.",
    "image-unnamed": "Image records have an address but no file name; named by the address.",
    "polygon-invalid": "A polygon of fewer than 3 points, with a coordinate that is nan, infinite or "
    "beyond 1e9 pixels, or of a foreign form; the part is dropped.",
    "mask-invalid": "The mask cannot be decoded, or is not of the image's size; the mask is dropped.",
    "keypoints-invalid": "Keypoints of a foreign length, visibility or place; dropped from the object.",
    "keypoints-differ": "Categories list different keypoints; those of the first count.",
    "flips-unknown": "Nobody knows which keypoints have sides; images are not mirrored.",
    "shape-unsupported": "A kind of shape that this library does not read; dropped.",
    "image-missing": "The image file does not exist; its annotations are kept (of YOLO dropped: "
    "without the image its size is unknown).",
    "images-missing": "None of the image files exist; annotations are kept.",
    "image-unreadable": "The image file is no readable image; dropped with its objects.",
    "image-size": "The file's size is not the annotated one; dropped with its objects.",
    "image-size-invalid": "The annotated size is no whole number of pixels; taken from the image file.",
    "image-size-unknown": "Neither the annotations nor a readable image file tell the image's size; "
    "dropped with its objects.",
    "image-orientation": "Annotated in the frame of the stored pixels, but EXIF turns the image by a "
    "quarter: dropped with its objects.",
    "image-renamed": "Not the file named, but one of the same stem is there; that is used.",
    "image-embedded": "The pixels are embedded in the annotation file and lie nowhere else.",
    "image-grey": "Grey images of more than 8 bits that come out dark, or are refused when their pixels "
    "are read; kept.",
    "file-unread": "An annotation file in the folder of another format, or a further one; not read.",
    "image-unlabelled": "An image without annotation file; kept as an image without objects.",
    "image-claimed-twice": "Two annotation files are of one image; the later is not read.",
    "image-twin": "Another image has the same file stem; it is not used.",
    "images-guessed": "Images were found outside of the folder that was named; kept.",
    "field-unread": "The files hold more about objects than the reader reads; that is left out.",
    "split-missing": "A list or key of splits names what is not there; left out.",
    "split-overlap": "Images that are in two of train, val and test; kept in both.",
    "class-count": "The number of classes given is not the number of their names; the names count.",
    "class-names-differ": "Names of classes are given twice, and differ; see its text for what is used.",
    "corners-doubtful": "Some corners count from 0 and most from 1; all are read as most.",
    "rows-look-like-poses": "Outlines that look like a box and its keypoints; kept as outlines.",
    "path-escapes": "File names lead out of the images folder: not followed, looked for in it by the end "
    "of their path; kept with their objects.",
    "class-unnamed": "Classes are not named anywhere; named by their numbers.",
    "field-lost": "The target format cannot hold this; not written.",
}

TOLERANCE_PIXELS: Final = 2.0
TOLERANCE_SHARE: Final = 0.01
"""A box may overhang by the larger of 2 pixels and 1 % of the image's side, and is clipped."""

SAMPLE: Final = 100_000
"""Whether boxes are of another form altogether is told from about so many of them."""

HEADERS_READ_UP_TO: Final = 20_000
"""Above so many images their headers are not read at loading."""


@dataclass(frozen=True)
class Names:
    """What to call things in problems: the annotation file of the whole, or of each image."""

    file: str | Callable[[int], str]

    def of(self, image: int) -> str:
        """Return the annotation file of image row `image`."""
        return self.file if isinstance(self.file, str) else self.file(image)


def vet_objects(images: Images, objects: Objects, names: Names) -> tuple[Objects, list[Problem]]:
    """Return the objects that can be used, boxes clipped within tolerance, and all problems."""
    duplicates = list(_duplicates(images, objects, names))
    xywh = objects.xywh
    with np.errstate(invalid="ignore"):
        x_max, y_max = xywh[:, 0] + xywh[:, 2], xywh[:, 1] + xywh[:, 3]
        width = images.width[objects.image].astype(np.float64)
        height = images.height[objects.image].astype(np.float64)
        finite: NDArray[np.bool_] = np.asarray((np.abs(xywh) <= MAX_COORDINATE).all(axis=1))
        inverted = finite & ((xywh[:, 2] < 0) | (xywh[:, 3] < 0))
        empty = finite & ~inverted & ((xywh[:, 2] == 0) | (xywh[:, 3] == 0))
        whole = finite & ~inverted & ~empty
        outside = whole & (
            (x_max <= 0) | (y_max <= 0) | (xywh[:, 0] >= width) | (xywh[:, 1] >= height)
        )
        over = np.maximum(
            np.maximum(-xywh[:, 0], -xywh[:, 1]), np.maximum(x_max - width, y_max - height)
        )
    # What writers of six decimals round is no finding.
    hanging = whole & ~outside & (over > 5e-3)
    tolerance = np.maximum(TOLERANCE_PIXELS, TOLERANCE_SHARE * np.maximum(width, height))
    clipped = hanging & (over <= tolerance)
    problems: list[Problem] = []

    def report(
        kind: str, where: NDArray[np.bool_], action: Action, what: Callable[[int], str]
    ) -> None:
        problems.extend(
            Problem(
                kind,
                what(row),
                action,
                names.of(int(objects.image[row])),
                images.ids[objects.image[row]],
                objects.ids[row],
            )
            for row in np.flatnonzero(where).tolist()
        )

    def box(row: int) -> str:
        x, y, w, h = xywh[row]
        return f"box x {x:g}, y {y:g}, width {w:g}, height {h:g}"

    def box_in_image(row: int) -> str:
        i = objects.image[row]
        return f"{box(row)} in an image of {images.width[i]}x{images.height[i]} (width x height)"

    report("box-not-finite", ~finite, "dropped", box)
    report("box-inverted", inverted, "dropped", box)
    report("box-empty", empty, "dropped", box)
    report("box-outside", outside, "dropped", box_in_image)
    report(
        "box-overhang", clipped, "clipped",
        lambda row: f"{box_in_image(row)} overhangs by {over[row]:.3g} px",
    )  # fmt: skip
    report(
        "box-overhang-large", hanging & ~clipped, "kept",
        lambda row: f"{box_in_image(row)} overhangs by {over[row]:.3g} px, more than the tolerance "
        f"of {tolerance[row]:.3g} px",
    )  # fmt: skip
    problems += _suspect_form(xywh, width, height, whole, names)
    if clipped.any():
        xywh = xywh.copy()
        low = np.clip(xywh[clipped, :2], 0, None)
        high = np.minimum(
            np.stack((x_max, y_max), axis=1)[clipped], np.stack((width, height), axis=1)[clipped]
        )
        xywh[clipped] = np.concatenate((low, high - low), axis=1)
        objects = replace(objects, xywh=xywh)
    problems += duplicates
    return select_objects(objects, whole & ~outside), problems


def vet_shapes(images: Images, objects: Objects, names: Names) -> tuple[Objects, list[Problem]]:
    """Return the objects without polygon parts and keypoints that lie nowhere, and the problems."""
    problems: list[Problem] = []

    def report(kind: str, detail: str, row: int) -> None:
        image = int(objects.image[row])
        place = (names.of(image), images.ids[image], objects.ids[row])
        problems.append(Problem(kind, detail, "dropped", *place))

    points = objects.points
    # Two passes without a copy: a million outlines are hundreds of megabytes.
    if len(points) and not (
        points.min() >= -MAX_COORDINATE and points.max() <= MAX_COORDINATE
    ):  # nor nan
        bad: NDArray[np.bool_] = np.any(~(np.abs(points) <= MAX_COORDINATE), axis=1)
        bad_before = np.concatenate(([0], np.cumsum(bad)))
        sound = np.diff(bad_before[objects.parts]) == 0
        for part in np.flatnonzero(~sound).tolist():
            x, y = points[objects.parts[part] + np.argmax(bad[objects.parts[part] :])]
            row = int(np.searchsorted(objects.first_part, part, side="right")) - 1
            report("polygon-invalid", f"a polygon part with a point at x {x:g}, y {y:g}", row)
        objects = _without_parts(objects, sound)
    wrong = _wrong_keypoints(objects)
    if wrong:
        keypoints = np.array(objects.keypoints)
        keypoints[list(wrong)] = np.nan
        for row, said in wrong.items():
            report("keypoints-invalid", said, row)
        objects = replace(objects, keypoints=keypoints)
    return objects, problems


def _wrong_keypoints(objects: Objects) -> dict[int, str]:
    """Return row -> what is wrong with its keypoints; an object whose keypoints are all nan has none."""
    keypoints = objects.keypoints
    if keypoints is None:
        return {}
    far: NDArray[np.bool_] = np.any(
        ~(np.abs(keypoints[..., :2]) <= MAX_COORDINATE), axis=2
    )  # also nan
    unclear = ~np.isin(keypoints[..., 2], (0, 1, 2))
    given = ~np.isnan(keypoints).all(axis=(1, 2))
    found = {}
    for row in np.flatnonzero((far | unclear).any(axis=1) & given).tolist():
        if far[row].any():
            found[row] = f"a keypoint is not finite or beyond {MAX_COORDINATE:g} pixels"
        else:
            visibility = keypoints[row, np.argmax(unclear[row]), 2]
            found[row] = f"a visibility of {visibility:g}, expected 0, 1 or 2"
    return found


def _without_parts(objects: Objects, keep: NDArray[np.bool_]) -> Objects:
    """Return the objects with the polygon parts that `keep` (Q,) names."""
    lengths = np.diff(objects.parts)
    kept_before = np.concatenate(([0], np.cumsum(keep)))
    return replace(
        objects,
        points=objects.points[np.repeat(keep, lengths)],
        parts=np.concatenate(([0], np.cumsum(lengths[keep]))),
        first_part=kept_before[objects.first_part],
    )


def _suspect_form(
    xywh: NDArray[np.float64],
    width: NDArray[np.float64],
    height: NDArray[np.float64],
    whole: NDArray[np.bool_],
    names: Names,
) -> Iterator[Problem]:
    """Yield one finding for the dataset where its boxes look like another form altogether."""
    rows = np.flatnonzero(whole)
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    n = len(rows)
    if n < 4:
        return
    box, w, h = xywh[rows], width[rows], height[rows]
    if (box <= 1.0).all(axis=1).mean() > 0.9 and np.median(w) > 4:
        yield Problem(
            "boxes-look-normalised",
            f"{int((box <= 1.0).all(axis=1).sum())} of {n} boxes lie within 0 and 1: they look "
            "normalised by the image size, pixels are due",
            "kept",
            names.of(0),
        )
        return
    as_xywh = (box[:, 0] + box[:, 2] > w * 1.02) | (box[:, 1] + box[:, 3] > h * 1.02)
    as_xyxy = (
        (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        & (box[:, 2] <= w * 1.01) & (box[:, 3] <= h * 1.01)
    )  # fmt: skip
    if as_xywh.mean() > 0.3 and as_xyxy.mean() > 0.98:
        yield Problem(
            "boxes-look-xyxy",
            f"{int(as_xywh.sum())} of {n} boxes leave their image when read as x, y, width, "
            f"height, but {int(as_xyxy.sum())} fit as x_min, y_min, x_max, y_max: corners where "
            "sizes are due? They were read as sizes",
            "kept",
            names.of(0),
        )


def _duplicates(images: Images, objects: Objects, names: Names) -> Iterator[Problem]:
    n = len(objects)
    if n == 0:
        return
    columns = (objects.image, objects.label, *objects.xywh.T)
    mixed = _mixed(columns)
    ordered = np.sort(mixed)  # many times faster than finding out who is equal, mostly nobody
    if not (ordered[1:] == ordered[:-1]).any():
        return
    order = np.argsort(mixed, kind="stable")  # equal rows side by side, in file order
    near = np.flatnonzero(mixed[order[1:]] == mixed[order[:-1]])
    pairs = (order[near + 1], order[near])
    same = near[np.all([c[pairs[0]] == c[pairs[1]] for c in columns], axis=0)] + 1
    for place in same:
        row, twin = int(order[place]), int(order[place - 1])
        yield Problem(
            "duplicate-object",
            f"same image, class and box as annotation {objects.ids[twin]}",
            "kept",
            names.of(int(objects.image[row])),
            images.ids[objects.image[row]],
            objects.ids[row],
        )


def _mixed(columns: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    """Return one number for each row, equal for equal rows."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            bits = (column + 0.0).view(np.uint64)
            mixed = (mixed ^ bits) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
    return mixed


def locate_images(
    images: Images, folder: Folder, names: Names
) -> tuple[Images, NDArray[np.bool_], list[Problem]]:
    """Return the images with their paths, which may be used at all, and all problems.

    Existence is told from one listing for each folder. Where at most `HEADERS_READ_UP_TO` images
    exist, the size in each file's header is held against the annotated one; a size of 0 is
    always filled in from the header, and what has none then is not usable.
    """
    usable = np.ones(len(images.ids), bool)
    found = [folder.find(name) for name in images.file_names]
    problems = _outside(images, names, found, folder)
    for row, (name, file) in enumerate(zip(images.file_names, found, strict=True)):
        if file.name and not file.named and not file.outside:
            detail = f"{name!r} is not there, {file.name!r} is used"
            problems.append(_about(images, names, row, "image-renamed", "kept", detail))
    paths, present = [file.path for file in found], [bool(file.name) for file in found]
    problems += _shared_files(images, names, found)
    missing = [row for row in range(len(paths)) if not present[row]]
    problems += _missing(images, names, missing, folder, len(paths))
    images = replace(images, paths=paths)
    rows = [row for row in range(len(paths)) if present[row]]
    if len(rows) > HEADERS_READ_UP_TO:
        rows = [row for row in rows if images.height[row] == 0 or images.width[row] == 0]
    images, found_problems = _check_headers(images, names, rows, usable)
    problems += found_problems
    unknown = usable & ((images.height == 0) | (images.width == 0))
    for row in np.flatnonzero(unknown).tolist():
        detail = f"no size is given for {images.file_names[row]!r}, and no file to take it from"
        problems.append(_about(images, names, row, "image-size-unknown", "dropped", detail))
    return images, usable & ~unknown, problems


def _outside(images: Images, names: Names, found: Sequence[Found], folder: Folder) -> list[Problem]:
    """Say once that file names lead out of the images folder, and what became of them."""
    rows = [row for row, file in enumerate(found) if file.outside and not file.named]
    if not rows:
        return []
    there = sum(bool(found[row].name) for row in rows)
    lead = "file name leads" if len(rows) == 1 else "file names lead"
    detail = (
        f"{len(rows)} {lead} out of {folder.root}, the first is "
        f"{images.file_names[rows[0]]!r}: {there} found in it by the end of the path; "
        "elsewhere is read only with allow_outside (--allow-outside)"
    )
    return [Problem("path-escapes", detail, "kept", names.of(rows[0]))]


def _shared_files(images: Images, names: Names, found: Sequence[Found]) -> Iterator[Problem]:
    """Yield the images whose file is another image's, too."""
    first: dict[str, int] = {}
    for row, (name, file) in enumerate(zip(images.file_names, found, strict=True)):
        twin = first.setdefault(os.path.normpath(file.path if file.name else name), row)
        if twin != row:
            detail = (
                f"{name!r} is the file of image {images.ids[twin]} as well: each teaches the "
                "other's objects as background; merge their objects"
            )
            yield _about(images, names, row, "duplicate-image-file", "kept", detail)


def _about(
    images: Images, names: Names, row: int, kind: str, action: Action, detail: str
) -> Problem:
    return Problem(kind, detail, action, names.of(row), images.ids[row])


def _missing(
    images: Images, names: Names, missing: list[int], folder: Folder, count: int
) -> list[Problem]:
    if missing and len(missing) == count:
        detail = f"none of the {count} images is in {folder.root}; name the folder with images="
        return [Problem("images-missing", detail, "kept", names.of(0))]
    return [
        _about(
            images,
            names,
            row,
            "image-missing",
            "kept",
            f"no file {images.file_names[row]!r} in {folder.root}",
        )
        for row in missing
    ]


def _check_headers(
    images: Images, names: Names, rows: list[int], usable: NDArray[np.bool_]
) -> tuple[Images, list[Problem]]:
    height, width = images.height.copy(), images.width.copy()
    problems = []
    headers = read_headers([images.paths[row] for row in rows])
    deep = [r for r, h in zip(rows, headers, strict=True) if isinstance(h, Header) and h.is_deep]
    doubt = doubt_about_greys([images.paths[row] for row in deep]) if deep else ""
    if doubt:
        detail = f"{len(deep)} images hold greys of more than 8 bits: {doubt}"
        problems.append(Problem("image-grey", detail, "kept", names.of(deep[0])))
    for row, header in zip(rows, headers, strict=True):
        if isinstance(header, DataError):
            problems.append(_about(images, names, row, "image-unreadable", "dropped", str(header)))
            usable[row] = False
        elif height[row] == 0 and width[row] == 0:
            height[row], width[row] = header.shown
        elif (height[row], width[row]) != header.shown:
            problems.append(_size_problem(images, names, row, header))
            usable[row] = False
    return replace(images, height=height, width=width), problems


def _size_problem(images: Images, names: Names, row: int, header: Header) -> Problem:
    annotated = int(images.height[row]), int(images.width[row])
    said = f"annotated as {annotated[1]}x{annotated[0]} (width x height)"
    if annotated == (header.height, header.width):
        detail = (
            f"{said}, the size of the stored pixels, but EXIF orientation {header.orientation} shows "
            f"it as {header.shown[1]}x{header.shown[0]}: apply the orientation to the file, or "
            "annotate the image as it is shown"
        )
        return _about(images, names, row, "image-orientation", "dropped", detail)
    detail = f"{said}, {images.paths[row]} has {header.shown[1]}x{header.shown[0]}"
    return _about(images, names, row, "image-size", "dropped", detail)
