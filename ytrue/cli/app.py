"""The application: what all verbs share, and how errors end a process."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ytrue import __version__
from ytrue.errors import DataError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn object annotations into the training targets of detectors, and see them. "
    "Exit codes: 0 fine, 1 findings (--fail-on, --fail-under, --max-lost), 2 wrong use or unusable "
    "data.",
)


def main() -> None:
    """Run the command line; errors in data or arguments are one line and exit code 2."""
    # TensorFlow greets with a screenful of its own; errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except (DataError, ValueError, ArithmeticError) as error:
        typer.echo(f"ytrue: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        typer.echo(f"ytrue: {error.filename}: {error.strerror}; name another path", err=True)
        sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
