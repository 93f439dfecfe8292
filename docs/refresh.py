"""Writes what the docs repeat from the code again: every verb's help, and every kind of problem.

python docs/refresh.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.testing import CliRunner

from ytrue.cli import app
from ytrue.datasets.vetting import PROBLEM_KINDS

DOCS = Path(__file__).resolve().parent


def verbs(group: Any, above: str = "") -> Iterator[str]:
    """Yield the name of every verb, those of a group with the group's name before theirs."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{above}{name} ")
        else:
            yield above + name


def help_of(verb: str) -> str:
    """Return what `ytrue VERB --help` prints, 80 columns wide."""
    result = CliRunner().invoke(
        app, [*verb.split(), "--help"], prog_name="ytrue", env={"COLUMNS": "80"}
    )
    return result.stdout.strip()


def write_helps() -> None:
    """Replace the text block of each verb in cli.md; a new verb's section is added at the end."""
    page = DOCS / "cli.md"
    text = page.read_text(encoding="utf-8")
    for verb in verbs(typer.main.get_command(app)):
        title, block = f"## ytrue {verb}\n", f"```text\n{help_of(verb)}\n```"
        if title not in text:
            text += f"\n{title}\n{block}\n"
            continue
        before, after = text.split(title)
        end = after.index("```\n", after.index("```text\n") + 1)
        text = before + title + after[: after.index("```text\n")] + block + after[end + 3 :]
    page.write_text(text, encoding="utf-8")


def write_problems() -> None:
    """Replace the table of problems.md."""
    page = DOCS / "problems.md"
    text = page.read_text(encoding="utf-8")
    rows = "".join(f"| `{kind}` | {meaning} |\n" for kind, meaning in PROBLEM_KINDS.items())
    table = re.compile(r"(\| --- \| --- \|\n)(?:\|.*\|\n)+")
    page.write_text(table.sub(lambda found: found[1] + rows, text, count=1), encoding="utf-8")


if __name__ == "__main__":
    write_helps()
    write_problems()
