"""Every place that turns offsets into boxes, or back, with a coder whose four numbers all differ."""

import numpy as np
import pytest

from ytrue import Annotations
from ytrue.encoders import AnchorEncoder, AnchorGrid, BoxCoder

STD = (0.1, 0.2, 0.4, 0.8)
# Of anchor (8, 16, 24, 56), sides 16 and 40, and the box below, sides 32 and 20.
BOX = (10.0, 26.0, 42.0, 46.0)
OFFSETS = {
    # centres (16, 36) and (26, 36): 10 / 16 / .1, 0 / 40 / .2; log(2) / .4, log(.5) / .8
    "centre": (6.25, 0.0, np.log(2) / 0.4, np.log(0.5) / 0.8),
    # 2 / 16 / .1, 10 / 40 / .2, 18 / 16 / .4, -10 / 40 / .8
    "corner": (1.25, 1.25, 2.8125, -0.3125),
}
ANCHOR = (8.0, 16.0, 24.0, 56.0)
KINDS = list(OFFSETS)


def encoder_of(kind):
    """One cell of 32x72 pixels whose anchor is ANCHOR: cells are told from the upper left corner."""
    grid = AnchorGrid((32, 72), 7, 7, shapes=[[(16.0, 40.0)]])
    return AnchorEncoder(grid, 2, positive_iou=0.1, negative_iou=0.1, coder=BoxCoder(kind, std=STD))


def test_the_grid_is_that_of_the_sums():
    assert encoder_of("centre").grid.boxes.tolist() == [list(ANCHOR)]


@pytest.mark.parametrize("kind", KINDS)
def test_decode_has_the_numbers_of_the_definition(kind):
    coder = BoxCoder(kind, std=STD)
    found = coder.decode(np.array([OFFSETS[kind]]), np.array([ANCHOR]))
    np.testing.assert_allclose(found, [BOX], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_writes_the_numbers_of_the_definition(kind):
    encoder = encoder_of(kind)
    # Beyond the frame's lower edge; the encoder does not cut.
    target = encoder.encode(Annotations([BOX], [1]))
    assert target["state"].tolist() == [1]
    np.testing.assert_allclose(target["box"], [OFFSETS[kind]], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(encoder.decode(target).boxes, [BOX], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_is_decoded_to_the_box(kind):
    outputs = {"class": np.array([[-9.0, 9.0]]), "box": np.array([OFFSETS[kind]])}
    found = encoder_of(kind).decode(outputs)
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.boxes, [BOX], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_exports_and_the_portable_decoder_agree(kind):
    import tensorflow as tf

    from ytrue.encoders.coders import LARGEST_LOG
    from ytrue.model.exporting.decoder import Decoder
    from ytrue.model.exporting.decoding import coder_of, decoding_of
    from ytrue.model.losses import DetectionLoss, decode_offsets

    encoder = encoder_of(kind)
    offsets = np.array([[OFFSETS[kind]]], np.float32)  # (1, 1, 4)
    anchors = tf.constant(encoder.grid.boxes)
    told = decode_offsets(tf.constant(offsets), anchors, encoder.coder)
    np.testing.assert_allclose(told[0], [BOX], rtol=1e-6)
    raw = {"box": tf.constant(offsets), "class": tf.zeros((1, 1, 2))}
    exported = decoding_of(encoder).graph(encoder)(raw)
    np.testing.assert_allclose(exported["boxes"][0], [BOX], rtol=1e-6)
    portable = Decoder.__new__(Decoder)
    portable.anchors, portable.export = encoder.grid.boxes, {"coder": coder_of(encoder)}
    assert portable.export["coder"]["largest_log"] == LARGEST_LOG
    boxes, scores = portable.decode(np.zeros((1, 2)), offsets[0])
    np.testing.assert_allclose(boxes, [BOX], rtol=1e-6)
    assert scores.tolist() == [[0.5, 0.5]]
    # The loss: IoU of a box that is half of BOX's width, 1 - 1/2, a quarter of it an anchor.
    narrow = BOX[0], 31.0, BOX[2], 41.0
    other = encoder.encode(Annotations([narrow], [1]))["box"]
    loss = DetectionLoss(iou="iou", anchors=encoder.grid.boxes, coder=encoder.coder)
    target = {"state": [[1]], "label": [[1]], "box": offsets}
    found = loss(target, {"class": np.zeros((1, 1, 2), np.float32), "box": other[None]})
    assert float(found["iou"]) == pytest.approx(0.25 * 0.5, rel=1e-5)


@pytest.mark.parametrize("std", [(1, 1, 1), (1, 1, 1, 0), (1, 1, 1, "a"), 1.0, (1, 1, 1, np.nan)])
def test_divisors_that_are_no_four_numbers_are_refused(std):
    with pytest.raises(ValueError, match="std=.*: expected four numbers above 0"):
        BoxCoder(std=std)


def test_numpys_numbers_are_taken():
    coder = BoxCoder(std=np.array(STD), epsilon=np.float64(0.5))
    assert coder == BoxCoder(std=STD, epsilon=0.5)
    with pytest.raises(ValueError, match="epsilon='a': expected a finite number"):
        BoxCoder(epsilon="a")
