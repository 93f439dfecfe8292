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


PIPED_WIDTH: Final = 80
"""Columns of tables that are read by no terminal, unless COLUMNS says otherwise."""

LONGEST_SIDE: Final = 16_384
"""Pixels of a network's input that are taken for meant: its anchors are some 50 million."""

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
    if len(sides) not in (1, 2) or not all(side.isdecimal() for side in sides):
        raise ValueError(
            f"--size {size:.40}: expected SIDE or HEIGHTxWIDTH in pixels, such as 512 or 640x512"
        )
    # Of thousands of digits Python refuses to make a number.
    if any(len(side) > 9 or not 0 < int(side) <= LONGEST_SIDE for side in sides):
        raise ValueError(f"--size {size:.40}: expected sides from 1 to {LONGEST_SIDE} pixels")
    return int(sides[0]), int(sides[-1])


def resize_mode(resize: str) -> Any:
    """Return the mode if there is such a one."""
    check_choice("--resize", resize, ("letterbox", "stretch"))
    return resize


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError if the option's value is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{option} {value}: expected one of {', '.join(allowed)}")


def check_share(option: str, value: float | None) -> None:
    """Raise ValueError if the option's value is no share: below 0, above 1, or nan."""
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{option} {value:g}: expected a share from 0 to 1, such as 0.05")


def rich_console() -> Console:
    """Return a console that wraps lines on a terminal, and elsewhere where COLUMNS asks for it."""
    from rich.console import Console

    class Plain(Console):
        """Takes no name for an emoji's, and leaves it to `main` that nobody reads any more."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    columns = os.environ.get("COLUMNS", "")
    if sys.stdout is not None and sys.stdout.isatty():
        return Plain(emoji=False)
    asked = columns.isdecimal() and int(columns) > 0
    width = int(columns) if asked else PIPED_WIDTH
    return Plain(emoji=False, soft_wrap=not asked, width=width)


def print_json(value: Any) -> None:
    """Print a value for machines."""
    typer.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def silent_start() -> Iterator[None]:
    """Keep TensorFlow's greetings, written below Python before its log levels hold, off stderr."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
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
    if quiet or sys.stderr is None or not sys.stderr.isatty():
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
