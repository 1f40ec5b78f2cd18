"""What can every store do?"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from gan.errors import StorageError
from gan.files import read_chunks, verified

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


class ObjectInfo(NamedTuple):
    """An object of a store: its key, its size and when it was written."""

    key: str
    size: int  # bytes
    modified: datetime  # with a time zone; by the store's clock


class Versioned(NamedTuple):
    """An object's content, with the version that `replace` needs to replace exactly this content."""

    data: bytes
    version: str
    age_seconds: float  # since it was written, by the store's clock


class Store(Protocol):
    """Keep objects under keys like `runs/my-run/grids/step-001000.png`.

    Every method raises StorageError, with the key and the store in its message, when it fails.
    """

    @property
    def address(self) -> str:
        """Return the address under which --store reaches this store again."""

    def put(self, key: str, path: Path, sha256: str) -> None:
        """Store a file whose content has this SHA-256; do nothing where an object has that content already.

        Raises:
            StorageError: also when the file's content has another SHA-256; the object is then unchanged.
        """

    def copy(self, source: str, target: str, sha256: str) -> bool:
        """Copy an object within the store.

        Return False, changing nothing, when `source` has other content than this SHA-256, or the store cannot copy.
        """

    def put_new(self, key: str, data: bytes) -> bool:
        """Create an object, whole or not at all; return False, changing nothing, when it exists already."""

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        """Replace one version of an object, or create it (`version` None): compare and swap. Return the new version.

        None means: another writer was first and nothing has changed; or the write was done, but its answer was lost.
        """

    def read(self, key: str) -> bytes | None:
        """Return a small object's content, or None when there is no such object."""

    def read_versioned(self, key: str) -> Versioned | None:
        """Return a small object's content with its version and age, or None when there is no such object."""

    def get(self, key: str) -> Iterator[bytes]:
        """Yield an object's content in chunks.

        Raises:
            ChecksumError: after the last chunk, where the store can tell that the content is not what was put.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, in any order."""

    def delete(self, key: str) -> None:
        """Delete an object; do nothing when there is no such object."""

    def sweep(self, prefix: str) -> None:
        """Remove what killed writers and deleted objects have left below `prefix`, once every object is stored.

        In a bucket, a writer that is still at work loses its parts. It then finds the whole object and succeeds.
        """


def check_key(key: str, where: str) -> None:
    """Raise StorageError unless a key, or the name of a run's file, is a safe relative path."""
    if not key.isprintable() or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise StorageError(
            f"{where}: {key!r} cannot name a file of a run: expected a relative path of printable characters without "
            "backslashes or segments that are empty, '.' or '..'. Rename the file; if it comes from a store, "
            "do not trust that store."
        )


def read_verified(path: Path, sha256: str) -> Iterator[bytes]:
    """Yield a file's content in chunks.

    Raises:
        StorageError: the file cannot be read; or, after the last chunk, its SHA-256 is not the expected one.
    """

    def changed(found: str) -> StorageError:
        return StorageError(
            f"{path} changed while it was published: SHA-256 expected {sha256}, found {found}. "
            "Wait until its writer has finished, then publish again."
        )

    try:
        yield from verified(read_chunks(path), sha256, changed)
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}). Check the file and its disk.") from error
