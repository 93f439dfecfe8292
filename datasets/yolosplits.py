"""Which splits the images of a YOLO dataset are in."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ytrue.datasets.building import DatasetBuilder
from ytrue.datasets.splits import folder_split, in_usual_order, is_split_name, split_name
from ytrue.datasets.textfiles import read_text
from ytrue.datasets.yololayout import Layout
from ytrue.errors import DataError


class SplitsOfImages:
    """Tells the splits of images, by data.yaml, else by lists (train.txt), else by folders (train/).

    Args:
        layout: where the dataset's parts lie.
        lists: text files that list images; those called as splits are count where no data.yaml says
            where the splits are.
    """

    def __init__(self, layout: Layout, lists: Sequence[Path]) -> None:
        self._folder = layout.folder
        self._folders: list[tuple[str, str]] = []
        self._lists: list[tuple[str, Path]] = []
        self._problems: list[tuple[str, str]] = []
        facts = layout.facts
        places, missing = facts.places() if facts else ({}, [])
        for split, found in places.items():
            for place in found:
                if place.is_dir():
                    self._folders.append((os.path.abspath(place) + os.sep, split))
                else:
                    self._lists.append((split, place))
        if facts and missing and (places or len(missing) == 1):
            self._problems += [(str(facts.file), f"{entry} is not there") for entry in missing]
        if not places:
            named = [file for file in lists if is_split_name(file.stem)]
            self._lists = [(split_name(file.stem), file) for file in named]
        self._wanted = self._read()
        self._met: set[tuple[str, str]] = set()

    def of(self, images: Sequence[Path], labels: Sequence[Path] = ()) -> list[tuple[str, ...]]:
        """Return the splits of each image file, of which the label files may be known."""
        return [
            self._one(os.path.abspath(image)) or folder_split(files[-1], self._folder)
            for image, *files in zip(images, labels or images, strict=True)
        ]

    def report(self, builder: DatasetBuilder) -> None:
        """List what splits name and is not there, once all images were asked for."""
        for where, detail in self._problems:
            builder.problem("split-missing", detail, "dropped", file=where)
        for (split, file), lines in self._by_list.items():
            lost = [line for line in lines if (split, line) not in self._met]
            if lost:
                detail = f"{len(lost)} of {len(lines)} images are not here, such as {lost[0]!r}"
                builder.problem("split-missing", detail, "dropped", file=str(file))

    def _one(self, path: str) -> tuple[str, ...]:
        found = {split for folder, split in self._folders if path.startswith(folder)}
        for key in (path, self._below(path)):
            for split, line in self._wanted.get(key, ()):
                found.add(split)
                self._met.add((split, line))
        return in_usual_order(found) or folder_split(Path(path), self._folder.absolute())

    def _below(self, path: str) -> str:
        """Return a path relative to the dataset's folder."""
        return Path(os.path.relpath(path, self._folder)).as_posix()

    def _read(self) -> dict[str, list[tuple[str, str]]]:
        """Return what images may be called in lists -> (split, line) of those that do.

        A line counts from the list's folder, and from the dataset's; of a path on another machine
        (or below Darknet's data/) all ends count that are a whole path in the dataset's folder.
        """
        wanted: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._by_list: dict[tuple[str, Path], list[str]] = {}
        for split, file in self._lists:
            try:
                text = read_text(file, may_be_empty=True)
            except DataError as error:
                self._problems.append((str(file), str(error)))
                continue
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            self._by_list[split, file] = lines
            for line in dict.fromkeys(lines):
                name = line.replace("\\", "/")
                wanted[os.path.abspath(file.parent / name)].append((split, line))
                parts = [part for part in name.split("/") if part not in ("", ".", "..")]
                for first in range(len(parts)):
                    wanted["/".join(parts[first:])].append((split, line))
        return wanted
