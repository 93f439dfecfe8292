"""The decorators of every kernel: compiled once, cached on disk, run without the GIL.

No fastmath and no contraction: a kernel and its NumPy twin must round alike. Division by zero
gives inf or nan as in NumPy instead of raising.
"""

from numba import njit

kernel = njit(nogil=True, cache=True, error_model="numpy")

# For what is called in every step of a loop: a call that stays one counts references each time.
inlined_kernel = njit(nogil=True, cache=True, error_model="numpy", inline="always")
