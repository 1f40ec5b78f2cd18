"""How does Numba compile a loop over arrays for this CPU?

A function is compiled for the dtypes of its first call, and cached on disk for later processes. The compiled function
releases Python's lock and starts no thread.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Array = np.ndarray
Function = TypeVar("Function", bound=Callable[..., None])


def _make_decorator(**options: Any) -> Callable[[Function], Function]:
    def decorator(function: Function) -> Function:
        try:
            compiled_function: Function = numba.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # neither this file's folder nor the home directory is writable: compile without a cache
            compiled_function = numba.njit(nogil=True, error_model="numpy", **options)(function)
        return compiled_function

    return decorator


# Sums may be reordered, so that vector instructions compute them. NaN and infinity keep their meaning.
compiled = _make_decorator(fastmath={"reassoc", "contract", "nsz"})
# Every operation is rounded as it is written.
compiled_exact = _make_decorator()
