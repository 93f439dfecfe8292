"""How values show themselves in a notebook: the one door from the vocabulary to `ytrue.viz`.

It is opened only when a notebook asks for a picture, so that matplotlib stays unimported.
"""

from __future__ import annotations

from importlib import import_module


def png(value: object) -> bytes | None:
    """Return the value's picture as PNG bytes, or None where it has none (its repr is shown)."""
    picture: bytes | None = import_module("ytrue.viz").notebook_png(value)
    return picture


def html(value: object) -> str:
    """Return the value's table as an HTML fragment."""
    fragment: str = import_module("ytrue.viz").notebook_html(value)
    return fragment
