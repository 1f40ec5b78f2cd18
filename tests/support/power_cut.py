"""What of a folder would be there after a power cut? os.fsync is recorded: what it did not write may be lost."""

import os
import re
import stat
from pathlib import Path

import pytest


class Disk:
    """What has reached a disk: the content of files that were synced, and the entries of folders that were."""

    def __init__(self, root: Path, left_out: str = "") -> None:
        """Record what is synced. Paths below `root` that match `left_out` are not: a control."""
        self.left_out = left_out
        self._root = root
        self._contents: dict[int, tuple[int, int]] = {}  # by inode: size and time of the last change
        self._entries: dict[int, dict[str, int]] = {}  # by inode: the inodes of the files in a folder
        self._fsync = os.fsync

    def fsync(self, handle: int) -> None:
        """Do what os.fsync does, and record it."""
        self._fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_relative_to(self._root) and not re.fullmatch(self.left_out, str(path.relative_to(self._root))):
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                self._entries[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self._contents[status.st_ino] = (status.st_size, status.st_mtime_ns)

    def lost(self) -> list[str]:
        """List the files and folders that are there now, and may not be after a power cut; and those that come back."""
        there = list(self._root.rglob("*"))
        lost = [path for path in there if not self._has(path)]
        folders = [path for path in there if path.is_dir()]
        back = [path / name for path in folders for name in self._entries.get(path.stat().st_ino, {})]
        lost += [path for path in back if not path.exists()]
        return sorted(str(path.relative_to(self._root)) for path in lost)

    def _has(self, path: Path) -> bool:
        status = path.stat()
        is_named = self._entries.get(path.parent.stat().st_ino, {}).get(path.name) == status.st_ino
        content = (status.st_size, status.st_mtime_ns)
        return is_named and (path.is_dir() or self._contents.get(status.st_ino) == content)


def recorded(root: Path, monkeypatch: pytest.MonkeyPatch, left_out: str = "") -> Disk:
    """Return the disk below a folder, recorded from now on."""
    disk = Disk(root, left_out)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk
