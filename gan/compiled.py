"""How does Numba compile a loop over arrays for the CPU at hand?

A function is compiled for the dtypes at hand when it is first called, and kept for the next process. None of them
starts a thread or holds Python's lock.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Array = np.ndarray
Kernel = TypeVar("Kernel", bound=Callable[..., None])


def _compiler(**options: Any) -> Callable[[Kernel], Kernel]:
    def compiler(kernel: Kernel) -> Kernel:
        try:
            made: Kernel = numba.njit(nogil=True, cache=True, error_model="numpy", **options)(kernel)
        except RuntimeError:  # neither beside this file nor at home is a folder to keep it in
            made = numba.njit(nogil=True, error_model="numpy", **options)(kernel)
        return made

    return compiler


# Sums may be taken in the order that vectors take them in. NaN and infinity stay what they are.
compiled = _compiler(fastmath={"reassoc", "contract", "nsz"})
exactly = _compiler()
