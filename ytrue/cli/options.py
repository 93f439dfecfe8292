"""Options and helpers that several verbs share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console


PIPED_WIDTH: Final = 120
"""Columns of output that is read by no terminal, unless COLUMNS says otherwise."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset", help="ytrue, efficientdet, retinanet, keras_hub, atss or center_prior."
    ),
]
Size = Annotated[str, typer.Option("--size", help="Network input, pixels: SIDE or HEIGHTxWIDTH.")]
AnchorScale = Annotated[
    float | None,
    typer.Option(
        "--anchor-scale",
        help="Side of a level's smallest square anchor, in strides; default: 4, or the model's.",
    ),
]
Resize = Annotated[str, typer.Option("--resize", help="letterbox or stretch.")]


def sides_of(size: str) -> tuple[int, int]:
    """Return (height, width) of "SIDE" or "HEIGHTxWIDTH"."""
    sides = size.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdigit() for side in sides):
        raise ValueError(
            f"--size {size}: expected SIDE or HEIGHTxWIDTH in pixels, such as 512 or 640x512"
        )
    return int(sides[0]), int(sides[-1])


def resize_mode(resize: str) -> Any:
    """Return the mode if there is such a one."""
    check_choice("--resize", resize, ("letterbox", "stretch"))
    return resize


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError if the option's value is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{option} {value}: expected one of {', '.join(allowed)}")


def rich_console() -> Console:
    """Return a console that wraps lines on a terminal only, and cuts no table in a pipe or a file."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console()
    return Console(soft_wrap=True, width=int(os.environ.get("COLUMNS", PIPED_WIDTH)))


def print_json(value: Any) -> None:
    """Print a value for machines."""
    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def silent_start() -> Iterator[None]:
    """Keep TensorFlow's greetings, written below Python before its log levels hold, off stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def progress_bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Give a progress callback: a bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
