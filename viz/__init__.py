"""Pictures, pages and tables of what an encoder decides. matplotlib and rich load here only."""

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
from ytrue.viz.style import png_bytes, save_png
from ytrue.viz.tables import print_audit, print_dataset, print_problems
from ytrue.viz.tuning import print_tuning, show_tuning

__all__ = [
    "comparison_html",
    "picture",
    "show_detections",
    "show_history",
    "show_masks",
    "notebook_html",
    "notebook_png",
    "png_bytes",
    "print_audit",
    "print_comparison",
    "print_dataset",
    "print_evaluation",
    "print_keypoint_evaluation",
    "print_mask_evaluation",
    "print_point_evaluation",
    "print_polygon_tuning",
    "print_problems",
    "print_tuning",
    "report_html",
    "save_png",
    "show_assignment",
    "show_audit",
    "show_dataset",
    "show_encoding",
    "show_evaluation",
    "show_example",
    "show_heatmap",
    "show_point_evaluation",
    "show_points",
    "show_polygons",
    "show_tuning",
]
