"""Is a run whole after its holder was frozen or killed, whatever that holder still does?"""

import signal
import time
from pathlib import Path

import pytest

from gan.errors import RunError
from gan.registry.prune import prune
from gan.runs import layout
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync import resume
from gan.sync.lease import Lease, Timing, hold
from gan.sync.listing import list_runs
from gan.sync.publish import publish
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from gan.sync.verification import verify
from tests.support.forked import Forked
from tests.support.publishers import publish_request_by_request
from tests.support.publishing import files_of, newest_version
from tests.support.s3_server import S3Server, new_address
from tests.support.small_run import tree, write_run
from tests.support.spooled_run import SpooledRun, spooled


@pytest.fixture
def store(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    seaweedfs.use(monkeypatch)
    return open_store(new_address())


def take(run: StoredRun) -> Lease:
    """Take the lease of a run that was not renewed for 2 s, and keep it for a minute."""
    lease = Lease(run, Timing(60, 2))
    deadline = time.monotonic() + 30
    while True:
        try:
            lease.acquire()
            return lease
        except RunError:  # the frozen process is seen to be alive until the lease expires
            assert time.monotonic() < deadline
            time.sleep(0.2)


def stored(store: Store) -> dict[str, bytes]:
    return {info.key.removeprefix("runs/a/"): store.read(info.key) or b"" for info in store.list("runs/a/")}


@pytest.mark.parametrize("frozen_at", ["put attempts", "put_new attempts", "copy attempts", "put_new runs", "delete"])
def test_a_publisher_that_was_frozen_does_not_change_what_another_has_published(
    tmp_path: Path, store: Store, frozen_at: str
) -> None:
    run = StoredRun(store, "a")
    ours, theirs = write_run(tmp_path / "ours"), write_run(tmp_path / "theirs")
    (theirs / "report/index.html").write_text("<!doctype html><title>of another machine</title>")
    with Forked(publish_request_by_request, theirs, store.address) as process:
        while not (request := process.hear()).startswith(frozen_at):
            assert not request.startswith("ended"), request
            process.say()
        process.send_signal(signal.SIGSTOP)
        publish(ours, take(run))
        before = stored(store)
        process.send_signal(signal.SIGCONT)
        process.say()
        while not (ended := process.hear()).startswith("ended"):
            process.say()

    assert "run a was taken over by process" in ended
    assert stored(store) == before == tree(ours)
    assert verify(run).problems == []
    had_committed = frozen_at in ("copy attempts", "put_new runs", "delete")
    assert (b"of another machine" in stored(store)["report/index.html"]) == had_committed


@pytest.mark.parametrize("num_copied", [0, 5, 10])
def test_the_next_holder_finishes_what_a_killed_one_has_committed(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, num_copied: int
) -> None:
    run, copied = StoredRun(store, "a"), []
    copy = type(store).copy

    def die(self: Store, source: str, target: str, sha256: str) -> bool:
        if len(copied) == num_copied:
            raise KeyboardInterrupt
        copied.append(target)
        return copy(self, source, target, sha256)

    monkeypatch.setattr(type(store), "copy", die)
    with pytest.raises(KeyboardInterrupt), hold(run) as first:
        publish(write_run(tmp_path / "first"), first)
    monkeypatch.undo()
    assert run.manifest() is None
    with hold(run) as second:
        resume.fetch_run(second, tmp_path / "second")
    assert stored(store) == tree(tmp_path / "second")
    assert verify(run).problems == []


def test_a_request_that_arrives_late_harms_nobody_and_is_pruned(tmp_path: Path, store: Store) -> None:
    run = StoredRun(store, "a")
    with hold(run) as first:
        late = first.own.key("grids/step-000900.png")
    with hold(run) as second:
        publish(write_run(tmp_path / "run"), second)
    store.put_new(late, b"sent before the take-over")
    assert verify(run).problems == []
    assert [(info.run_id, info.state) for info in list_runs(store)] == [("a", "published")]
    prune(store, "a")
    assert list(store.list("")) == []


def test_a_damaged_version_is_left_for_the_one_before(tmp_path: Path) -> None:
    run = StoredRun(LocalStore(tmp_path / "store"), "a")
    spool = SpooledRun(tmp_path / "elsewhere" / "a")
    for step in (10, 20):
        spool.snapshot(step)
        with hold(run) as lease, uploading(spool.dir.path, lease) as uploader:
            uploader.flush(30)
    for name in [name for name in files_of(run) if name.endswith(".safetensors")]:
        path = tmp_path / "store" / newest_version(run).key(name)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with hold(run) as lease:
        resume.fetch_run(lease, tmp_path / "b" / "a")
    assert layout.checkpoint_steps_in(tmp_path / "b" / "a") == [10]


def test_what_was_discarded_is_not_resumed_from(tmp_path: Path) -> None:
    run = StoredRun(LocalStore(tmp_path / "store"), "a")
    spool = SpooledRun(tmp_path / "elsewhere" / "a")
    spool.snapshot(10)
    with hold(run) as lease, uploading(spool.dir.path, lease) as uploader:
        uploader.flush(30)
    with hold(run) as lease:
        lease.begin_anew()
    with hold(run) as lease:
        resume.fetch_run(lease, tmp_path / "b" / "a")
        assert not (tmp_path / "b").exists()
        resume.fetch_run(lease, tmp_path / "b" / "a", from_scratch=True)
    assert sorted(tree(tmp_path / "b" / "a")) == ["config.json", "provenance.json", "reals.png"]


def test_files_that_an_older_version_has_sent_are_resumed_from(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    spool = SpooledRun(tmp_path / "elsewhere" / "a")
    spool.snapshot(10)
    for name, content in spooled(spool.dir.path).items():
        store.put_new(f"runs/a/{name}", content)
    with hold(StoredRun(store, "a")) as lease:
        resume.fetch_run(lease, tmp_path / "b" / "a")
        assert spooled(tmp_path / "b" / "a") == spooled(spool.dir.path)
        publish(tmp_path / "b" / "a", lease)
    assert verify(StoredRun(store, "a")).problems == []
