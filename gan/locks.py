"""How does a process keep others out of a folder, and see that another does?"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROBE_SECONDS = 0.1  # longer than `is_locked` holds its shared lock


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder for the length of the block. The kernel frees it when this process dies.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: there is no such folder, or its file system cannot lock folders.
    """
    handle = _open(folder)
    try:
        if wait:
            _lock(handle, folder, fcntl.LOCK_EX)
        else:
            _lock_now(handle, folder)
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder. Processes that ask at the same time do not see each other.

    Raises OSError: there is no such folder, or its file system cannot lock folders.
    """
    handle = _open(folder)
    try:
        _lock(handle, folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # to open a pipe would wait for ever


def _lock_now(handle: int, folder: Path) -> None:
    operation = fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        _lock(handle, folder, operation)
    except BlockingIOError:  # by a holder, or for a moment by a process that asks whether there is one
        time.sleep(PROBE_SECONDS)
        _lock(handle, folder, operation)


def _lock(handle: int, folder: Path, operation: int) -> None:
    try:
        fcntl.flock(handle, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        said = f"its file system cannot lock a folder: {error.strerror}"
        raise OSError(error.errno, said, str(folder)) from error
