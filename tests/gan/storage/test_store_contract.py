"""Does every kind of store do what the protocol says?"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from gan.errors import StorageError
from gan.storage.base import Store, check_key
from tests.support.s3_server import SERVERS, new_store

KEY = "runs/a/grids/step-001000.png"
MANIFEST = "runs/a/manifest.json"
NUM_AT_ONCE = 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["local", *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return new_store(request, tmp_path, monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.png"
    path.write_bytes(b"content")
    return path


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(info.key for info in store.list(prefix))


def at_once(work: Callable[[int], object]) -> list[object]:
    """Call a function in 20 threads that start at the same time."""
    barrier = Barrier(NUM_AT_ONCE)

    def begin(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(NUM_AT_ONCE) as threads:
        return list(threads.map(begin, range(NUM_AT_ONCE)))


def test_put_get_list_delete(store: Store, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    assert store.read(KEY) == b"".join(store.get(KEY)) == b"content"
    [info] = store.list("runs/a/")
    assert (info.key, info.size) == (KEY, 7)
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=1)
    store.delete(KEY)
    store.delete(KEY)
    assert store.read(KEY) is None
    assert keys(store) == []


def test_put_replaces_other_content(store: Store, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    source.write_bytes(b"more content")
    store.put(KEY, source, sha256(b"more content"))
    assert store.read(KEY) == b"more content"


def test_an_empty_file_is_kept(store: Store, source: Path) -> None:
    source.write_bytes(b"")
    store.put(KEY, source, sha256(b""))
    assert store.read(KEY) == b"".join(store.get(KEY)) == b""


def test_put_of_a_file_with_another_hash_leaves_the_old_content(store: Store, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    source.write_bytes(b"torn")
    with pytest.raises(StorageError, match=f"source.png changed .* expected {sha256(b'new')}, found {sha256(b'torn')}"):
        store.put(KEY, source, sha256(b"new"))
    assert [store.read(key) for key in keys(store)] == [b"content"]


def test_a_file_that_is_not_there_cannot_be_put(store: Store, source: Path) -> None:
    source.unlink()
    with pytest.raises(StorageError, match=r"source\.png cannot be read \(No such file"):
        store.put(KEY, source, sha256(b"content"))
    assert keys(store) == []


def test_an_object_is_copied_with_its_checksum(store: Store, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    for _ in range(2):
        assert store.copy(KEY, "runs/b/one.png", sha256(b"content"))
    store.delete(KEY)
    assert store.read("runs/b/one.png") == b"content"
    assert not store.copy(KEY, "runs/c/one.png", sha256(b"content"))
    assert not store.copy("runs/b/one.png", "runs/c/one.png", sha256(b"other"))
    assert keys(store) == ["runs/b/one.png"]


def test_put_new_creates_once(store: Store) -> None:
    assert store.put_new(MANIFEST, b"first")
    assert not store.put_new(MANIFEST, b"second")
    assert store.read(MANIFEST) == b"first"
    assert keys(store) == [MANIFEST]


def test_of_many_concurrent_creations_of_an_object_one_succeeds(store: Store) -> None:
    created = at_once(lambda number: store.put_new(MANIFEST, str(number).encode()))
    assert created.count(True) == 1
    assert store.read(MANIFEST) == str(created.index(True)).encode()
    assert keys(store) == [MANIFEST]


def test_replace_replaces_only_the_given_version(store: Store) -> None:
    first = store.replace(KEY, b"first", None)
    assert first and store.replace(KEY, b"other", None) is None
    second = store.replace(KEY, b"second", first)
    assert second and store.replace(KEY, b"other", first) is None
    found = store.read_versioned(KEY)
    assert found and (found.data, found.version) == (b"second", second)
    assert 0 <= found.age_seconds < 30
    store.delete(KEY)
    assert store.replace(KEY, b"other", second) is None
    assert store.read_versioned(KEY) is None


def test_no_update_by_compare_and_swap_is_lost(store: Store) -> None:
    store.put_new(KEY, b"")

    def add(number: int) -> None:
        while (found := store.read_versioned(KEY)) and not store.replace(KEY, found.data + b"x", found.version):
            pass

    at_once(add)
    assert store.read(KEY) == b"x" * NUM_AT_ONCE


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["champion.json", "runs/a/1", "runs/a/b/2", "runs/ab/3"]),
        ("runs/", ["runs/a/1", "runs/a/b/2", "runs/ab/3"]),
        ("runs/a", ["runs/a/1", "runs/a/b/2", "runs/ab/3"]),
        ("runs/a/", ["runs/a/1", "runs/a/b/2"]),
        ("runs/b/", []),
    ],
)
def test_list_by_prefix(store: Store, prefix: str, found: list[str]) -> None:
    for key in ("champion.json", "runs/a/1", "runs/a/b/2", "runs/ab/3"):
        store.put_new(key, b"1")
    assert keys(store, prefix) == found


def test_unusual_names_are_listed_unchanged(store: Store) -> None:
    names = ["a b+c", "per%20cent", "ä", "#1", "q?x=1&y", "~'()*!", "日本"]
    for name in names:
        store.put_new(f"runs/{name}", name.encode())
    assert keys(store) == sorted(f"runs/{name}" for name in names)
    assert [store.read(f"runs/{name}") for name in names] == [name.encode() for name in names]


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b", "a\udc80"])
def test_a_key_that_leaves_the_store_is_refused(store: Store, source: Path, key: str) -> None:
    with pytest.raises(StorageError, match="cannot name a file"):
        check_key(key, "store")
    for use in (
        lambda: store.put(key, source, sha256(b"content")), lambda: store.put_new(key, b""),
        lambda: store.replace(key, b"", "version"), lambda: store.read(key), lambda: store.read_versioned(key),
        lambda: list(store.get(key)), lambda: store.delete(key),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="cannot name a file"):
            use()
    assert keys(store) == []


def test_get_names_the_missing_key(store: Store) -> None:
    with pytest.raises(StorageError, match=f"{KEY} .*cannot be read"):
        list(store.get(KEY))


def test_a_sweep_deletes_no_object(store: Store, source: Path) -> None:
    store.put(KEY, source, sha256(b"content"))
    store.sweep("runs/a/")
    store.sweep("runs/b/")
    assert keys(store) == [KEY]
