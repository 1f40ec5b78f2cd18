"""Does a store in a directory keep complete files, and change no other files? test_store_contract.py has the rest."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gan.errors import StorageError
from gan.files import atomic_write
from gan.storage.base import Store
from gan.storage.local import LocalStore

KEY = "runs/a/grids/step-001000.png"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(b"content")
    return path


def test_put_does_not_write_the_same_content_again(store: LocalStore, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    before = (store.root / KEY).stat()
    store.put(KEY, source, sha256(b"content"))
    after = (store.root / KEY).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_put_in_place_checks_the_hash_and_writes_nothing(tmp_path: Path, source: Path) -> None:
    store = LocalStore(tmp_path)
    before = source.stat()
    store.put("source.png", source, sha256(b"content"))
    assert source.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(StorageError, match=r"source\.png changed while it was published"):
        store.put("source.png", source, sha256(b"other"))
    assert [path.name for path in tmp_path.iterdir()] == ["source.png"]


def test_temporary_files_and_links_are_not_objects(store: LocalStore) -> None:
    store.put_new("runs/a/1", b"")
    (store.root / "runs/a/.1.x7.tmp").touch()
    (store.root / "runs/a/link").symlink_to("1")
    (store.root / "runs/a/loop").symlink_to("..")
    assert [info.key for info in store.list("")] == ["runs/a/1"]


def test_a_sweep_deletes_temporary_files_and_empty_folders(store: LocalStore) -> None:
    store.put_new("runs/a/1", b"")
    store.put_new("runs/a/grids/2", b"")
    store.put_new("runs/b/grids/3", b"")
    (store.root / "runs/a/.1.x7.tmp").touch()
    for key in ("runs/a/grids/2", "runs/b/grids/3"):
        store.delete(key)
    store.sweep("runs/a/")
    store.sweep("runs/b/")
    assert sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*")) == [
        "runs", "runs/a", "runs/a/1",
    ]  # fmt: skip


def test_a_sweep_lets_a_living_writer_be(store: LocalStore, source: Path) -> None:
    def write() -> Iterator[bytes]:
        yield b"one "
        store.sweep("runs/a/")
        yield b"two"

    atomic_write(store.root / KEY, write())
    assert store.read(KEY) == b"one two"


def test_writes_and_sweeps_in_a_tight_race_all_succeed(store: LocalStore, source: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            store.sweep("runs/a/")

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(100):
            store.put(KEY, source, sha256(b"content"))
            assert store.put_new(f"runs/a/grids/{number}", b"new")
            store.delete(KEY)
            store.delete(f"runs/a/grids/{number}")
    finally:
        done.set()
        sweeper.join()
    assert not list(store.root.rglob("*.tmp"))


def test_a_sweep_before_the_writer_has_locked_its_file(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock
    num_swept = 0

    def sweep_first(handle: int, flags: int) -> None:
        nonlocal num_swept
        num_swept += 1
        if num_swept == 1:
            store.sweep("runs/a/")
        lock(handle, flags)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    assert store.put_new(KEY, b"content")
    assert [path.name for path in store.root.rglob("*.*")] == ["step-001000.png"]


WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from gan.files import atomic_write

def chunks():
    print("writing", flush=True)
    yield sys.stdin.buffer.readline()

atomic_write(Path(sys.argv[1]), chunks())
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_temporary_file_of_another_process(store: LocalStore, is_killed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_SLOWLY, str(store.root / KEY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdin and writer.stdout and writer.stdout.readline() == b"writing\n"
        if is_killed:
            writer.kill()
            writer.wait()
        store.sweep("runs/a/")
        assert len(list(store.root.rglob("*.tmp"))) == (0 if is_killed else 1)
        writer.communicate(None if is_killed else b"content")
    assert store.read(KEY) == (None if is_killed else b"content")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_without_locks_only_an_old_temporary_file_is_swept(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_lock(_handle: int, _flags: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    store.put_new("runs/a/1", b"content")
    for name, hours in (("young", 23), ("old", 25)):
        path = store.root / f"runs/a/.{name}.tmp"
        path.touch()
        os.utime(path, (time.time() - hours * 3600,) * 2)
    store.sweep("runs/a/")
    assert sorted(path.name for path in (store.root / "runs/a").iterdir()) == [".young.tmp", "1"]


@pytest.mark.parametrize(
    "use",
    [
        lambda store, source: store.put(KEY, source, sha256(b"content")),
        lambda store, source: store.put_new(KEY, b""),
        lambda store, source: store.read(KEY),
        lambda store, source: list(store.get(KEY)),
        lambda store, source: store.delete(KEY),
    ],
)
def test_a_store_that_cannot_be_used_is_named(
    tmp_path: Path, source: Path, use: Callable[[Store, Path], object]
) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(StorageError, match=r"disk/store.*Check"):
        use(LocalStore(tmp_path / "disk" / "store"), source)


def test_get_says_that_there_is_no_such_file(store: Store) -> None:
    with pytest.raises(StorageError, match=f"{KEY} cannot be read in the store .*No such file"):
        list(store.get(KEY))


def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(store: LocalStore, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    source.write_bytes(b"x" * 100_000)
    limited = (
        "import resource, sys; from pathlib import Path; from gan.storage.local import LocalStore\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "LocalStore(Path(sys.argv[1])).put(sys.argv[2], Path(sys.argv[3]), sys.argv[4])"
    )
    arguments = [str(store.root), KEY, str(source), sha256(b"x" * 100_000)]
    ended = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False)
    assert "StorageError" in ended.stderr and "step-001000.png: cannot be written (File too large)" in ended.stderr
    assert [os.fsdecode(path.name) for path in (store.root / "runs/a/grids").iterdir()] == ["step-001000.png"]
    assert store.read(KEY) == b"content"
