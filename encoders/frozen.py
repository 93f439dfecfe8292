"""What encoders are as values: fields that are set once, and a config that is the whole of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Self

from ytrue.contract import Given, Target, config_digest
from ytrue.errors import check_count, check_number


class Configured:
    """A frozen dataclass that its config describes wholly: the digest and the pickle are of that.

    One example is encoded as a batch of one.
    """

    def encode_batch(self, batch: Sequence[Given]) -> Target:
        """Return the targets of several examples, (B, ...) arrays."""
        raise NotImplementedError

    def encode(self, annotations: Given) -> Target:
        """Return the target of one example.

        Args:
            annotations: the objects, in the pixels of the network input.

        Raises:
            ValueError: as `encode_batch`.
        """
        return {name: array[0] for name, array in self.encode_batch((annotations,)).items()}

    def config(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values; equal config means equal targets."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the encoder that `config()` described.

        Raises:
            ValueError: the config of another encoder.
            TypeError: a parameter that is missing or unknown.
        """
        raise NotImplementedError

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the config, in hex."""
        return config_digest(self.config())

    def __getstate__(self) -> dict[str, Any]:
        return self.config()

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_fields(self, fields_of(self.from_config(state)))


def set_fields(value: Any, values: Mapping[str, Any]) -> None:
    """Set every field of a frozen dataclass instance from the entry of its name."""
    for field in fields(value):
        object.__setattr__(value, field.name, values[field.name])


def set_counts(value: Any, *names: str) -> None:
    """Keep fields of a frozen dataclass instance as ints.

    Raises:
        ValueError: one is no whole number above 0, named with its value.
    """
    for name in names:
        object.__setattr__(value, name, check_count(name, getattr(value, name)))


def set_numbers(value: Any, *names: str) -> None:
    """Keep fields of a frozen dataclass instance as floats.

    Raises:
        ValueError: one is no finite number, named with its value.
    """
    for name in names:
        object.__setattr__(value, name, check_number(name, getattr(value, name)))


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
