"""What targets and predictions are compared by."""

from ytrue.model.losses.boxes import decode_offsets, huber_loss, iou_loss
from ytrue.model.losses.centernet import CenterNetLoss
from ytrue.model.losses.detection import DetectionLoss, l2_loss
from ytrue.model.losses.fcos import FCOSLoss
from ytrue.model.losses.focal import focal_loss, focal_terms
from ytrue.model.losses.joint import JointLoss
from ytrue.model.losses.keypoints import KeypointLoss
from ytrue.model.losses.loss import Loss
from ytrue.model.losses.masks import MaskLoss
from ytrue.model.losses.polygon import PolygonLoss
from ytrue.model.losses.yolo import YoloLoss

__all__ = [
    "CenterNetLoss",
    "DetectionLoss",
    "FCOSLoss",
    "JointLoss",
    "KeypointLoss",
    "Loss",
    "MaskLoss",
    "PolygonLoss",
    "YoloLoss",
    "decode_offsets",
    "focal_loss",
    "focal_terms",
    "huber_loss",
    "iou_loss",
    "l2_loss",
]
