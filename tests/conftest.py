"""Where tests find the shared reference data, which is not part of the repository."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The first example of a test may compile a kernel.
settings.register_profile("ytrue", deadline=None)
settings.load_profile("ytrue")

pytest.register_assert_rewrite("laws")

# `python -m pytest` puts this checkout on the path, whose bare folders are not the installed package.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

SHARED = Path(os.environ.get("YTRUE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def _shared(name: str) -> Path:
    folder = SHARED / name
    if folder.is_dir():
        return folder
    message = f"needs the reference data in {folder} (set YTRUE_SHARED)"
    if os.environ.get("YTRUE_REQUIRE_SHARED") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return _shared("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    return _shared("golden")
