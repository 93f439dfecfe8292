"""The picture of what an encoder makes of an image: for each kind of encoder its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ytrue.annotations import Annotations, Example
from ytrue.contract import Encoder, JointAssignment, PointAssignment
from ytrue.encoders.centernet import CenterNetEncoder
from ytrue.encoders.mask import MaskEncoder
from ytrue.encoders.polygon import PolygonEncoder
from ytrue.resizing import ResizeMode
from ytrue.viz.assignment import show_assignment
from ytrue.viz.heatmaps import show_heatmap
from ytrue.viz.keypoints import show_points
from ytrue.viz.masks import show_masks
from ytrue.viz.polygons import show_polygons


def show_encoding(
    image: Example | NDArray[np.uint8],
    encoder: Encoder,
    annotations: Annotations,
    *,
    object: int | None = None,
    levels: bool = False,
    classes: Sequence[str] = (),
    resize: ResizeMode = "letterbox",
) -> Figure:
    """Draw what an encoder makes of annotations: anchors, heat maps, points in cells, outlines, masks.

    Args:
        image: the example (its file is read), or (H, W, 3) uint8 pixels of the frame.
        encoder: of one part; draw those of a joint encoder one by one (`encoders_in`).
        annotations: the objects in the frame.
        object: single this object out.
        levels: one panel for each level; an object with outline or mask is then drawn as a box.
        classes: names, where `image` is no example.
        resize: how the image was fitted into the frame.

    Raises:
        ValueError: no such object, or a joint encoder.
        DataError: the image file cannot be read.
    """
    explained = encoder.explain(annotations)
    if isinstance(explained, JointAssignment):
        raise ValueError("a joint encoder has a picture for each part: see encoders_in")
    if isinstance(explained, PointAssignment):
        return show_points(image, explained, object=object, resize=resize)
    if isinstance(encoder, PolygonEncoder) and not levels:
        vertices = encoder.vertices(annotations)
        return show_polygons(
            image, vertices, explained, object=object, classes=classes, resize=resize
        )
    if isinstance(encoder, CenterNetEncoder) and object is None and not levels:
        heatmap = encoder.encode(annotations)["heatmap"]
        return show_heatmap(image, heatmap, explained, classes=classes, resize=resize)
    if isinstance(encoder, MaskEncoder) and not levels:
        return show_masks(image, explained, encoder, object=object, classes=classes, resize=resize)
    return show_assignment(
        image, explained, object=object, levels=levels, classes=classes, resize=resize
    )
