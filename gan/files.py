"""How are files written whole and hashed?"""

import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from gan.errors import StorageError

CHUNK = 1 << 20
NO_FSYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)  # of one that syncs no folders
MAX_SWEPT = 10_000  # times that sweeps may be faster than a writer, also one that rarely gets a processor
MAX_WRITE_SECONDS = 24 * 3600  # that writing a file takes, where no file can be locked
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
    try:
        with _temporary(path, stream) as temporary:
            temporary.replace(path)
        fsync_dir(path.parent)
    except OSError as error:
        raise storage_error(path, max(num_known, stream.num_bytes), error) from error
    return stream.sha256


def write_new(path: Path, data: bytes) -> bool:
    """Write a file as `atomic_write` does, unless there is one; return False then. Raises as `atomic_write` does."""
    try:
        with _temporary(path, [data]) as temporary:
            try:
                rename_new(temporary, path)
            except FileExistsError:
                return False
        fsync_dir(path.parent)
    except OSError as error:
        raise storage_error(path, len(data), error) from error
    return True


@contextmanager
def _temporary(path: Path, chunks: Iterable[bytes]) -> Iterator[Path]:
    """Write and fsync a file beside a path; yield its temporary name, under which it is deleted after the block."""
    file = _open_temporary(path)
    temporary = Path(file.name)
    try:
        with file:  # it stays locked until it has another name
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _open_temporary(path: Path) -> BinaryIO:
    """Open a new file beside a path, and lock it so that no sweep deletes it. Missing folders are made."""
    for _ in range(MAX_SWEPT):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with suppress(FileNotFoundError):  # a sweep has just deleted the empty folder
            make_folder(path.parent)
            # The kernel takes the umask off the mode; mkstemp would make 0600, which other users cannot read.
            file = temporary.open("xb")
            if _try_lock(file.fileno()) is not False and temporary.exists():
                return file
            file.close()  # a sweep was faster
    raise FileNotFoundError(errno.ENOENT, "its folder is deleted again and again", str(path))


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, so that they survive a power cut.

    Raises OSError, also when one of them is deleted meanwhile.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir()
        fsync_dir(folder.parent)


def remove_temporary(path: Path) -> None:
    """Delete a temporary file, unless a process is writing it: then that process has locked it.

    A file that cannot be locked is deleted when it is a day old. Raises OSError where it cannot be deleted.
    """
    with ExitStack() as stack, suppress(FileNotFoundError):
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # NFS locks no file that is only read
            stack.callback(os.close, handle)
            is_locked = _try_lock(handle)
        except FileNotFoundError:
            raise
        except OSError:  # of another user, or no regular file
            is_locked = None
        if is_locked or (is_locked is None and time.time() - path.lstat().st_mtime > MAX_WRITE_SECONDS):
            path.unlink()


def _try_lock(handle: int) -> bool | None:
    """Lock a file; return False where another writer or sweep has locked it, None where no file can be locked."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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

    A symbolic link to a folder is yielded, not followed. A folder that is deleted meanwhile is skipped. Raises
    StorageError where one cannot be read.
    """

    def fail(error: OSError) -> None:  # by default os.walk skips a folder that it cannot read
        if not isinstance(error, FileNotFoundError) or error.filename == str(folder):
            raise _unreadable(Path(error.filename), error) from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in files + links if not is_temporary(name))


def fsync_dir(path: Path) -> None:
    """Make the entries of a folder survive a power cut, where the file system and its permissions allow that."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):  # a sweep has deleted it; or it may be written and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    finally:
        os.close(handle)


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
