"""`take_logarithms`: whole vectors of logarithms, as libm and NumPy have them one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laws import assert_passes_with
from ytrue.encoders.kernels.logarithms import take_logarithms

FLOATS = st.floats(2.0**-149, float(np.finfo(np.float32).max), width=32)


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_float32_is_rounded_once(numbers):
    values = np.array([*numbers, 99.0], np.float32)
    expected = np.log(values.astype(np.float64)).astype(np.float32)
    take_logarithms(values, len(numbers))
    np.testing.assert_array_max_ulp(values[:-1], expected[:-1], maxulp=1)
    assert values[-1] == 99  # beyond the count


def test_around_one_and_at_the_ends_of_the_mantissa():
    steps = np.arange(-2000, 2000)
    for centre in (1.0, np.sqrt(0.5), np.sqrt(2.0), 2.0, 0.5, 1e-30):
        values = (np.float32(centre).view(np.int32) + steps).astype(np.int32).view(np.float32)
        expected = np.log(values.astype(np.float64)).astype(np.float32)
        take_logarithms(values, len(values))
        np.testing.assert_array_max_ulp(values, expected, maxulp=1)


@pytest.mark.parametrize(
    ("number", "expected"), [(0.0, -np.inf), (np.inf, np.inf), (-1.0, np.nan), (np.nan, np.nan)]
)
def test_numbers_without_a_logarithm_are_left_to_libm(number, expected):
    values = np.array([2.0, number], np.float32)
    take_logarithms(values, 2)
    np.testing.assert_allclose(values, [np.log(2.0), expected], rtol=1e-6)


def test_float64_keeps_its_precision():
    values = np.array([1e-300, 0.3, 1 + 1e-15, 7e200])
    expected = np.log(values)
    take_logarithms(values, 4)
    np.testing.assert_array_max_ulp(values, expected, maxulp=1)


@pytest.mark.slow
def test_without_compiling(tmp_path):
    names = "rounded_once or keeps_its_precision"
    assert_passes_with("NUMBA_DISABLE_JIT", __file__, names, tmp_path)
