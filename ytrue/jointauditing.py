"""`JointAudit`: what the parts of a joint encoder do with a dataset, each audited by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ytrue.auditing import Audit
    from ytrue.pointauditing import PointAudit


@dataclass(frozen=True, eq=False)
class JointAudit:
    """The audits of an encoder's parts.

    Attributes:
        parts: name of the part -> its audit.
    """

    parts: Mapping[str, Audit | PointAudit | JointAudit]

    @property
    def source(self) -> str:
        """What was audited, in words."""
        return next(iter(self.parts.values())).source

    @property
    def lost_share(self) -> float:
        """The largest share that a part loses, of its objects or points."""
        return max(part.lost_share for part in self.parts.values())

    def advice(self) -> list[str]:
        """Return what to do about it, part by part."""
        return [
            f"{name}: {sentence}" for name, part in self.parts.items() for sentence in part.advice()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values, by part."""
        return {name: part.to_json() for name, part in self.parts.items()}
