"""How are files written whole, hashed and locked?"""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gan.errors import StorageError

CHUNK = 1 << 20
NO_FSYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS)  # of a file system that syncs no folders
LITTLE_BYTES = 1 << 20  # a disk with less free counts as full


class HashedStream:
    """Yield the chunks of a stream; compute their SHA-256 and count their bytes meanwhile."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.num_bytes = 0  # yielded so far
        self._chunks = chunks
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.num_bytes += len(chunk)
            self._digest.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Return the hex SHA-256 of what was yielded so far."""
        return self._digest.hexdigest()

    def read_to_end(self) -> str:
        """Read the rest of the stream and return the hex SHA-256 of the whole."""
        for _ in self:
            pass
        return self.sha256


def verified(chunks: Iterable[bytes], sha256: str, error: Callable[[str], Exception]) -> Iterator[bytes]:
    """Yield chunks; after the last one, raise `error(found SHA-256)` unless their SHA-256 is the expected one."""
    stream = HashedStream(chunks)
    yield from stream
    if stream.sha256 != sha256:
        raise error(stream.sha256)


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's content in chunks of 1 MiB. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file. Raises OSError."""
    return HashedStream(read_chunks(path)).read_to_end()


def sha256_bytes(data: bytes) -> str:
    """Return the hex SHA-256 of bytes in memory."""
    return hashlib.sha256(data).hexdigest()


def atomic_write(path: Path, data: bytes | Iterable[bytes]) -> str:
    """Write a file under a temporary name, fsync it, rename it, fsync its folder; return its hex SHA-256.

    A reader sees either the old content or the new one, also after a power cut. Missing folders are made.

    Raises:
        StorageError: the disk is full (the message says how much room is free) or the write is refused.
            The file at `path` is then unchanged.
    """
    stream = HashedStream([data] if isinstance(data, bytes) else data)
    num_known = len(data) if isinstance(data, bytes) else 0
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"))
        # The kernel takes the umask off the mode; mkstemp would make 0600, which other users cannot read.
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        temporary = name
        with os.fdopen(handle, "wb") as file:
            for chunk in stream:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        fsync_dir(path.parent)
    except OSError as error:
        _remove(temporary)  # first: the message says how much room is free
        raise storage_error(path, max(num_known, stream.num_bytes), error) from error
    finally:
        _remove(temporary)
    return stream.sha256


def rename_new(source: Path, target: Path) -> None:
    """Give a file another name. Raises FileExistsError where there is such a file.

    A hard link never replaces a file, unlike a rename. Where the file system has none, an empty file takes the name
    first: others can see it for a moment.
    """
    try:
        target.hardlink_to(source)
        source.unlink(missing_ok=True)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        target.touch(exist_ok=False)
        try:
            source.replace(target)
        except OSError:
            target.unlink()
            raise


def is_temporary(name: str) -> bool:
    """Return whether a file name is one under which `atomic_write` writes; a killed process leaves such files."""
    return name.startswith(".") and name.endswith(".tmp")


def check_path(path: Path) -> None:
    """Raise StorageError for a path that the system does not let us look at, as a folder of another user.

    A path where nothing is passes. So does every file, whose reader finds out by itself.
    """
    try:
        if path.is_dir():
            os.scandir(path).close()
        (path / "a name in it").lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be read ({error.strerror}). Check the path, and that you may read and enter its folders."
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, at any depth, except temporary ones.

    A symbolic link to a folder is yielded, not followed. Raises StorageError where a folder cannot be read.
    """
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in files + links if not is_temporary(name))


def fsync_dir(path: Path) -> None:
    """Make the renames in a folder survive a power cut, where the file system can do that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder for the length of the block. The kernel frees it when this process dies.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: there is no such folder, or its file system cannot lock folders.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, wait)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        said = f"its file system cannot lock a folder: {error.strerror}"
        raise OSError(error.errno, said, str(folder)) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for the length of the block. Raises StorageError where there is no place for it."""
    try:
        folder = TemporaryDirectory(prefix="gan-")
    except OSError as error:
        raise storage_error(Path(_temporary_place(), "gan-"), 0, error) from error
    with folder as name:
        yield Path(name)


def storage_error(path: Path, num_bytes: int, error: OSError) -> StorageError:
    """Return the StorageError for a failed write of `num_bytes` or more; 0: the size is not known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: {_shortage(path, num_bytes, error.errno)} The earlier files are intact.")
    return StorageError(f"{path}: cannot be written ({error.strerror}). Check the folder's permissions and mount.")


def _shortage(path: Path, num_bytes: int, number: int) -> str:
    """Say what there is too little of, where, and what to do."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    needed = f"at least {num_bytes:,} bytes are needed, " if num_bytes else ""
    again = "and run the same command again."
    if number == errno.EDQUOT:
        return f"your quota on this disk is used up. Delete files of yours there, or ask for more, {again}"
    disk = os.statvfs(folder)
    if disk.f_files and not disk.f_favail:
        return f"the disk has room, but cannot hold more files (no inode is free). Delete files there, {again}"
    free = disk.f_bavail * disk.f_frsize
    others = [] if free < max(num_bytes, LITTLE_BYTES) else _full_places()
    if others:
        return (
            f"no space is left, although this disk has {free:,} bytes free: {others[0]} is full. "
            f"Make room there, or set that variable to a folder on another disk, {again}"
        )
    is_temporary_file = Path(_temporary_place()) in path.parents
    or_elsewhere = ", or set TMPDIR to a folder on another disk, " if is_temporary_file else " "
    return f"the disk is full: {needed}{free:,} are free. Make room{or_elsewhere}{again}"


def _full_places() -> list[str]:
    """List the folders outside of runs and stores, for temporary files and caches, whose disks are full."""
    home = os.environ.get("HOME", "/")
    folders = {
        "TMPDIR": _temporary_place(),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache",
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", ""),
    }
    return [f"{folder} ({name})" for name, folder in folders.items() if folder and _is_full(folder)]


def _temporary_place() -> str:
    return os.environ.get("TMPDIR") or "/tmp"


def _is_full(folder: str) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:  # there is no such folder
        return False
    return disk.f_bavail * disk.f_frsize < LITTLE_BYTES or (disk.f_files > 0 and not disk.f_favail)


def _remove(temporary: str | None) -> None:
    if temporary is not None:
        Path(temporary).unlink(missing_ok=True)


def _raise(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error) from error  # by default os.walk skips a folder that it cannot read
