"""Where the parts of a YOLO dataset lie: its data.yaml, its label files, its lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ytrue.datasets.annotationfiles import Walk, spread, walk
from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.pairing import LABEL_FOLDERS
from ytrue.datasets.yolonames import NAME_FILES, tops
from ytrue.datasets.yolorows import read_rows
from ytrue.datasets.yoloyaml import EXTENSIONS, Facts, is_data_yaml, read_facts
from ytrue.errors import DataError

_NO_LABELS: Final = frozenset((*NAME_FILES, "readme.txt", "license.txt", "requirements.txt"))
_USUAL: Final = ("data", "dataset", "obj")


@dataclass(frozen=True)
class Layout:
    """The files of a dataset.

    Attributes:
        source: what was named.
        folder: the folder that the dataset is.
        files: text files that may be label files or lists of images.
        facts: its data.yaml.
        inner: data.yaml files of folders in it, where it has none of its own.
        found: what the folder holds.
        doubts: what is odd about the data.yaml files, each a kind, detail and file.
    """

    source: Path
    folder: Path
    files: Sequence[Path]
    facts: Facts | None
    inner: Sequence[Facts]
    found: Walk
    doubts: Sequence[tuple[str, str, str]]

    def is_among_labels(self, file: Path) -> bool:
        """Return whether a file lies in a folder that is called as folders of labels are."""
        below = (self.folder.name, *file.parent.parts[len(self.folder.parts) :])
        return any(part.lower() in LABEL_FOLDERS for part in below)

    def report(self, builder: DatasetBuilder) -> None:
        """List what is odd about the files."""
        self.found.report(builder)
        for kind, detail, file in self.doubts:
            builder.problem(kind, detail, "kept", file=file)


def has_labels(source: Path) -> bool:
    """Return whether there is a data.yaml, or most of some text files hold classes and numbers."""
    if source.is_file() and source.suffix.lower() in EXTENSIONS:
        return True
    if source.is_file() and source.suffix.lower() != ".txt":
        return False
    try:
        layout = find_layout(source)
    except DataError:
        return True  # a data.yaml that is none: reading says what is wrong
    labels = [file for file in layout.files if layout.is_among_labels(file)]
    told = [found for found in map(read_rows, spread(labels or layout.files)) if not found.is_list]
    good = sum(bool(found.good) for found in told)
    if not good:
        return bool(labels or layout.facts) and any(found.empty for found in told)
    return bool(labels or layout.facts) or 2 * good >= sum(not found.empty for found in told)


def find_layout(source: Path) -> Layout:
    """Return where the parts of the dataset lie that a folder, a data.yaml or a label file is of.

    Raises:
        DataError: a data.yaml that cannot be read.
    """
    if source.suffix.lower() == ".txt" and not source.is_dir():
        facts, doubts = _choose(_above(source.parent), source.parent)
        return Layout(source, source.parent, [source], facts, [], Walk(), doubts)
    if source.is_dir():
        found = walk(source, (".txt", *EXTENSIONS))
        facts, doubts = _choose(_above(source), source)
        inner: list[Facts] = []
        if facts is None:
            inner, doubts = _facts_of(found.of(*EXTENSIONS), source)
        if len(inner) == 1:
            facts, inner = inner[0], []
        _check_inner(inner, source)
        folder = source
    else:
        facts, inner, doubts = read_facts(source), [], []
        folder = facts.root
        found = walk(folder, (".txt",))
    files = [*found.of(".txt"), *(_outside(facts, folder) if facts else ())]
    wanted = [f for f in dict.fromkeys(files) if f.name.lower() not in _NO_LABELS]
    return Layout(source, folder, wanted, facts, inner, found, doubts)


def _above(folder: Path) -> list[list[Path]]:
    """Return the YAML files of a folder, then of those above it that are of the same dataset."""
    return [
        sorted(f for f in _listed(top) if f.suffix.lower() in EXTENSIONS) for top in tops(folder)
    ]


def _listed(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


def _choose(
    groups: Sequence[Sequence[Path]], folder: Path
) -> tuple[Facts | None, list[tuple[str, str, str]]]:
    """Return what the nearest data.yaml of this dataset says, and what is odd about others.

    Of several the one whose splits are in the folder is taken, else the one of the usual name.
    """
    doubts: list[tuple[str, str, str]] = []
    for group in groups:
        ours, odd = _facts_of(group, folder)
        doubts += odd
        ours.sort(key=lambda facts: (not facts.places()[0], facts.file.stem not in _USUAL))
        if ours:
            first = ours[0]
            for other in ours[1:]:
                if first.names and other.names and other.names != first.names:
                    detail = f"{other.file} names other classes; this file's are used"
                    doubts.append(("class-names-differ", detail, str(first.file)))
            return first, doubts
    return None, doubts


def _facts_of(
    files: Sequence[Path], folder: Path
) -> tuple[list[Facts], list[tuple[str, str, str]]]:
    """Return what those files say that are a data.yaml of the dataset in a folder, and what is odd.

    Raises:
        DataError: one that is called data.yaml cannot be read.
    """
    found, doubts = [], []
    for file in files:
        try:
            facts = read_facts(file) if is_data_yaml(file) else None
        except DataError as error:
            if file.stem.lower() in _USUAL:
                raise
            doubts.append(("file-unread", str(error), str(file)))
            continue
        if facts is not None and _is_of(facts, folder):
            found.append(facts)
    return found, doubts


def _is_of(facts: Facts, folder: Path) -> bool:
    """Return whether a data.yaml is of the dataset in a folder: its splits lead there, or nowhere."""
    places = [place for found in facts.places()[0].values() for place in found]
    here = folder.absolute()
    return not places or any(
        place.absolute().is_relative_to(facts.file.parent.absolute())
        or place.absolute().is_relative_to(here)
        for place in places
    )


def _check_inner(inner: Sequence[Facts], source: Path) -> None:
    if any(facts.shape for facts in inner):
        names = ", ".join(str(facts.file) for facts in inner[:3])
        raise DataError(
            f"several data.yaml in it, and one of them has kpt_shape ({names})", where=source,
            do="name one of them",
        )  # fmt: skip


def _outside(facts: Facts, folder: Path) -> list[Path]:
    """Return label files of the splits that lie elsewhere than in the dataset's folder."""
    here = folder.absolute()
    found: list[Path] = []
    for places in facts.places()[0].values():
        for place in places:
            if place.is_dir() and not place.absolute().is_relative_to(here):
                for labels in dict.fromkeys((_mirrored(place), place)):
                    found += walk(labels, (".txt",)).files if labels.is_dir() else []
    return found


def _mirrored(images: Path) -> Path:
    """Return the labels folder of an images folder: its last part `images` is `labels` there."""
    parts = list(images.parts)
    places = [k for k, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)
