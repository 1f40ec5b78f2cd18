"""Is a run published to a bucket completely, also if another process publishes it or the connection breaks?"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gan.errors import StorageError
from gan.runs.manifest import Manifest
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.listing import list_runs
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.publishing import publish, publish_when_free
from tests.support.s3_server import S3Server, new_address
from tests.support.small_run import NAMES, tree, write_run
from tests.support.tcp_proxy import proxy_to

NUM_AT_ONCE = 6


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def stored(store: Store) -> dict[str, bytes]:
    return {info.key.removeprefix("runs/a/"): store.read(info.key) or b"" for info in store.list("runs/a/")}


def test_a_run_is_published_completely_and_once(s3: S3Server, run_path: Path) -> None:
    store = open_store(new_address())
    first = publish(run_path, StoredRun(store, "a"))
    assert stored(store) == tree(run_path) and len(stored(store)) == len(NAMES) + 1
    written = {info.key: info.modified for info in store.list("runs/")}
    assert publish(run_path, StoredRun(store, "a")) == first
    assert {info.key: info.modified for info in store.list("runs/")} == written
    assert [info.key for info in store.list("") if info.key not in written] == ["leases/a.json"]
    assert verify(StoredRun(store, "a")).problems == []
    assert [(run.run_id, run.state) for run in list_runs(store)] == [("a", "published")]


def test_many_concurrent_publishers_leave_one_complete_run(s3: S3Server, run_path: Path) -> None:
    address = new_address()
    barrier = Barrier(NUM_AT_ONCE)

    def begin(_: int) -> Manifest:
        store = open_store(address)
        barrier.wait()
        return publish_when_free(run_path, StoredRun(store, "a"))

    with ThreadPoolExecutor(NUM_AT_ONCE) as threads:
        manifests = list(threads.map(begin, range(NUM_AT_ONCE)))
    assert {manifest.sha256 for manifest in manifests} == {manifests[0].sha256}
    assert stored(open_store(address)) == tree(run_path)
    assert verify(StoredRun(open_store(address), "a")).problems == []


def test_a_run_is_completed_after_the_store_was_unreachable(
    s3: S3Server, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    with proxy_to(s3.port) as proxy:
        s3.use(monkeypatch, proxy.url)
        store = open_store(new_address())
        with pytest.raises(StorageError, match="cannot be stored: the store cannot be reached"):
            publish(run_path, StoredRun(store, "a"), lambda done, total: proxy.refuse() if done > 2_000_000 else None)
        assert not (run_path / "manifest.json").exists()
        proxy.accept()
        assert [(run.run_id, run.state) for run in list_runs(store)] == [("a", "unfinished")]
        proxy.requests.clear()
        publish(run_path, StoredRun(store, "a"))
        assert stored(store) == tree(run_path)
        puts = Counter(line for line in proxy.requests if line.startswith("PUT") and "/leases/" not in line)
        assert max(puts.values()) == 1


def test_pruned_files_are_deleted_before_the_manifest_is_put(s3: S3Server, run_path: Path) -> None:
    store = open_store(new_address())
    store.put_new("runs/a/checkpoints/step-000500.safetensors", b"pruned since")
    publish(run_path, StoredRun(store, "a"))
    assert stored(store) == tree(run_path)


def test_another_run_under_a_published_id_is_refused(s3: S3Server, run_path: Path, tmp_path: Path) -> None:
    store = open_store(new_address())
    publish(run_path, StoredRun(store, "a"))
    before = stored(store)
    other = write_run(tmp_path / "other")
    (other / "losses.npz").write_bytes(b"other")
    with pytest.raises(StorageError, match=r"runs/a/ in s3://.*other content:\n  losses\.npz: expected 11 bytes"):
        publish(other, StoredRun(store, "a"))
    assert stored(store) == before and verify(StoredRun.at(run_path)).problems == []
