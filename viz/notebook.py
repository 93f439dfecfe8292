"""What values look like in a notebook."""

from __future__ import annotations

from collections import Counter
from html import escape

import numpy as np

from ytrue.annotations import Example
from ytrue.auditing import Audit
from ytrue.comparing import Comparison
from ytrue.contract import Assignment, PointAssignment
from ytrue.datasets.dataset import Dataset
from ytrue.pointauditing import PointAudit
from ytrue.viz.assignment import show_assignment, show_example
from ytrue.viz.comparison import comparison_fragment
from ytrue.viz.keypoints import show_points
from ytrue.viz.page import audit_fragment, point_fragment, table
from ytrue.viz.style import png_bytes


def notebook_png(value: object) -> bytes | None:
    """Return the picture of an assignment or `Example`; None where its image is not there."""
    if isinstance(value, Assignment | PointAssignment):
        blank = np.full((*value.image_size, 3), 90, np.uint8)
        if isinstance(value, Assignment):
            return png_bytes(show_assignment(blank, value))
        return png_bytes(show_points(blank, value))
    if isinstance(value, Example):
        return png_bytes(show_example(value)) if value.path.is_file() else None
    return None


def notebook_html(value: object) -> str:
    """Return the table of an `Audit`, `PointAudit`, `Comparison` or `Dataset`."""
    if isinstance(value, Audit):
        return audit_fragment(value)
    if isinstance(value, PointAudit):
        return point_fragment(value)
    if isinstance(value, Comparison):
        return comparison_fragment(value)
    if isinstance(value, Dataset):
        counts = np.bincount(value.objects.label, minlength=value.num_classes)
        rows = sorted(zip(value.classes, counts.tolist(), strict=True), key=lambda row: -row[1])
        kinds = Counter((problem.kind, problem.action) for problem in value.problems)
        problems = [(kind, action, n) for (kind, action), n in kinds.most_common()]
        return (
            f"<p>{escape(repr(value))}</p>"
            + table(("class", "objects"), rows[:30])
            + (table(("problem", "done", "times"), problems) if problems else "")
        )
    return f"<pre>{escape(repr(value))}</pre>"
