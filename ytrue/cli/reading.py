"""The options that say what data a verb reads, and how: the same for every verb."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ytrue.words import printable

if TYPE_CHECKING:
    from ytrue.datasets.dataset import Dataset

Format = Annotated[
    str | None,
    typer.Option("--format", help="coco, voc, yolo, labelme, shapes or records; default: found."),
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder that image file names are relative to.")
]


@dataclass(frozen=True)
class Source:
    """What a verb reads. Each field is an argument or option of every verb that reads data."""

    data: Annotated[Path, typer.Argument(help="Annotation file, or the folder of a dataset.")]
    split: Annotated[
        str | None,
        typer.Option("--split", help="Only this split: train, val, test, or as the files call it."),
    ] = None
    format: Format = None
    images: Images = None
    allow_outside: Annotated[
        bool,
        typer.Option("--allow-outside", help="Read images outside the images folder, too."),
    ] = False
    flip_pairs: Annotated[
        str | None,
        typer.Option(
            "--flip-pairs",
            help="Keypoints that a left-right flip swaps, by name or position: 1:2,3:4; none: no "
            "keypoint has a side.",
        ),
    ] = None
    corners_from: Annotated[
        int | None,
        typer.Option(
            "--corners-from",
            min=0,
            max=1,
            help="Of VOC: the first pixel is 0 or 1; default: decided from the data.",
        ),
    ] = None
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first problem.")] = False

    def at(self, data: Path) -> Source:
        """Return the same options for other data."""
        return replace(self, data=data)

    def load(self) -> Dataset:
        """Return the dataset."""
        from ytrue import datasets
        from ytrue.datasets.loading import with_flips

        dataset = datasets.load(
            self.data, format=self.format, images=self.images, strict=self.strict,
            split=self.split, allow_outside=self.allow_outside,
            one_based=None if self.corners_from is None else bool(self.corners_from),
        )  # fmt: skip
        if self.flip_pairs is None:
            return dataset
        return with_flips(dataset, _pairs(self.flip_pairs, dataset.keypoint_names))

    def load_telling(self) -> Dataset:
        """Return the dataset, having said on standard error what was found wrong with it."""
        dataset = self.load()
        found = Counter((problem.kind, problem.action) for problem in dataset.problems)
        if found:
            kinds = ", ".join(
                f"{n} {kind} ({action})" for (kind, action), n in sorted(found.items())
            )
            where = printable(self.data)
            typer.echo(f"found in {where}: {kinds}; ytrue inspect lists them", err=True)
        return dataset


def reads_data(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb, whose first parameter is a `Source`, the arguments and options of one."""
    hints = get_type_hints(Source, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if field.name == "data" else field.default,
        )
        for field in fields(Source)
    ]
    signature = inspect.signature(verb, eval_str=True)
    own = list(signature.parameters.values())[1:]
    last = [parameter for parameter in own if parameter.name == "as_json"]
    parameters = [shared[0], *(p for p in own if p not in last), *shared[1:], *last]

    def with_source(**given: Any) -> None:
        source = Source(**{field.name: given.pop(field.name) for field in fields(Source)})
        verb(source, **given)

    with_source.__name__, with_source.__doc__ = verb.__name__, verb.__doc__
    with_source.__module__ = verb.__module__
    with_source.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    with_source.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_source


def _pairs(text: str, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the pairs of "left_eye:right_eye,3:4"; none of "none".

    Raises:
        ValueError: something that is no pair, or a name that no keypoint has.
    """
    if text == "none":
        return []
    found = []
    for pair in text.split(","):
        ends = [end.strip() for end in pair.split(":")]
        if len(ends) != 2:
            raise ValueError(f"--flip-pairs {pair}: expected FIRST:SECOND, such as 1:2")
        found.append((_keypoint(ends[0], names), _keypoint(ends[1], names)))
    return found


def _keypoint(text: str, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal():
        return int(text)
    known = ", ".join(names) or "they have no names: give positions"
    raise ValueError(f"--flip-pairs {text}: no such keypoint ({known})")
