"""Run lengths: whatever a file holds is the mask it says, or refused before memory is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as official

from ytrue import RLE, DataError

REFUSED = [
    ("sums of 0 in 64 bits", [4, 6], [2**62] * 4 + [24], "mask runs sum to"),
    ("a sum of the right size in 64 bits", [4, 6], [2**63 - 1, 2**63 - 1, 26], "mask runs sum to"),
    ("one too few", [4, 6], [3, 20], "mask runs sum to 23, a 4x6 mask has 24 pixels"),
    ("negative", [4, 6], [30, -6], "a mask run of -6 pixels"),
    ("negative sides", [-4, -6], [24], r"a mask of size \[-4, -6\]"),
    ("beyond 64 bits", [4, 6], [0, 10**30], "mask runs are"),
    ("400 digits", [4, 6], [10**400], "mask runs are"),
    ("2**63", [4, 6], [2**63], "mask runs are"),
    ("fractions", [4, 6], [1.5, 22.5], "mask runs are"),
    ("not finite", [4, 6], [float("nan"), 24], "mask runs are"),
    ("infinite", [4, 6], [float("inf")], "mask runs are"),
    ("infinite downwards", [4, 6], [float("-inf")], "mask runs are"),
    ("texts", [4, 6], ["24"], "mask runs are"),
    ("truths", [1, 1], [True], "mask runs are"),
    ("lists", [4, 6], [[24], [1, 2]], "mask runs are"),
    ("nothing", [4, 6], None, "mask runs are"),
    ("one side", [24], [24], "expected .height, width."),
    ("half a side", [4.5, 6], [27], "expected whole numbers"),
    ("a size of texts", ["4", "6"], [24], "expected .height, width."),
    ("a size of 400 digits", [10**400, 1], [24], "expected .height, width."),
    ("no size", None, [24], "expected .height, width."),
    ("more pixels than are allowed", [2**15, 2**15], [2**30], "more than 500,000,000 pixels"),
    ("more pixels, compressed", [2**15, 2**15], "0", "more than 500,000,000 pixels"),
    ("/ is below the characters", [4, 6], "/", "foreign character"),
    ("p is above", [4, 6], "p0", "foreign character"),
    ("beyond Latin-1", [4, 6], "0日0", "foreign character"),
    ("half a character", [4, 6], "\ud800", "foreign character"),
    ("cut short", [4, 6], "0P", "cut short"),
    ("13 digits", [4, 6], "P" * 12 + "1", "beyond all measure"),
    ("a step beyond the mask", [4, 6], "0" + "P" * 11 + "1", "longer than the mask"),
    ("a run below 0", [4, 6], "N1", "longer than the mask"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "size", "counts", "message"), REFUSED, ids=[r[0] for r in REFUSED]
)
def test_what_no_mask_has_is_refused(what, size, counts, message):
    del what
    with pytest.raises(DataError, match=message):
        RLE.from_coco(size, counts)


def test_the_highest_character_is_part_of_a_number():
    """o: five bits and one more character to come; 31 + (0 << 5)."""
    assert RLE.from_coco([31, 1], "o0").counts.tolist() == [31]


def test_whole_floats_are_whole_numbers():
    assert RLE.from_coco([2.0, 3.0], [1.0, 5.0]).area == 5


def test_the_limit_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("YTRUE_MAX_PIXELS", "24")
    assert RLE.from_coco([4, 6], [24]).area == 0
    with pytest.raises(DataError, match="5x5 .* more than 24 pixels; YTRUE_MAX_PIXELS"):
        RLE.from_coco([5, 5], [25])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.randoms(use_true_random=False))
def test_masks_and_boxes_are_those_of_the_pixels(height, width, random):
    share = random.choice((0.05, 0.5, 0.95))
    pixels = np.array([[random.random() < share for _ in range(width)] for _ in range(height)])
    coded = official.encode(np.asfortranarray(pixels.astype(np.uint8)))
    mask = RLE.from_coco(coded["size"], coded["counts"])
    np.testing.assert_array_equal(mask.decode(), pixels)
    ys, xs = np.nonzero(pixels)
    expected = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1) if len(ys) else None
    assert mask.box == expected


def test_the_box_of_a_large_mask_needs_no_pixels(monkeypatch):
    monkeypatch.setattr(RLE, "decode", None)
    side = 20_000
    assert RLE.from_coco([side, side], [5, 10, side * side - 15]).box == (5, 0, 15, 1)
