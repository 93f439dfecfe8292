"""Compiled kernels are those of the code at hand, kept where the user may write, and announced once."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import ytrue
from ytrue import kernelcache
from ytrue.datasets import checksum, cocotext
from ytrue.encoders.kernels import cells, matching

# 20 of 64 in 4 cells: what a first version says, and one with another `locate`.
LOCATE = """
from ytrue.encoders.kernels.cellsuser import place
print(*place(20.0))
"""
LONG_FROM = "from ytrue import kernelcache\nkernelcache._LONG = {}"
CALLER = """
import numpy as np
from ytrue.encoders.kernels.cells import locate
from ytrue.jit import kernel


@kernel
def place(value):
    return locate(np.float32(value), np.float32(64), np.float32(4))
"""


def a_copy(folder, edit=None):
    """Lay out a `ytrue` of the vocabulary and the kernels alone, as a wheel would be."""
    package = folder / "ytrue"
    (package / "encoders" / "kernels").mkdir(parents=True, exist_ok=True)
    for name in ("jit.py", "kernelcache.py"):
        shutil.copy(Path(ytrue.__file__).with_name(name), package / name)
    shutil.copy(cells.__file__, package / "encoders" / "kernels")
    (package / "encoders" / "kernels" / "cellsuser.py").write_text(CALLER)
    for one in (package, package / "encoders", package / "encoders" / "kernels"):
        (one / "__init__.py").write_text("")
    if edit is not None:
        changed = package / "encoders" / "kernels" / "cells.py"
        before = changed.read_text()
        changed.write_text(before.replace(*edit))
        assert changed.read_text() != before
    return folder


def run(path, code=LOCATE, **environment):
    """Run code with a `ytrue` on the path, alone; returns the process when it has ended."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path += {PLACES!r}\n{code}"],
        env=given | {"PYTHONPATH": str(path)} | {k: str(v) for k, v in environment.items()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


# Without the interpreter's own start-up of site-packages no editable install is in front.
PLACES = [place for place in sys.path if place.endswith("-packages")]
OTHER = ("cell = min(np.floor(place), count - np.float32(1))", "cell = np.float32(3)")
FIRST, SECOND = "1 0.25\n", "3 -1.75\n"


def test_an_upgrade_runs_its_own_code_though_the_caller_is_as_it_was(tmp_path):
    cache = {"HOME": tmp_path / "home", "XDG_CACHE_HOME": tmp_path / "cache"}
    site = a_copy(tmp_path / "site")
    assert run(site, **cache).stdout == FIRST
    kept = list((tmp_path / "cache" / "ytrue").iterdir())
    assert len(kept) == 1
    a_copy(tmp_path / "site", OTHER)  # in place, as pip and git do
    assert run(site, **cache).stdout == SECOND
    a_copy(tmp_path / "site")
    assert run(site, **cache).stdout == FIRST  # and back again: the first is still there
    assert len(list((tmp_path / "cache" / "ytrue").iterdir())) == 2


def test_two_installations_of_one_user_do_not_meet_and_equal_ones_share(tmp_path):
    cache = {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache"}
    one, other = a_copy(tmp_path / "one"), a_copy(tmp_path / "other", OTHER)
    assert [run(site, **cache).stdout for site in (one, other, one)] == [FIRST, SECOND, FIRST]
    same = a_copy(tmp_path / "same")
    before = sorted(tmp_path.glob("cache/ytrue/*/*"))
    assert run(same, **cache).stdout == FIRST
    assert sorted(tmp_path.glob("cache/ytrue/*/*")) == before


def test_an_installation_is_left_as_it_was_installed(tmp_path):
    site = a_copy(tmp_path / "site")
    run(site, HOME=tmp_path, XDG_CACHE_HOME=tmp_path / "cache", PYTHONDONTWRITEBYTECODE=1)
    assert {file.suffix for file in site.rglob("*") if file.is_file()} == {".py"}


def test_an_archive_keeps_its_kernels_and_a_changed_one_compiles_anew(tmp_path):
    cache = {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache"}
    for edit, said in ((None, FIRST), (OTHER, SECOND)):
        site = a_copy(tmp_path / f"site{said[0]}", edit)
        shutil.make_archive(str(tmp_path / "code"), "zip", site)
        assert run(tmp_path / "code.zip", **cache).stdout == said
    assert len(list((tmp_path / "cache" / "ytrue").iterdir())) == 2


def test_where_no_home_can_be_written_a_private_temporary_folder_is_used(tmp_path):
    site, file = a_copy(tmp_path / "site"), tmp_path / "file"
    file.write_text("")  # below a file no folder can be made, by root neither
    nowhere = {"HOME": file / "home", "XDG_CACHE_HOME": file / "cache", "TMPDIR": tmp_path / "tmp"}
    (tmp_path / "tmp").mkdir()
    loud = LONG_FROM.format(-1) + LOCATE
    first = run(site, loud, **nowhere)
    assert first.stdout == FIRST
    assert "no cache folder can be written" in first.stderr
    assert first.stderr.count("\n") == 1
    (root,) = (tmp_path / "tmp").iterdir()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    again = run(site, loud, **nowhere)
    assert (again.stdout, again.stderr) == (FIRST, "")


@pytest.mark.parametrize("planted", ["writable by others", "a link", "a file"])
def test_a_temporary_folder_that_others_could_write_is_not_trusted(tmp_path, planted):
    site, file, tmp = a_copy(tmp_path / "site"), tmp_path / "file", tmp_path / "tmp"
    file.write_text("")
    tmp.mkdir()
    place = tmp / f"ytrue-{os.getuid()}"
    if planted == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    elif planted == "a file":
        place.write_text("")
    else:
        place.mkdir()
        place.chmod(0o777)
    loud = LONG_FROM.format(-1) + LOCATE
    done = run(site, loud, HOME=file / "h", XDG_CACHE_HOME=file / "c", TMPDIR=tmp)
    assert done.stdout == FIRST
    assert "in every process anew" in done.stderr
    assert not [one for one in tmp_path.glob("[te][ml]*/**/*") if one.suffix.startswith(".nb")]


def test_a_damaged_cache_counts_as_none(tmp_path):
    site, cache = (
        a_copy(tmp_path / "site"),
        {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache"},
    )
    run(site, **cache)
    for pattern in ("*.nbi", "*.nbc"):
        for file in (tmp_path / "cache").rglob(pattern):
            file.write_bytes(b"")
        assert run(site, **cache).stdout == FIRST
        assert all(file.stat().st_size for file in (tmp_path / "cache").rglob(pattern))


def test_compiling_is_told_once_and_only_where_it_takes_long(tmp_path):
    site, cache = (
        a_copy(tmp_path / "site"),
        {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache"},
    )
    loud = LONG_FROM.format(-1) + LOCATE
    told = run(site, loud, **cache)
    assert told.stdout == FIRST
    assert told.stderr == (
        f"ytrue: compiling kernels, once (about half a minute); kept in {tmp_path / 'cache' / 'ytrue'}\n"
    )
    assert run(site, loud, **cache).stderr == ""
    quick = LONG_FROM.format(1e9) + LOCATE
    shutil.rmtree(tmp_path / "cache")
    assert run(site, quick, **cache).stderr == ""


def test_only_the_latest_folders_of_a_family_are_kept(tmp_path):
    for age in range(12):
        for family in ("kernels", "other"):
            (tmp_path / f"{family}-{age}").mkdir()
            os.utime(tmp_path / f"{family}-{age}", (1e9 - age, 1e9 - age))
    kernelcache._prune(tmp_path / "kernels-0")
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {f"kernels-{age}" for age in range(8)} | {f"other-{age}" for age in range(12)}


def kernels_of(module):
    return {k: v for k, v in vars(module).items() if isinstance(v, Dispatcher)}


@pytest.mark.parametrize("module", [matching, checksum, cocotext], ids=lambda m: m.__name__)
def test_whatever_a_kernel_calls_is_in_what_names_its_folder(module):
    assert kernels_of(module)
    for function in kernels_of(module).values():
        file = Path(function.py_func.__code__.co_filename)
        family = file.parent if file.parent.name == kernelcache.FAMILY else file
        sources = {one.resolve() for one in kernelcache.sources_of(family)}
        assert file.resolve() in sources
        for name in function.py_func.__code__.co_names:
            used = function.py_func.__globals__.get(name)
            home = getattr(used, "py_func", used)
            if isinstance(home, ModuleType | type) or np.isscalar(used) or used is None:
                continue
            if getattr(home, "__module__", "").startswith("ytrue"):
                assert Path(sys.modules[home.__module__].__file__).resolve() in sources, name


@pytest.mark.parametrize(
    ("place", "name"),
    [(sys, "version"), (numba, "__version__"), (llvmlite, "__version__")]
    + [(kernelcache.config, "OPT"), (kernelcache.config, "BOUNDSCHECK")],
)
def test_another_compiler_or_setting_of_it_has_a_folder_of_its_own(monkeypatch, place, name):
    files = [Path(kernelcache.__file__)]
    before = kernelcache._digest(files)
    assert kernelcache._digest(files) == before
    monkeypatch.setattr(place, name, "another")
    assert kernelcache._digest(files) != before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners")
def test_a_folder_of_another_user_is_not_trusted(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    assert kernelcache._is_private(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not kernelcache._is_private(tmp_path)
