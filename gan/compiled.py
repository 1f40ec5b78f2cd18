"""How does Numba compile a loop over arrays for this CPU?

A function is compiled for the dtypes of its first call, and cached on disk for later processes. The compiled function
releases Python's lock and starts no thread.
"""

import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

# No function here starts a thread of Numba's, and Numba cannot be imported with a number that it does not take.
os.environ.pop("NUMBA_NUM_THREADS", None)

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

Array = np.ndarray
Function = TypeVar("Function", bound=Callable[..., None])

log = logging.getLogger(__name__)

settings: Any = numba.config
if settings.DISABLE_JIT:  # as Python functions, some of ours compute something else
    log.warning("NUMBA_DISABLE_JIT is set, and has no effect on gan-train")
    os.environ.pop("NUMBA_DISABLE_JIT", None)  # Numba may read it again
    settings.DISABLE_JIT = 0


class _CheckedFile(IndexDataCacheFile):
    """Write a SHA-256 behind the machine code of a function: damaged code may crash, or compute something else."""

    def _dump(self, content: object) -> bytes:
        data: bytes = super()._dump(content)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> object:
        data = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(data)


class _OptionalCache(FunctionCache):
    """Keep compiled functions on disk; where that fails, for whatever reason, a function is compiled anew."""

    def __init__(self, function: Callable[..., None]) -> None:
        super().__init__(function)
        file = self._cache_file
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, file._source_stamp)

    def load_overload(self, signature: object, context: object) -> object:
        """Return a compiled function, or None where there is no good one. Discard a damaged cache."""
        try:
            return super().load_overload(signature, context)
        except Exception:  # noqa: BLE001 - a damaged pickle can raise anything
            try:
                self.flush()
            except OSError as error:
                _warn(self._cache_path, error.strerror)
            return None

    def save_overload(self, signature: object, result: object) -> None:
        """Keep a compiled function, or log a warning."""
        try:
            super().save_overload(signature, result)
        except Exception as error:  # noqa: BLE001 - as above: it reads the index, which is damaged
            _warn(self._cache_path, str(getattr(error, "strerror", error)))


@cache
def _warn(folder: str, reason: str) -> None:
    """Log, once, that compiled functions are not kept."""
    log.warning("%s cannot keep compiled functions (%s), so every start takes longer", folder, reason)


def _make_decorator(**options: Any) -> Callable[[Function], Function]:
    def decorator(function: Function) -> Function:
        dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
        try:
            dispatcher._cache = _OptionalCache(function)  # as `cache=True` does with Numba's own
        except Exception as error:  # noqa: BLE001 - no folder is writable, or a variable of Numba's names no usable one
            log.debug("compiled functions are not kept: %s", error)
        compiled_function: Function = dispatcher
        return compiled_function

    return decorator


# Sums may be reordered, so that vector instructions compute them. NaN and infinity keep their meaning.
compiled = _make_decorator(fastmath={"reassoc", "contract", "nsz"})
# Every operation is rounded as it is written.
compiled_exact = _make_decorator()
