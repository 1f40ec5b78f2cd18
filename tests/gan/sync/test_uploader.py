"""Is a run uploaded during training, also if the store fails for some time?"""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gan.errors import RunError, StorageError
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync import uploader as sync_uploader
from gan.sync.lease import Lease, hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import Backlog, Uploader, uploading
from tests.support.publishing import files_of, newest_version
from tests.support.s3_server import BUCKET, S3Server, new_address
from tests.support.spooled_run import SpooledRun, spooled
from tests.support.tcp_proxy import TcpProxy, proxy_to


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    with proxy_to(s3.port) as proxy:
        s3.use(monkeypatch, proxy.url)
        yield proxy


@pytest.fixture
def store(proxy: TcpProxy) -> Store:
    return open_store(new_address())


@pytest.fixture
def run(tmp_path: Path) -> SpooledRun:
    return SpooledRun(tmp_path / "run")


@contextmanager
def sending(run: SpooledRun, store: Store) -> Iterator[Uploader]:
    with hold(StoredRun(store, "a")) as lease, uploading(run.dir.path, lease) as uploader:
        yield uploader


def stored(store: Store) -> dict[str, bytes]:
    """Return all that the store has of run a."""
    return files_of(StoredRun(store, "a"))


def puts(proxy: TcpProxy, store: Store) -> list[str]:
    """Return the names of run a that its last holder has put, in order."""
    prefix = newest_version(StoredRun(store, "a")).prefix
    start = f"PUT /{BUCKET}/{store.address.removeprefix(f's3://{BUCKET}/')}/{prefix}"
    return [line.removeprefix(start) for line in proxy.requests if line.startswith(start)]


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def test_a_snapshot_is_uploaded_during_training(run: SpooledRun, store: Store, proxy: TcpProxy) -> None:
    with sending(run, store) as uploader:
        for step in (10, 20):
            run.snapshot(step)
            uploader.wake()
            wait_until(lambda step=step: stored(store) == spooled(run.dir.path))
        uploader.flush(10)
        assert uploader.backlog == Backlog() and str(uploader.backlog) == ""
    names = puts(proxy, store)
    for step in (10, 20):
        *before, weights = [name for name in names if f"step-0000{step}" in name]
        assert before == [f"grids/step-0000{step}.png", f"checkpoints/step-0000{step}.safetensors.sha256"]
        assert weights == f"checkpoints/step-0000{step}.safetensors"


def test_pruned_files_are_deleted_from_the_store(run: SpooledRun, store: Store) -> None:
    with sending(run, store) as uploader:
        for step in range(10, 150, 10):
            run.snapshot(step)
            uploader.flush(10)
    assert stored(store) == spooled(run.dir.path)
    assert sum(name.endswith(".safetensors") for name in stored(store)) == 4  # 100, and the last 3


