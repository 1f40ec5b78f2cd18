"""Are files of published runs taken from a store once, checked, and found again?"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan.errors import ChecksumError, StorageError
from gan.files import atomic_write
from gan.storage.address import open_store
from gan.sync import cache
from gan.sync.stored_run import StoredRun
from tests.support.command import run_gan
from tests.support.publishing import publish
from tests.support.s3_server import S3Server, new_address
from tests.support.small_run import CHECKPOINTS, FILES, tree, write_run
from tests.support.tcp_proxy import TcpProxy, proxy_to

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def proxy(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        yield proxy


@pytest.fixture
def address(proxy: TcpProxy, tmp_path: Path) -> str:
    """Publish a run and return where it is."""
    store = open_store(new_address())
    publish(write_run(tmp_path / "run"), StoredRun(store, "a"))
    proxy.requests.clear()
    return f"{store.address}/runs/a"


def test_the_newest_checkpoint_is_copied_once(address: str, proxy: TcpProxy) -> None:
    path = cache.checkpoint_copy(address)
    newest = CHECKPOINTS[-1]
    assert sorted(tree(path)) == [newest, newest + ".sha256", "config.json"]
    assert (path / newest).read_bytes() == FILES[newest]
    assert len(proxy.requests) == 4
    assert cache.checkpoint_copy(address) == path
    assert len(proxy.requests) == 5  # the manifest is asked for each time


def test_one_checkpoint_is_copied(address: str) -> None:
    path = cache.checkpoint_copy(f"{address}/{CHECKPOINTS[0]}")
    assert path.read_bytes() == FILES[CHECKPOINTS[0]]
    assert path.with_name(path.name + ".sha256").exists()
    with pytest.raises(StorageError, match="the run has no such checkpoint"):
        cache.checkpoint_copy(f"{address}/checkpoints/step-000007.safetensors")


def test_a_damaged_copy_is_replaced_and_a_damaged_object_refused(address: str) -> None:
    path = cache.checkpoint_copy(address) / CHECKPOINTS[-1]
    path.write_bytes(b"damaged")
    assert (cache.checkpoint_copy(address) / CHECKPOINTS[-1]).read_bytes() == FILES[CHECKPOINTS[-1]]
    cache.clear()
    store = open_store(address)
    store.delete(CHECKPOINTS[-1])
    store.put_new(CHECKPOINTS[-1], b"damaged")
    with pytest.raises(ChecksumError, match=r"step-002000\.safetensors in s3://.* is damaged"):
        cache.checkpoint_copy(address)
    assert not path.exists()


def test_a_report_is_copied_as_it_was_published(address: str, proxy: TcpProxy, tmp_path: Path) -> None:
    path = cache.report_copy(address)
    assert path.read_bytes() == FILES["report/index.html"]
    assert len(proxy.requests) == 2
    store = open_store(new_address())
    (tmp_path / "run/report/index.html").unlink()
    (tmp_path / "run/manifest.json").unlink()
    publish(tmp_path / "run", StoredRun(store, "a"))
    with pytest.raises(StorageError, match=r"was published without report/index\.html"):
        cache.report_copy(f"{store.address}/runs/a")


def test_an_unfinished_run_is_not_taken(proxy: TcpProxy) -> None:
    store = open_store(new_address())
    store.put_new("runs/a/config.json", b"{}")
    for copy in (cache.checkpoint_copy, cache.report_copy):
        with pytest.raises(StorageError, match=r"manifest\.json in s3://.*/runs/a is missing: there is no such run"):
            copy(f"{store.address}/runs/a")


def test_a_path_is_left_as_it_is(tmp_path: Path, cache_home: Path) -> None:
    assert cache.checkpoint_copy(str(tmp_path)) == tmp_path
    assert not cache_home.exists()


def test_the_cache_is_cleared(address: str, cache_home: Path) -> None:
    assert cache.size() == cache.clear() == 0
    cache.checkpoint_copy(address)
    (cache_home / "other-program").mkdir()
    assert cache.size() > 2_000_000
    assert cache.clear() > 2_000_000
    assert cache.size() == 0 and (cache_home / "other-program").exists()


def test_a_copy_that_is_being_written_is_not_cleared(cache_home: Path) -> None:
    def write() -> Iterator[bytes]:
        yield b"one "
        cache.clear()
        yield b"two"

    path = cache_home / "gan-train/runs/0/config.json"
    atomic_write(path, write())
    assert path.read_bytes() == b"one two"


def test_a_user_without_a_home_directory_is_told_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # is in no list of users
    done = run_gan(tmp_path, "cache")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no home directory" in done.stderr and "Set XDG_CACHE_HOME" in done.stderr
