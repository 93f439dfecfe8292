"""The decorators of every kernel: compiled once, cached on disk, run without the GIL.

No fastmath and no contraction: a kernel and its NumPy twin must round alike. Division by zero
gives inf or nan as in NumPy instead of raising.
"""

from typing import Any

from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

kernel = njit(nogil=True, cache=True, error_model="numpy")

# For what is called in every step of a loop. Scalars or `borrowed` arrays: any
# other array is counted, inlined too.
inlined_kernel = njit(nogil=True, cache=True, error_model="numpy", inline="always")


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


def _as_it_is(value: Any) -> Any:
    return value


# Plain Python (NUMBA_DISABLE_JIT) has nothing to save.
borrowed = _as_it_is if config.DISABLE_JIT else intrinsic(_without_owner)
