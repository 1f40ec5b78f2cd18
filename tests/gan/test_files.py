"""Are files written completely and hashed, also where the file system lacks something?"""

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gan.errors import StorageError
from gan.files import (
    HashedStream,
    atomic_write,
    check_path,
    sha256_file,
    storage_error,
    temporary_folder,
    verified,
    walk,
)
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.poor_file_system import build, run_python
from tests.support.small_run import write_run

LIMITED = """
import resource, signal, sys
from pathlib import Path
from gan.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
atomic_write(Path(sys.argv[1]), b"new" * 1000)
"""


def test_written_content_is_hashed_and_read_back(tmp_path: Path) -> None:
    digest = atomic_write(tmp_path / "new" / "folder" / "file", [b"one ", b"two"])
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == b"one two"
    assert digest == sha256_file(tmp_path / "new" / "folder" / "file") == hashlib.sha256(b"one two").hexdigest()


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_file_has_the_mode_that_the_umask_allows(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "file", b"secret digits")
    finally:
        os.umask(before)
    assert f"{(tmp_path / 'file').stat().st_mode & 0o777:o}" == f"{mode:o}"


def test_a_source_that_breaks_off_leaves_the_old_content(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    atomic_write(tmp_path / "file", b"old")
    with pytest.raises(StorageError, match="file: cannot be written"):
        atomic_write(tmp_path / "file", chunks())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_write_cut_short_by_the_system_leaves_the_old_content(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "file"], capture_output=True, text=True, check=False
    )
    assert "StorageError" in done.stderr and "file: cannot be written (File too large)" in done.stderr
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_full_disk_says_how_much_room_is_needed() -> None:
    """/dev/full is a device on which every write finds the disk full; a file is made beside it under its name."""
    with pytest.raises(StorageError, match=r"full: at least 31,002,612 bytes are needed, [\d,]+ are free. Make room"):
        raise_full()


def raise_full() -> None:
    try:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
    except OSError as error:
        raise storage_error(Path("/tmp/run/step-000001.safetensors"), 31_002_612, error) from error


class Disk(NamedTuple):
    """What os.statvfs says of a disk."""

    f_bavail: int = 70_000_000
    f_frsize: int = 1000
    f_files: int = 100
    f_favail: int = 50


@pytest.mark.parametrize(
    ("number", "disks", "said"),
    [
        (
            errno.ENOSPC,
            {"run": Disk(f_bavail=3)},
            "full: at least 5,000 bytes are needed, 3,000 are free. Make",
        ),
        (errno.ENOSPC, {"run": Disk(f_favail=0)}, "the disk has room, but cannot hold more files (no inode is free)"),
        (errno.EDQUOT, {}, "your quota on this disk is used up"),
        (
            errno.ENOSPC,
            {"tmp": Disk(f_bavail=0)},
            "has 70,000,000,000 bytes free: tmp (TMPDIR) is full. Make room",
        ),
        (
            errno.ENOSPC,
            {"cache": Disk(f_favail=0)},
            "cache (XDG_CACHE_HOME) is full. Make room there, or set",
        ),
    ],
)
def test_the_disk_that_is_full_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, disks: dict[str, Disk], said: str
) -> None:
    monkeypatch.setenv("TMPDIR", "tmp")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "statvfs", lambda path: disks.get(Path(path).name, Disk()))
    error = storage_error(tmp_path / "run/file", 5000, OSError(number, os.strerror(number)))
    assert said in str(error) and str(error).startswith(f"{tmp_path / 'run/file'}: ")
    assert str(error).endswith("run the same command again. The earlier files are intact.")


def test_without_a_place_for_temporary_files_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/dev/shm/full")
    monkeypatch.setattr(tempfile, "mkdtemp", raise_no_space)
    said = "^/dev/shm/full/gan-: the disk is full: .* or set TMPDIR to a folder on another disk"
    with pytest.raises(StorageError, match=said), temporary_folder():
        raise AssertionError


def raise_no_space(*_args: object, **_options: object) -> str:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_stream_is_hashed_and_counted_while_it_is_read() -> None:
    stream = HashedStream([b"one ", b"two"])
    assert list(stream) == [b"one ", b"two"]
    assert (stream.num_bytes, stream.sha256) == (7, hashlib.sha256(b"one two").hexdigest())


def test_a_stream_with_another_hash_raises_after_its_last_chunk() -> None:
    read = []
    with pytest.raises(ValueError, match=f"found {hashlib.sha256(b'one two').hexdigest()}"):
        for chunk in verified([b"one ", b"two"], "0" * 64, lambda found: ValueError(f"found {found}")):
            read.append(chunk)
    assert read == [b"one ", b"two"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


SEAL = """
import os, sys
from pathlib import Path
from gan.sync.publish import seal
for lacks in sys.argv[2:]:
    os.environ["LACKS"] = lacks  # the library asks for it at each call
    run = Path(sys.argv[1], lacks, "run")
    assert seal(run, "run") == seal(run, "run")
"""
POOR = ("link", "fsync", "link fsync")
LOCK = """
import sys
from pathlib import Path
from gan.locks import locked
with locked(Path(sys.argv[1])):
    pass
"""


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Path:
    """Seal a run on each poor file system, all in one process."""
    folder = tmp_path_factory.mktemp("sealed")
    for lacks in POOR:
        write_run(folder / lacks / "run")
    done = run_python(library, "", SEAL, folder, *POOR)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.compiler
@pytest.mark.parametrize("lacks", POOR)
def test_a_poor_file_system_holds_a_manifest(sealed: Path, lacks: str) -> None:
    run = sealed / lacks / "run"
    assert [path.name for path in run.glob("*manifest*")] == ["manifest.json"]
    assert verify(StoredRun.at(str(run))).problems == []


def test_without_hard_links_a_file_is_not_replaced_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_args: object, **_options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links")

    monkeypatch.setattr(os, "link", link)
    store = LocalStore(tmp_path)
    assert [store.put_new("key", data) for data in (b"first", b"second")] == [True, False]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"first"}


@pytest.mark.compiler
def test_a_file_system_without_locks_is_named(tmp_path: Path, library: Path) -> None:
    done = run_python(library, "flock", LOCK, tmp_path)
    assert f"its file system cannot lock a folder: Function not implemented: '{tmp_path}'" in done.stderr


@pytest.mark.parametrize("look", [lambda path: list(walk(path)), check_path])
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, look: Callable[[Path], object]) -> None:
    """Here it is a loop of links, which stops root, too."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match=f"^{tmp_path}/loop/grids cannot be read .Too many levels"):
        look(tmp_path / "loop" / "grids")
    check_path(tmp_path / "nothing here")
