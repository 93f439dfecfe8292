"""The application: what all verbs share."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer
import typer.main

from ytrue import __version__
from ytrue.cli.failures import code_of, flushed, interrupted, pipe_closed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn object annotations into the training targets of detectors, and see them. "
    "Exit codes: 0 fine; 1 findings (--fail-on, --fail-under, --max-lost); 2 nothing done: wrong "
    "use, unusable data, or the system refuses (disk full, no permission, no memory); 3 a fault of "
    "ytrue itself; 130 interrupted; 141 nobody reads the output any more.",
)


def main() -> None:
    """Run the command line; whatever goes wrong is one line and an exit code, never a traceback.

    With YTRUE_TRACEBACK=1 in the environment the traceback comes before that line.
    """
    # TensorFlow greets with a screenful of its own; errors still come through.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:  # libraries warn developers; what users must know is said by the verbs
        warnings.simplefilter("ignore")
    for library in ("matplotlib", "PIL"):
        logging.getLogger(library).setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # a name that the terminal's encoding lacks is printed in escapes
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    """Run a verb and return the exit code."""
    try:
        command = typer.main.get_command(app)
        with command.make_context("ytrue", arguments) as context:
            command.invoke(context)
        return flushed(0)
    except typer.Exit as end:
        return flushed(end.exit_code)
    except BrokenPipeError:
        return pipe_closed()
    except KeyboardInterrupt:
        return interrupted(arguments)
    except Exception as error:  # the last resort of all
        return code_of(error)


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
