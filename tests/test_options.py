"""Values of options: what is allowed at the very bound, and what no more."""

import math

import pytest

from ytrue.cli.options import LONGEST_SIDE, check_share, sides_of


@pytest.mark.parametrize(
    ("text", "sides"),
    [("512", (512, 512)), ("640x512", (640, 512)), ("1X2", (1, 2)),
     (f"{LONGEST_SIDE}x1", (LONGEST_SIDE, 1))],
)  # fmt: skip
def test_sides_are_height_by_width(text, sides):
    assert sides_of(text) == sides


@pytest.mark.parametrize(
    "text", [f"{LONGEST_SIDE + 1}", f"1x{LONGEST_SIDE + 1}", "0", "5x0", "9" * 5000]
)
def test_sides_beyond_bounds_are_refused(text):
    with pytest.raises(ValueError, match=f"expected sides from 1 to {LONGEST_SIDE} pixels"):
        sides_of(text)


@pytest.mark.parametrize("text", ["", "big", "1x2x3", "-5", "5.5", "5²", "x", "5x"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="expected SIDE or HEIGHTxWIDTH"):
        sides_of(text)


@pytest.mark.parametrize("value", [None, 0.0, 0.05, 1.0])
def test_shares_are_from_0_to_1(value):
    check_share("--lost", value)


@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, 50.0, math.nan, math.inf])
def test_what_is_no_share_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"--lost .*: expected a share from 0 to 1"):
        check_share("--lost", value)
