"""What encoders are as values: fields that are set once, and a config that is the whole of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def set_fields(value: Any, values: Mapping[str, Any]) -> None:
    """Set every field of a frozen dataclass instance from the entry of its name."""
    for field in fields(value):
        object.__setattr__(value, field.name, values[field.name])


def fields_of(value: Any) -> dict[str, Any]:
    """Return name -> value of a dataclass instance's fields, as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def arguments_in(config: Mapping[str, Any], encoder: str) -> dict[str, Any]:
    """Return the arguments that the config of an encoder of that name holds.

    Raises:
        ValueError: the config of another encoder.
    """
    values = dict(config)
    if values.pop("encoder", encoder) != encoder:
        raise ValueError(f"this is the config of a {config['encoder']!r} encoder, not {encoder!r}")
    return values
