"""How errors end the process: one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Final

import typer

from ytrue.words import printable

NOTHING_DONE: Final = 2
FAULT: Final = 3
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141  # as the shell says of a program that SIGPIPE ends

_WHAT_TO_DO: Final = {
    errno.ENOSPC: "make room, or name another place",
    errno.EDQUOT: "make room, or name another place",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
_GOES_ON: Final = ("encode", "train")
_DATA_ERROR: Final = re.compile(r"DataError: (.*)")
_NODE: Final = re.compile(r"\{\{.*?\}\}\s*")
_LONGEST: Final = 2000


def code_of(error: Exception) -> int:
    """Say in one line what went wrong and return the exit code."""
    if os.environ.get("YTRUE_TRACEBACK", "0") != "0":
        traceback.print_exception(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return NOTHING_DONE
    words, code = _words(error)
    say(words)
    return flushed(code)


def interrupted(arguments: list[str]) -> int:
    """Say that the user stopped the verb, and how it goes on where it does."""
    goes_on = any(verb in arguments for verb in _GOES_ON)
    say("interrupted" + ("; the same command goes on from what is saved" if goes_on else ""))
    return flushed(INTERRUPTED)


def pipe_closed() -> int:
    """Give up in silence: the reader of the output (`| head`) has enough."""
    _leave_stdout()
    return PIPE_CLOSED


def flushed(code: int) -> int:
    """Return the exit code once all output is written, another where it cannot be."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return pipe_closed()
    except OSError as error:
        _leave_stdout()
        say(_of_system(error))
        return NOTHING_DONE
    return code


def say(words: str) -> None:
    """Write a line to standard error, if that can be written to."""
    try:
        typer.echo(f"ytrue: {printable(' '.join(words.split()))[:_LONGEST]}", err=True)
    except OSError:
        return  # nobody listens; the exit code tells


def _words(error: Exception) -> tuple[str, int]:
    """Return what to say of an error, and the exit code."""
    if hasattr(error, "format_message"):  # typer: a verb or option that is none
        return f"{error.format_message()} See ytrue --help.", NOTHING_DONE
    if isinstance(error, typer.Abort):
        return "given up", NOTHING_DONE
    if type(error).__module__.startswith("tensorflow."):
        return _of_tensorflow(error)
    if isinstance(error, MemoryError):
        return f"not enough memory ({str(error) or 'the system gives no more'})", NOTHING_DONE
    if isinstance(error, RecursionError):
        return "the data is nested too deeply to be read", NOTHING_DONE
    if isinstance(error, OSError):
        return _of_system(error), NOTHING_DONE
    if isinstance(error, ValueError | ArithmeticError):  # DataError among them
        return str(error) or type(error).__name__, NOTHING_DONE
    return _of_fault(error), FAULT


def _of_system(error: OSError) -> str:
    """Return what the system refuses: the path, why, and what to do."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        where = "the output cannot be written" if error.errno else ""
    else:
        where = os.fsdecode(error.filename) if not isinstance(error.filename, int) else ""
    advice = _WHAT_TO_DO.get(error.errno or 0, "name another path" if where else "")
    return (f"{where}: {reason}" if where else reason) + (f"; {advice}" if advice else "")


def _of_tensorflow(error: Exception) -> tuple[str, int]:
    """Return the data error within TensorFlow's, or its first line."""
    said = str(getattr(error, "message", None) or error)
    ours = _DATA_ERROR.search(said)
    if ours:
        return ours[1], NOTHING_DONE
    name = type(error).__name__
    first = _NODE.sub("", said).strip().split("\n")[0]
    if name == "ResourceExhaustedError":
        return f"not enough memory ({first}); take a smaller --batch-size or --size", NOTHING_DONE
    return f"TensorFlow: {name}: {first}{_HOW_TO_REPORT}", FAULT


_HOW_TO_REPORT: Final = "; a fault of ytrue: YTRUE_TRACEBACK=1 shows where, please report it"


def _of_fault(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}: {error}{_HOW_TO_REPORT}"


def _leave_stdout() -> None:
    """Let the interpreter's last flush go nowhere: it would end in words of its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
