"""How does the n-th file operation of a process fail, or kill it?"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHANGING = ("fsync", "replace", "rename", "unlink", "mkdir", "link", "rmdir")
READING = ("scandir", "listdir")


class Killed(BaseException):
    """Stands for SIGKILL: no code of ours catches it, and nothing is written after it."""


class FailingDisk:
    """Count the operations that change files below a folder; let one fail, or that one and all after it."""

    def __init__(
        self, root: Path, fails_at: int = 0, number: int = errno.EIO, *, lasts: bool = False, reads: bool = False
    ) -> None:
        """With the number of an error, the operation `fails_at` raises it; with 0, the process is killed there.

        With `lasts`, all later operations raise it, too. With `reads`, those that read are counted instead.
        """
        self.reads = reads
        self.num_done = 0
        self._root = str(root)
        self._fails_at = fails_at
        self._number = number
        self._lasts = lasts

    def check(self, path: Any) -> None:
        """Count an operation on a path or an open file, and fail where it is the one."""
        if isinstance(path, int):
            path = str(Path(f"/proc/self/fd/{path}").readlink())
        if not os.fspath(path).startswith(self._root):
            return
        self.num_done += 1
        if self._number == 0 and self._fails_at and self.num_done >= self._fails_at:
            raise Killed
        if self.num_done == self._fails_at or (self._lasts and self.num_done > self._fails_at):
            raise OSError(self._number, os.strerror(self._number), os.fspath(path))

    def wrapped(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Return an operation whose first argument is checked before."""

        def call(path: Any, *args: Any, **options: Any) -> Any:
            self.check(path)
            return operation(path, *args, **options)

        return call

    def wrapped_open(self, open_file: Callable[..., Any]) -> Callable[..., Any]:
        """Return `open`, of which only those for writing are checked, or those for reading."""

        def call(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if bool(set(mode) & set("wax+")) != self.reads and not isinstance(path, int):
                self.check(path)
            return open_file(path, mode, *args, **options)

        return call


@contextmanager
def failing(disk: FailingDisk) -> Iterator[None]:
    """Send the operations of the block to a disk that may fail."""
    with pytest.MonkeyPatch.context() as patch:
        for name in READING if disk.reads else CHANGING:
            patch.setattr(os, name, disk.wrapped(getattr(os, name)))
        patch.setattr(io, "open", disk.wrapped_open(io.open))
        yield
