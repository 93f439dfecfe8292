"""Turn object annotations into training targets of one-stage detectors, exactly, and see them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ytrue.annotations import Annotations, Example
    from ytrue.auditing import Audit, audit
    from ytrue.comparing import Comparison, compare
    from ytrue.contract import IGNORE, NEGATIVE, POSITIVE, Assignment, Encoder, PointAssignment
    from ytrue.errors import DataError, Problem
    from ytrue.pointauditing import PointAudit
    from ytrue.polygontuning import PolygonTuning, tune_polygons
    from ytrue.resizing import fit
    from ytrue.rle import RLE
    from ytrue.tuning import KeypointTuning, tune_keypoints

__version__ = "0.1.0"

_HOME = {
    "Annotations": "annotations",
    "Example": "annotations",
    "RLE": "rle",
    "POSITIVE": "contract",
    "NEGATIVE": "contract",
    "IGNORE": "contract",
    "Assignment": "contract",
    "Encoder": "contract",
    "PointAssignment": "contract",
    "DataError": "errors",
    "Problem": "errors",
    "Audit": "auditing",
    "audit": "auditing",
    "Comparison": "comparing",
    "compare": "comparing",
    "fit": "resizing",
    "PointAudit": "pointauditing",
    "KeypointTuning": "tuning",
    "PolygonTuning": "polygontuning",
    "tune_keypoints": "tuning",
    "tune_polygons": "polygontuning",
}
_PACKAGES = ("encoders", "datasets", "model", "viz")

__all__ = [
    "IGNORE",
    "NEGATIVE",
    "POSITIVE",
    "RLE",
    "Annotations",
    "Assignment",
    "Audit",
    "Comparison",
    "DataError",
    "Encoder",
    "Example",
    "KeypointTuning",
    "PointAssignment",
    "PointAudit",
    "PolygonTuning",
    "Problem",
    "audit",
    "compare",
    "fit",
    "tune_keypoints",
    "tune_polygons",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"ytrue.{_HOME[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"ytrue.{name}")
    raise AttributeError(f"module 'ytrue' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])
