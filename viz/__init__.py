"""Pictures, pages and tables of what an encoder decides. matplotlib loads only for pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ytrue.viz.assignment import show_assignment, show_example
    from ytrue.viz.comparison import comparison_html, print_comparison
    from ytrue.viz.detections import picture, show_detections, show_history
    from ytrue.viz.encoding import show_encoding
    from ytrue.viz.evaluation import print_evaluation, show_evaluation
    from ytrue.viz.figures import show_audit, show_dataset
    from ytrue.viz.heatmaps import show_heatmap
    from ytrue.viz.keypoints import show_points
    from ytrue.viz.maskevaluation import print_mask_evaluation
    from ytrue.viz.masks import show_masks
    from ytrue.viz.notebook import notebook_html, notebook_png
    from ytrue.viz.page import report_html
    from ytrue.viz.pointevaluation import (
        print_keypoint_evaluation,
        print_point_evaluation,
        show_point_evaluation,
    )
    from ytrue.viz.polygons import show_polygons
    from ytrue.viz.polygontuning import print_polygon_tuning
    from ytrue.viz.style import png_bytes, save_picture, save_png
    from ytrue.viz.tables import print_audit, print_dataset, print_losses, print_problems
    from ytrue.viz.tuning import print_tuning, show_tuning

_HOME = {
    "comparison_html": "comparison",
    "notebook_html": "notebook",
    "notebook_png": "notebook",
    "picture": "detections",
    "png_bytes": "style",
    "print_audit": "tables",
    "print_comparison": "comparison",
    "print_dataset": "tables",
    "print_evaluation": "evaluation",
    "print_keypoint_evaluation": "pointevaluation",
    "print_losses": "tables",
    "print_mask_evaluation": "maskevaluation",
    "print_point_evaluation": "pointevaluation",
    "print_polygon_tuning": "polygontuning",
    "print_problems": "tables",
    "print_tuning": "tuning",
    "report_html": "page",
    "save_picture": "style",
    "save_png": "style",
    "show_assignment": "assignment",
    "show_audit": "figures",
    "show_dataset": "figures",
    "show_detections": "detections",
    "show_encoding": "encoding",
    "show_evaluation": "evaluation",
    "show_example": "assignment",
    "show_heatmap": "heatmaps",
    "show_history": "detections",
    "show_masks": "masks",
    "show_point_evaluation": "pointevaluation",
    "show_points": "keypoints",
    "show_polygons": "polygons",
    "show_tuning": "tuning",
}

__all__ = [
    "comparison_html",
    "notebook_html",
    "notebook_png",
    "picture",
    "png_bytes",
    "print_audit",
    "print_comparison",
    "print_dataset",
    "print_evaluation",
    "print_keypoint_evaluation",
    "print_losses",
    "print_mask_evaluation",
    "print_point_evaluation",
    "print_polygon_tuning",
    "print_problems",
    "print_tuning",
    "report_html",
    "save_picture",
    "save_png",
    "show_assignment",
    "show_audit",
    "show_dataset",
    "show_detections",
    "show_encoding",
    "show_evaluation",
    "show_example",
    "show_heatmap",
    "show_history",
    "show_masks",
    "show_point_evaluation",
    "show_points",
    "show_polygons",
    "show_tuning",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"ytrue.viz.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
