"""Does a lock keep others out, and does a process that asks for it disturb nobody?"""

import fcntl
import os
from pathlib import Path
from threading import Timer

import pytest

from gan.locks import PROBE_SECONDS, is_locked, locked


def asking(folder: Path) -> int:
    """Return a handle with the lock that `is_locked` holds for a moment."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle


def test_a_locked_folder_cannot_be_locked_again(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
        pass
    with locked(tmp_path, wait=False):
        pass


def test_a_locked_folder_is_locked_until_the_block_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_processes_that_ask_at_the_same_time_see_no_holder(tmp_path: Path) -> None:
    handle = asking(tmp_path)
    assert not is_locked(tmp_path)
    os.close(handle)


def test_a_process_that_asks_keeps_no_holder_out(tmp_path: Path) -> None:
    handle = asking(tmp_path)
    Timer(PROBE_SECONDS / 4, os.close, [handle]).start()
    with locked(tmp_path, wait=False):
        assert is_locked(tmp_path)
