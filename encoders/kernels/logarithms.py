"""Natural logarithms of many float32 numbers at once, in whole vectors.

libm takes them one call at a time; this loop the compiler turns into vectors.
"""

import math

import numpy as np

from ytrue.jit import bits_of, kernel, number_of

_LOG_2 = math.log(2.0)
_MANTISSA = 52
# Of sqrt(1 / 2): mantissas are brought into [sqrt(1 / 2), sqrt(2)), around 1.
_LOWEST = int(np.float64(math.sqrt(0.5)).view(np.int64))


@kernel
def take_logarithms(values, count):  # type: ignore[no-untyped-def]
    """Replace the first `count` of values (N,) T by their natural logarithms.

    Float32 is computed in float64 and rounded once: log(2^e (1 + f)) = e log 2 + 2 artanh(s) with
    s = f / (2 + f), of whose series z^5 / 11 is the last term that float32 can tell (z = s^2 is
    below 0.03). Other dtypes are left to libm, as are arrays that hold 0, inf, nan or less.
    """
    plain = values.itemsize == 4
    for i in range(count):
        plain &= (values[i] > 0) & (values[i] < math.inf)
    if not plain:
        for i in range(count):
            values[i] = math.log(values[i])
        return
    for i in range(count):
        bits = bits_of(np.float64(values[i]))
        exponent = (bits - _LOWEST) >> _MANTISSA
        f = number_of(bits - (exponent << _MANTISSA)) - 1.0
        s = f / (2.0 + f)
        z = s * s
        series = z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11)))))
        values[i] = exponent * _LOG_2 + 2.0 * (s + s * series)
