"""`export.json`: what an export holds, and the check that it still does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ytrue.contract import config_digest
from ytrue.errors import DataError

MANIFEST: Final = "export.json"
ANCHORS: Final = "anchors.npy"
SAVED_MODEL: Final = "saved_model"
_HELD: Final[dict[str, type]] = {
    "digest": str, "encoder": dict, "files": dict, "image_size": list, "classes": list,
    "class_ids": list, "resize": str,
}  # fmt: skip
"""Name -> type of what an export cannot be read without."""


def lite_name(precision: str) -> str:
    """Return the TFLite file's name."""
    return f"model_{precision}.tflite"


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write `export.json`: the content and the SHA-256 of every file in the folder."""
    files = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps(content | {"files": files}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return `export.json`'s content.

    Raises:
        DataError: there is none, it is no export's, or its encoder is not the one of its digest.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            "there is no export.json", where=folder, do="name the folder of an export"
        ) from None
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})", where=path, do="name the folder of an export"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", where=path, do="export again") from error
    given = content if isinstance(content, dict) else {}
    missing = {"digest", "encoder", "files"} - given.keys() or {
        name for name, kind in _HELD.items() if not isinstance(given.get(name), kind)
    }
    if missing:
        raise DataError(f"no {', '.join(sorted(missing))} in it", where=path, do="export again")
    found = config_digest(content["encoder"])
    if found != content["digest"]:
        raise DataError(
            f"the encoder's config has the digest {found}, but the file names {content['digest']}",
            where=path,
            do="export again",
        )
    return dict(content)


def check_files(folder: Path, content: dict[str, Any], wanted: Iterable[str]) -> None:
    """Check that files are the exported ones; a name that ends in "/" stands for a folder's.

    Raises:
        DataError: the export has no such file, or it is missing or changed.
    """
    for want in wanted:
        names = [
            name
            for name in content["files"]
            if name == want or (want.endswith("/") and name.startswith(want))
        ]
        if not names:
            have = ", ".join(sorted({name.split("/")[0] for name in content["files"]}))
            raise DataError(f"the export has no {want}; it has {have}", where=folder)
        for name in names:
            _check(folder / name, content["files"][name])


def _check(path: Path, wanted: str) -> None:
    if not path.is_file():
        raise DataError("the file is missing", where=path, do="copy the whole export")
    found = _sha256(path)
    if found != wanted:
        raise DataError(
            f"SHA-256 {found}, but export.json names {wanted}", where=path, do="export again"
        )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror})", where=path) from None
