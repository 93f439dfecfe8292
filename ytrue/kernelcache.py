"""Where compiled kernels are kept between processes, and for which code they are good.

numba asks of a kept kernel whether the kernel's own file is as it was. A kernel holds the code of all
that it calls, so here the folder it is kept in is named by a digest of every file that code comes from:
an upgrade, or an edit, never meets what was compiled of other files. (The processor and its features
are part of numba's own key.)

The folder is the user's cache folder, or that of NUMBA_CACHE_DIR. An installation is left as it was
installed, so that to remove it removes all of it; where no such folder can be written it is one in
the folder for temporary files.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import shutil
import stat
import sys
import tempfile
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.misc.appdirs import AppDirs

FAMILY: Final = "kernels"
"""A folder of this name holds kernels that call each other; elsewhere a file stands alone."""

_KEPT_VERSIONS: Final = 8
_LONG: Final = 1.0  # seconds of compilation that are worth a word


def keep(function: Any) -> Any:
    """Give a compiled function its cache; return it. Without compilation (a plain function): as it is."""
    if hasattr(function, "py_func"):
        place = _folder_for(inspect.getfile(function.py_func))
        function._cache = _Forgotten() if place is None else _Kept(function.py_func)
    return function


def _folder_for(file: str) -> Path | None:
    """Return the folder of the kernels of a file, None where there is none."""
    folder = Path(file).parent
    return _folder_of(folder if folder.name == FAMILY else Path(file))


@cache
def _folder_of(family: Path) -> Path | None:
    root, digest = _root(), _digest(sources_of(family))
    if root is None or digest is None:
        return None
    place = root / f"{family.stem}-{digest}"
    with contextlib.suppress(OSError):  # it is not there before something is kept
        os.utime(place)  # when it was last used, for `_prune`
    return place


def sources_of(family: Path) -> list[Path]:
    """Return the files that machine code comes from: of a family's folder, or of a file.

    Those that hold it, and this module and the decorators. Of an installation in an archive: the
    archive.
    """
    own = sorted(family.glob("*.py")) if family.is_dir() else [family]
    files = [*own, Path(__file__), Path(__file__).with_name("jit.py")]
    return [_file_or_archive(one) for one in files]


def _file_or_archive(file: Path) -> Path:
    return next((place for place in (file, *file.parents) if place.is_file()), file)


def _digest(files: list[Path]) -> str | None:
    """Return what tells these files and compilers from others; None of files that cannot be read."""
    versions = (
        numba.__version__,
        llvmlite.__version__,
        sys.version,
        config.OPT,
        config.BOUNDSCHECK,
    )
    told = sha256(repr(versions).encode())
    try:
        for file in dict.fromkeys(files):
            told.update(file.name.encode() + b"\0" + sha256(file.read_bytes()).digest())
    except OSError:
        return None
    return told.hexdigest()[:20]


# The folder.


@cache
def _root() -> Path | None:
    """Return the first of the folders that kernels may be kept in that can be written."""
    if config.CACHE_DIR and _is_writable(Path(config.CACHE_DIR).absolute() / "ytrue"):
        return Path(config.CACHE_DIR).absolute() / "ytrue"
    for root in (_users_root(), _temporary_root()):
        if root is not None and root.is_absolute() and _is_writable(root) and _is_private(root):
            return root
    return None


def _users_root() -> Path:
    return Path(AppDirs(appname="ytrue", appauthor=False).user_cache_dir)


def _temporary_root() -> Path | None:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        return Path(tempfile.gettempdir()) / f"ytrue-{user}"
    except FileNotFoundError:  # no folder for temporary files can be written
        return None


def _is_writable(root: Path) -> bool:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError:
        return False
    return True


def _is_private(root: Path) -> bool:
    """Return whether nobody else can put files there: what is kept is code that will be run."""
    if not hasattr(os, "getuid"):
        return True
    found = root.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _prune(place: Path) -> None:
    """Remove the least recently used folders of one family; a process that uses one compiles anew."""
    family = place.name.rpartition("-")[0]
    with contextlib.suppress(OSError):  # another process may be at it, too
        folders = sorted(place.parent.glob(f"{family}-*"), key=lambda one: -one.stat().st_mtime)
        for old in folders[_KEPT_VERSIONS:]:
            shutil.rmtree(old, ignore_errors=True)


# What numba asks for.


class _Locator:
    """Where the kernels of a function are kept, as numba asks."""

    def __init__(self, function: Any, file: str, place: Path) -> None:
        self._py_file = file  # numba names it in warnings
        self._place, self._line = place, function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator | None:
        place = _folder_for(file)
        return None if place is None else cls(function, file, place)

    def ensure_cache_path(self) -> None:
        if not self._place.is_dir():
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _prune(self._place)

    def get_cache_path(self) -> str:
        return str(self._place)

    def get_source_stamp(self) -> str:
        return self._place.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Told:
    """Has it said, once, that kernels are being compiled, where that takes long."""

    def load_overload(self, signature: Any, context: Any) -> Any:
        found = super().load_overload(signature, context)  # type: ignore[misc]
        if found is None:
            _compilation.begin()
        return found

    def save_overload(self, signature: Any, compiled: Any) -> None:
        _compilation.end()
        super().save_overload(signature, compiled)  # type: ignore[misc]


class _Readable(FunctionCache):  # type: ignore[misc]
    """A cache whose damaged files count as none, and that a full disk cannot stop."""

    _impl_class = _Implementation

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return super().load_overload(signature, context)
        except (OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError):
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            super().save_overload(signature, compiled)
        except OSError as error:
            _compilation.say(f"compiled kernels cannot be kept: {error}")


class _Kept(_Told, _Readable):
    """Kernels that later processes find."""


class _Forgotten(_Told, NullCache):  # type: ignore[misc]
    """Kernels that no other process will find."""


class _Compilation:
    """How long this process has compiled; numba compiles one function at a time, and its callees in it."""

    def __init__(self) -> None:
        self._open, self._since, self._spent = 0, 0.0, 0.0
        self._said: set[str] = set()

    def begin(self) -> None:
        now = time.monotonic()
        self._since = now if self._open == 0 else self._since
        self._open += 1
        if self._spent + now - self._since > _LONG:
            self.say(_words(_root()))

    def end(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._spent += time.monotonic() - self._since

    def say(self, words: str) -> None:
        """Print a line to stderr, once."""
        if words not in self._said:
            self._said.add(words)
            print(f"ytrue: {words}", file=sys.stderr)


def _words(root: Path | None) -> str:
    if root is None:
        return (
            "compiling kernels, in every process anew (about half a minute): no folder can be "
            "written to keep them in; set NUMBA_CACHE_DIR to one that can"
        )
    if root == _temporary_root():
        return (
            f"compiling kernels, once (about half a minute); kept in {root}, as no cache folder "
            "can be written: set NUMBA_CACHE_DIR to one that can"
        )
    return f"compiling kernels, once (about half a minute); kept in {root}"


_compilation = _Compilation()
