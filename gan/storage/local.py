"""How does a directory keep the files of runs?"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gan.errors import StorageError
from gan.files import (
    atomic_write,
    fsync_dir,
    is_temporary,
    read_chunks,
    remove_temporary,
    sha256_bytes,
    sha256_file,
    walk,
    write_new,
)
from gan.locks import locked
from gan.storage.base import ObjectInfo, Versioned, check_key, read_verified


class LocalStore:
    """A store in a directory: a key is a path below it. Temporary files of writers are not objects."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """Return the directory's path."""
        return str(self.root)

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Copy a file to its key. Where the content is there already, check it and make it durable."""
        target = self._path(key)
        with self._translated(key, "stored"):
            if _holds(target, sha256):
                _make_durable(target)
                return
            if target.exists() and target.samefile(path):
                raise StorageError(
                    f"{path} changed while it was published. Wait until its writer has finished, then publish again."
                )
            atomic_write(target, read_verified(path, sha256))

    def copy(self, source: str, target: str, sha256: str) -> bool:
        """Copy a file within the directory."""
        with self._translated(source, "copied"):
            if not _holds(self._path(source), sha256):
                return False
        self.put(target, self._path(source), sha256)
        return True

    def put_new(self, key: str, data: bytes) -> bool:
        """Write under a temporary name, then rename it unless there is such a file."""
        target = self._path(key)
        with self._translated(key, "created"):
            created = not target.exists() and write_new(target, data)
            for folder in target.parents:  # a killed process may have made them, or the file
                fsync_dir(folder)
                if folder == self.root:
                    break
        return created

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Replace a file whose content is still that version; a lock on its folder excludes other writers."""
        if version is None:
            return sha256_bytes(data) if self.put_new(key, data) else None
        target = self._path(key)
        if not target.exists():
            return None
        with self._translated(key, "replaced"), locked(target.parent):
            found = self.read(key)
            if found is None or sha256_bytes(found) != version:
                return None
            return atomic_write(target, data)

    def read(self, key: str) -> bytes | None:
        """Return a file's content, or None when there is no such file."""
        found = self.read_versioned(key)
        return None if found is None else found.data

    def read_versioned(self, key: str) -> Versioned | None:
        """Return a file's content, its SHA-256 as the version, and its age."""
        with self._translated(key, "read"):
            try:
                with self._path(key).open("rb") as file:
                    data, written = file.read(), os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
        return Versioned(data, sha256_bytes(data), max(0.0, time.time() - written))

    def get(self, key: str) -> Iterator[bytes]:
        """Yield a file's content in chunks of 1 MiB."""
        with self._translated(key, "read"):
            yield from read_chunks(self._path(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every regular file whose key begins with `prefix`; symbolic links are left out."""
        folder = self.root / prefix.rpartition("/")[0]
        with self._translated(prefix, "listed"):
            for path in walk(folder) if folder.is_dir() else ():
                key = path.relative_to(self.root).as_posix()
                try:
                    status = path.lstat()
                except FileNotFoundError:  # deleted since its folder was read
                    continue
                if key.startswith(prefix) and stat.S_ISREG(status.st_mode):
                    yield ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Delete a file and make that durable."""
        path = self._path(key)
        with self._translated(key, "deleted"):
            path.unlink(missing_ok=True)
            fsync_dir(path.parent)

    def sweep(self, prefix: str) -> None:
        """Delete temporary files without a writer and empty folders below a folder; also the folder if it is empty."""
        with self._translated(prefix, "swept"):
            for folder, _, files in os.walk(self.root / prefix, topdown=False):
                for name in filter(is_temporary, files):
                    remove_temporary(Path(folder, name))
                with suppress(OSError):  # not empty, or already deleted
                    Path(folder).rmdir()
                    fsync_dir(Path(folder).parent)

    def _path(self, key: str) -> Path:
        check_key(key, self.address)
        return self.root / key

    @contextmanager
    def _translated(self, key: str, done: str) -> Iterator[None]:
        """Translate an OSError into a StorageError that names the key and the store."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{key or 'the runs'} cannot be {done} in the store {self.address} ({error.strerror}). "
                "Check that the directory exists and is mounted, and that you may read and write it."
            ) from error


def _holds(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except FileNotFoundError:
        return False


def _make_durable(path: Path) -> None:
    """Write a file that another program wrote (TensorBoard) to the disk before a manifest lists it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    fsync_dir(path.parent)
