"""Where do the files of finished runs live, and how are they put there and read back?"""

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from gan.errors import StorageError
from gan.files import CHUNK, atomic_write, fsync_dir, sha256_file

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


class ObjectInfo(NamedTuple):
    """Name an object of a store, and say how many bytes it has and when it was written."""

    key: str
    size: int
    modified: datetime  # with a time zone; by the clock of the store


class Versioned(NamedTuple):
    """Hold an object's content, and what `replace` must be told to replace this content and no other."""

    data: bytes
    version: str
    age_seconds: float  # since it was written, by the clock of the store


class Store(Protocol):
    """Keep objects under keys like `runs/my-run/grids/step-001000.png`.

    Every method raises StorageError, with the key and the store in it, when the store cannot do as asked.
    """

    @property
    def address(self) -> str:
        """Return what a user gives to --store to reach this store again."""

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Store a file whose content has this SHA-256; leave alone an object that has it already.

        Raises:
            StorageError: also when the file's content has another SHA-256; the object is then as it was.
        """

    def put_new(self, key: str, data: bytes) -> bool:
        """Create an object, whole or not at all; return False, changing nothing, when there is one already."""

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Put content in the place of a version, or of nothing (None), and return its own version: compare and swap.

        None: somebody else was quicker, and nothing has changed; or it is done, and the answer was lost on the way.
        """

    def read(self, key: str) -> bytes | None:
        """Return a small object's content, or None when there is no such object."""

    def read_versioned(self, key: str) -> Versioned | None:
        """Return a small object's content with its version and age, or None when there is no such object."""

    def get(self, key: str) -> Iterator[bytes]:
        """Yield an object's content in chunks.

        Raises:
            ChecksumError: at the end, where the store knows that this is not the content that was put.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, in any order."""

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""

    def sweep(self, prefix: str) -> None:
        """Remove what killed writers, and deleted objects, have left below `prefix`, once every object is there.

        A writer at work loses what it has written so far, sees that the object is there already, and is content.
        """


def check_key(key: str, where: str) -> None:
    """Raise StorageError unless a key, or a path in a run, names a file below the folder it is looked up in."""
    if not key.isprintable() or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise StorageError(
            f"{where}: {key!r} cannot name a file of a run: expected a relative path of printable characters without "
            "backslashes or segments that are empty, '.' or '..'. Rename the file, or do not trust where it came from."
        )


class LocalStore:
    """A store in a directory: a key is a path below it. The temporary files of writers are no objects."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """Return the directory's path."""
        return str(self.root)

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Copy a file to its key or, when the content lies there already, check it and make it durable."""
        target = self._path(key)
        with self._explained(key, "stored"):
            if _holds(target, sha256):
                return _make_durable(target)
            if target.exists() and target.samefile(path):
                raise StorageError(f"{path} changed while it was published. Let its writer end, then publish again.")
            try:
                atomic_write(target, checked(path, sha256))
            except StorageError:
                if not _holds(target, sha256):  # put by another publisher, which then swept
                    raise

    def put_new(self, key: str, data: bytes) -> bool:
        """Write under a temporary name, then link it: a link, unlike a rename, never replaces."""
        target = self._path(key)
        temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        with self._explained(key, "created"):
            if target.exists():
                return False
            try:
                atomic_write(temporary, data)
                target.hardlink_to(temporary)
            except (OSError, StorageError):
                if target.exists():  # created by another publisher, which may have swept too
                    return False
                raise
            finally:
                temporary.unlink(missing_ok=True)
            fsync_dir(target.parent)
        return True

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Write a file that has not changed meanwhile; a lock on its folder keeps others of us out."""
        if version is None:
            return _version(data) if self.put_new(key, data) else None
        target = self._path(key)
        if not target.exists():
            return None
        with self._explained(key, "replaced"), locked(target.parent):
            found = self.read(key)
            if found is None or _version(found) != version:
                return None
            return atomic_write(target, data)

    def read(self, key: str) -> bytes | None:
        """Return a file's content, or None when there is no such file."""
        found = self.read_versioned(key)
        return None if found is None else found.data

    def read_versioned(self, key: str) -> Versioned | None:
        """Return a file's content, its SHA-256 as the version, and its age."""
        with self._explained(key, "read"):
            try:
                with self._path(key).open("rb") as file:
                    data, written = file.read(), os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
        return Versioned(data, _version(data), max(0.0, time.time() - written))

    def get(self, key: str) -> Iterator[bytes]:
        """Yield a file's content in chunks of 1 MiB."""
        with self._explained(key, "read"), self._path(key).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every regular file whose key begins with `prefix`; a symbolic link is none."""
        folder = self.root / prefix.rpartition("/")[0]
        with self._explained(prefix, "listed"):
            for path in walk(folder) if folder.is_dir() else ():
                key = path.relative_to(self.root).as_posix()
                try:
                    status = path.lstat()
                except FileNotFoundError:  # deleted since its folder was read: not there is what it is
                    continue
                if key.startswith(prefix) and stat.S_ISREG(status.st_mode):
                    yield ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """Delete a file and make that durable."""
        path = self._path(key)
        with self._explained(key, "deleted"):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                fsync_dir(path.parent)

    def sweep(self, prefix: str) -> None:
        """Delete the temporary files and the empty folders below a folder, and the folder if that leaves it empty."""
        with self._explained(prefix, "swept"):
            for folder, _, files in os.walk(self.root / prefix, topdown=False):
                for name in filter(_is_temporary, files):
                    Path(folder, name).unlink(missing_ok=True)
                with suppress(OSError):  # not empty, or gone already
                    Path(folder).rmdir()

    def _path(self, key: str) -> Path:
        check_key(key, self.address)
        return self.root / key

    @contextmanager
    def _explained(self, key: str, done: str) -> Iterator[None]:
        """Turn what the operating system says into a StorageError that names the key and the store."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{key or 'the runs'} cannot be {done} in the store {self.address} ({error.strerror}). "
                "Check that the directory is there, is mounted and may be read and written by you."
            ) from error


def walk(folder: Path) -> Iterator[Path]:
    """Yield all that lies below a folder, at any depth, but folders and the temporary files of writers.

    A symbolic link to a folder is yielded, not entered. Raises OSError where a folder cannot be read.
    """
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in files + links if not _is_temporary(name))


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder that no other process holds; the kernel lets go when this process dies.

    Raises:
        BlockingIOError: another process holds it, and we are not to `wait`.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _raise(error: OSError) -> None:
    raise error  # os.walk would leave an unreadable folder out in silence


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")  # as gan.files names them


def _holds(path: Path, sha256: str) -> bool:
    try:
        return sha256_file(path) == sha256
    except FileNotFoundError:
        return False


def checked(path: Path, sha256: str) -> Iterator[bytes]:
    """Yield a file's content; raise StorageError at its end, before it is committed, if its SHA-256 is another."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                yield chunk
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}). Check the file and its disk.") from error
    if digest.hexdigest() != sha256:
        raise StorageError(
            f"{path} changed while it was published: SHA-256 expected {sha256}, found {digest.hexdigest()}. "
            "Let its writer end, then publish again."
        )


def _make_durable(path: Path) -> None:
    """Bring a file that somebody else wrote, TensorBoard say, to the disk before a manifest vouches for it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    fsync_dir(path.parent)
