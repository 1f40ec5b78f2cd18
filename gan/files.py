"""How do bytes reach the disk whole or not at all?"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gan.errors import StorageError

CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def atomic_write(path: Path, data: bytes | Iterable[bytes]) -> str:
    """Write a file under a temporary name, fsync it, rename it, fsync its folder; return its hex SHA-256.

    Whoever looks sees the old content or the new, also after a power cut. Makes missing folders.

    Raises:
        StorageError: the disk is full (says how much room is free) or refuses; `path` is as it was.
    """
    chunks = [data] if isinstance(data, bytes) else data
    least = len(data) if isinstance(data, bytes) else 0
    digest = hashlib.sha256()
    size = 0
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                size += len(chunk)
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide the file from a report's readers
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        fsync_dir(path.parent)
    except OSError as error:
        _remove(temporary)  # before the room that is left is measured
        raise storage_error(path, max(least, size), error) from error
    finally:
        _remove(temporary)
    return digest.hexdigest()


def _remove(temporary: str | None) -> None:
    if temporary is not None:
        Path(temporary).unlink(missing_ok=True)


def fsync_dir(path: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(path: Path, size: int, error: OSError) -> StorageError:
    """Put a failed write of `size` bytes or more into words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = next(parent for parent in path.parents if parent.exists())
        free = shutil.disk_usage(folder).free
        needed = f"at least {size:,} bytes are needed, " if size else ""
        return StorageError(
            f"{path}: the disk is full: {needed}{free:,} are free. "
            "Make room and give the same command again; what was there before is intact."
        )
    return StorageError(f"{path}: cannot be written ({error.strerror}). Check the folder's permissions and mount.")
