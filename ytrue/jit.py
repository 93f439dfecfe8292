"""The decorators of every kernel: compiled once, kept on disk (`kernelcache`), run without the GIL.

No fastmath and no contraction: a kernel and its NumPy twin must round alike. Division by zero
gives inf or nan as in NumPy instead of raising.
"""

from typing import Any, Final

import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ytrue.kernelcache import keep

_OPTIONS: Final = {"nogil": True, "error_model": "numpy"}


def kernel(function: Any) -> Any:
    """Compile a function when it is first called."""
    return keep(njit(**_OPTIONS)(function))


def inlined_kernel(function: Any) -> Any:
    """Compile a function into its callers.

    For what is called in every step of a loop. Scalars or `borrowed` arrays: any other array is
    counted, inlined too.
    """
    return keep(njit(**_OPTIONS, inline="always")(function))


def merged_kernel(function: Any) -> Any:
    """Compile a function by itself, so that its arrays are not counted anew, then into its callers.

    For what a loop calls once an object with a dozen arrays: to pass them costs as much as the work.
    """
    return keep(njit(**_OPTIONS, forceinline=True)(function))


def _without_owner(_context: Any, value: Any) -> Any:
    """Return an array, or the arrays of a named tuple, without their owner: nothing is counted.

    Numba counts a reference (two atomic additions) for nearly every array of a call inside a loop,
    more than a small call's own work. The caller must keep the arrays alive: borrow arguments
    only, never what the same kernel allocates.
    """

    def strip(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.Array):
            view = context.make_array(kind)(context, builder, value)
            view.meminfo = cgutils.get_null_value(view.meminfo.type)
            view.parent = cgutils.get_null_value(view.parent.type)
            return view._getvalue()
        if isinstance(kind, types.BaseTuple):
            for place, member in enumerate(kind):
                part = strip(context, builder, member, builder.extract_value(value, place))
                value = builder.insert_value(value, part, place)
        return value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return strip(context, builder, signature.args[0], arguments[0])

    return value(value), generate


def _reinterpreted(source: Any, target: Any) -> Any:
    """Return an intrinsic that takes the bits of one scalar type for those of another."""

    def reinterpret(_context: Any, _value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return intrinsic(reinterpret)


def _as_it_is(value: Any) -> Any:
    return value


# Plain Python (NUMBA_DISABLE_JIT) has nothing to save, and reinterprets by views.
if config.DISABLE_JIT:
    borrowed = _as_it_is

    def bits_of(value: np.float64) -> np.int64:
        """Return the bits of a float64 as an int64."""
        return value.view(np.int64)

    def number_of(bits: np.int64) -> np.float64:
        """Return the float64 of these bits."""
        return bits.view(np.float64)
else:
    borrowed = intrinsic(_without_owner)
    bits_of = _reinterpreted(types.float64, types.int64)
    number_of = _reinterpreted(types.int64, types.float64)
