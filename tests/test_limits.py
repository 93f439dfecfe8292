"""The limit on pixels, which images and masks share."""

import pytest

from ytrue.errors import DataError
from ytrue.limits import MAX_PIXELS, max_pixels, too_large


def test_the_environment_raises_and_lowers_the_limit(monkeypatch):
    monkeypatch.delenv("YTRUE_MAX_PIXELS", raising=False)
    assert max_pixels() == MAX_PIXELS
    monkeypatch.setenv("YTRUE_MAX_PIXELS", "12")
    assert max_pixels() == 12
    assert too_large(3, 4) == ""
    assert "13x1 (height x width) are more than 12 pixels; YTRUE_MAX_PIXELS" in too_large(13, 1)


@pytest.mark.parametrize("value", ["", "0", "-1", "1e9", "many", "9" * 19, "²"])
def test_a_limit_that_is_none_is_named(value, monkeypatch):
    monkeypatch.setenv("YTRUE_MAX_PIXELS", value)
    with pytest.raises(DataError, match=f"YTRUE_MAX_PIXELS={value}: no whole number of pixels"):
        max_pixels()
