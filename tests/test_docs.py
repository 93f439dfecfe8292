"""The docs stay true: commands, problems, the README's code."""

import re
from pathlib import Path

import typer.main

from ytrue.cli import app
from ytrue.datasets import load, write_shapes
from ytrue.datasets.vetting import PROBLEM_KINDS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def verbs(group, above=""):
    """(name, command) of every command, those of groups with the group's name before theirs."""
    for name, command in group.commands.items():
        yield above + name, command
        if hasattr(command, "commands"):
            yield from verbs(command, above + name + " ")


def test_every_verb_and_option_is_documented():
    text = (DOCS / "cli.md").read_text()
    for name, command in verbs(typer.main.get_command(app)):
        section = text.split(f"## ytrue {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts:
                # An argument that may be left out stands in brackets.
                braces = "{}" if parameter.required else "[]"
                wanted = option if option.startswith("-") else option.join(braces)
                assert wanted in section, f"{name}: {wanted}"


def test_every_problem_is_documented_and_used():
    text = (DOCS / "problems.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "datasets").glob("*.py"))
    for kind, meaning in PROBLEM_KINDS.items():
        assert f"| `{kind}` | {meaning} |" in text
        assert source.count(f'"{kind}"') >= 2, f"{kind} is listed but never used"
    used = set(re.findall(r'problem\(\s*"([a-z-]+)"', source)) | set(
        re.findall(r'Problem\(\s*"([a-z-]+)"', source)
    )
    assert used <= PROBLEM_KINDS.keys()


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    write_shapes(tmp_path / "ytrue-demo" / "shapes", num_images=9, image_size=(96, 128), bad=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "(8, 512, 512, 3)" in said
    assert "[unknown-image, dropped]" in said or "dropped]" in said


def test_links_in_the_docs_lead_somewhere():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), (
                f"{page.name}: {link}"
            )


def test_no_machine_path_or_registry_address_is_in_the_sources():
    for path in ROOT.rglob("*"):
        if (
            path.suffix in (".py", ".md", ".toml", ".txt")
            and ".git" not in path.parts
            and path != Path(__file__)
        ):
            text = path.read_text()
            assert "/work" + "/" not in text, path
            assert "pypi" + ".org" not in text, path


def test_loading_a_demo_folder_needs_no_format(tmp_path):
    write_shapes(tmp_path, num_images=2, image_size=(64, 64))
    assert load(tmp_path).classes == ("square", "disc", "triangle", "star")


def test_the_readmes_table_is_the_benchmarks_own():
    readme, benchmarks = (path.read_text() for path in (ROOT / "README.md", DOCS / "benchmarks.md"))
    rows = re.findall(r"^\| D0 .*$", readme, re.MULTILINE)
    assert rows
    assert all(row in benchmarks for row in rows)