def test_pruned_files_stay_without_the_right_to_delete(
    run: SpooledRun, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(key: str) -> None:
        raise StorageError(f"{key} cannot be deleted: access is denied")

    monkeypatch.setattr(store, "delete", denied)
    with sending(run, store) as uploader:
        for step in range(10, 70, 10):
            run.snapshot(step)
            uploader.flush(10)
    assert spooled(run.dir.path).items() < stored(store).items()
    assert caplog.text.count("stay in the store: ") == 1 and "access is denied" in caplog.text


def test_the_best_checkpoint_stays_in_the_store_until_there_is_a_better_one(run: SpooledRun, store: Store) -> None:
    found = {}
    with sending(run, store) as uploader:
        for step, distance in ((10, 9.0), (20, 5.0), (30, None), (40, 7.0), (50, None), (60, None), (70, 4.0)):
            run.snapshot(step, distance)
            uploader.flush(10)
            found[step] = [name[-14:-12] for name in sorted(stored(store)) if name.endswith(".safetensors")]
    assert found[60] == ["20", "40", "50", "60"]
    assert found[70] == ["50", "60", "70"]


def test_files_are_uploaded_later_if_the_store_was_unreachable(run: SpooledRun, store: Store, proxy: TcpProxy) -> None:
    with sending(run, store) as uploader:
        run.snapshot(10)
        uploader.flush(10)
        proxy.refuse()
        for step in range(20, 80, 10):
            run.snapshot(step)
            began = time.monotonic()
            uploader.wake()
            assert time.monotonic() - began < 0.1
        wait_until(lambda: uploader.backlog.num_files > 10)
        assert str(uploader.backlog).startswith(f"{uploader.backlog.num_files} files, 0.")
        proxy.accept()
        uploader.flush(30)
    assert stored(store) == spooled(run.dir.path)
    assert "checkpoints/step-000030.safetensors" not in puts(proxy, store)  # pruned before it could be sent
    assert {name: count for name, count in Counter(puts(proxy, store)).items() if count > 1 and "step" in name} == {}


def test_all_files_are_uploaded_over_a_connection_that_is_cut_repeatedly(
    run: SpooledRun, store: Store, proxy: TcpProxy
) -> None:
    with sending(run, store) as uploader:
        for step in range(10, 100, 10):
            run.snapshot(step)
            uploader.wake()
            time.sleep(0.05)
            proxy.cut()
        uploader.flush(30)
    assert stored(store) == spooled(run.dir.path)


def test_a_flush_that_cannot_end_reports_the_missing_files(
    run: SpooledRun, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    with sending(run, open_store(new_address())) as uploader:
        uploader.flush(10)
        proxy.refuse()
        run.snapshot(10)
        with pytest.raises(StorageError, match=r"\d files, 0\.. MB not uploaded for . s: .* cannot be reached"):
            uploader.flush(1.5)


def test_after_the_lease_is_lost_nothing_is_uploaded(
    run: SpooledRun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Lease) -> None:
        raise RunError("run a is being trained by somebody else")

    with sending(run, store) as uploader:
        uploader.flush(10)
        before = stored(store)
        monkeypatch.setattr(Lease, "check", fail)
        run.snapshot(10)
        with pytest.raises(RunError, match="somebody else"):
            uploader.flush(10)
    assert stored(store) == before


def test_a_checkpoint_that_is_damaged_on_the_disk_is_not_uploaded(
    run: SpooledRun, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run.snapshot(10)
    damaged = run.dir.checkpoints_dir / "step-000010.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with caplog.at_level(logging.ERROR), sending(run, store) as uploader:
        run.snapshot(20)
        uploader.flush(10)
    assert "step-000010.safetensors does not have the SHA-256 in its sidecar" in caplog.text
    assert {name for name in stored(store) if name.endswith(".safetensors")} == {"checkpoints/step-000020.safetensors"}


def test_what_an_earlier_holder_has_sent_is_copied_by_the_server(tmp_path: Path, store: Store, proxy: TcpProxy) -> None:
    run = SpooledRun(tmp_path / "large", num_weights=250_000)  # 1 MB
    run.snapshot(10)
    with sending(run, store) as uploader:
        uploader.flush(10)
    first, before = newest_version(StoredRun(store, "a")), proxy.bytes_sent
    with sending(run, store) as uploader:
        uploader.flush(10)
    assert stored(store) == spooled(run.dir.path)
    assert proxy.bytes_sent - before < 100_000
    assert {info.key for info in first.files()} == set(stored(store))  # nobody but its writer changes it


def test_the_requests_of_a_snapshot(run: SpooledRun, store: Store, proxy: TcpProxy) -> None:
    with sending(run, store) as uploader:
        for step in range(10, 60, 10):
            run.snapshot(step)
            proxy.requests.clear()
            uploader.flush(10)
    kinds = Counter(line.split()[0] for line in proxy.requests if "/leases/" not in line)
    assert kinds == {"HEAD": 4, "PUT": 4, "DELETE": 2}  # grid, metrics, checkpoint and sidecar; a pruned pair


def test_old_grids_and_pieces_are_not_looked_at_again(run: SpooledRun, store: Store) -> None:
    with sending(run, store) as uploader:
        for step in range(10, 60, 10):
            run.snapshot(step)
            uploader.flush(10)
        names = list(uploader._names())
    assert not [name for name in names if name.startswith(("grids/", "journal/"))]


def test_the_bytes_that_are_sent(tmp_path: Path, store: Store, proxy: TcpProxy) -> None:
    run = SpooledRun(tmp_path / "large", num_weights=250_000)  # 1 MB
    with sending(run, store) as uploader:
        for step in range(10, 110, 10):
            run.snapshot(step)
            uploader.flush(20)
    assert run.num_bytes < proxy.bytes_sent < 1.05 * run.num_bytes


def test_an_error_that_nobody_has_foreseen_ends_no_upload(
    run: SpooledRun, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    update = Uploader._update_pending
    failures = iter([KeyError("a"), KeyError("b")])

    def fail_twice(uploader: Uploader) -> None:
        for failure in failures:
            raise failure
        update(uploader)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Uploader, "_update_pending", fail_twice)
    monkeypatch.setattr(sync_uploader, "FIRST_DELAY_SECONDS", 0.05)
    with sending(run, store) as uploader:
        run.snapshot(10)
        uploader.flush(10)
        assert stored(store) == spooled(run.dir.path)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "training continues: unexpected: KeyError: 'a'. The traceback is in " in warning
