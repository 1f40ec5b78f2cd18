"""Is a run trained by one process at a time on all machines, and by another one after that process was killed?"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gan.errors import RunError, StorageError, TakenOverError
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync import lease
from gan.sync.holder import Holder, lease_key, next_holder
from gan.sync.lease import Timing, hold, live_holder
from gan.sync.stored_run import StoredRun
from tests.support.s3_server import S3Server, new_address
from tests.support.tcp_proxy import proxy_to

QUICK = Timing(heartbeat_seconds=0.2, expiry_seconds=1.5)
HOLDER = """
import sys, time
from gan.sync.lease import Timing, hold
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun

with hold(StoredRun(open_store(sys.argv[1]), "a"), Timing(0.2, 1.5)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(s3: S3Server) -> Store:
    return open_store(new_address())


def read(store: Store) -> Holder:
    return Holder.model_validate_json(store.read(lease_key("a")) or b"")


def start_holder(store: Store) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, store.address], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def write_as(store: Store, **changes: object) -> Holder:
    """Write the lease of a holder on another machine."""
    other = next_holder("a").model_copy(update={"host": "elsewhere", **changes})
    found = store.read_versioned(lease_key("a"))
    assert store.replace(lease_key("a"), other.model_dump_json().encode(), found.version if found else None)
    return other


def test_a_lease_is_held_renewed_and_released(store: Store) -> None:
    with hold(StoredRun(store, "a"), QUICK) as held:
        first = read(store)
        time.sleep(2)  # longer than it takes to expire
        assert live_holder(StoredRun(store, "a"), QUICK) is not None
        assert read(store).beats > first.beats and read(store).token == first.token
        held.check()
    assert read(store).released
    assert live_holder(StoredRun(store, "a"), QUICK) is None
    with hold(StoredRun(store, "a"), QUICK):
        assert read(store).token != first.token


def test_a_second_process_gets_an_error_that_names_the_first(store: Store) -> None:
    with start_holder(store) as first:
        began = time.monotonic()
        with pytest.raises(RunError, match=rf"run a is being trained by process {first.pid} on .*, since 20"):
            hold(StoredRun(store, "a"), QUICK).__enter__()
        assert time.monotonic() - began < QUICK.expiry_seconds
        first.kill()


def test_after_a_kill_on_this_machine_the_next_process_does_not_wait(store: Store) -> None:
    with start_holder(store) as first:
        first.kill()  # a zombie until the block ends
        time.sleep(0.1)
        began = time.monotonic()
        with hold(StoredRun(store, "a"), Timing(20, 60)):
            assert time.monotonic() - began < 5


def test_after_a_kill_on_another_machine_the_lease_expires(store: Store) -> None:
    write_as(store)
    assert live_holder(StoredRun(store, "a"), QUICK) is not None
    with hold(StoredRun(store, "a"), QUICK) as held:
        assert read(store).host != "elsewhere"
        held.check()


def test_a_heartbeat_from_another_machine_ends_the_waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_as(store)
    monkeypatch.setattr(lease.time, "sleep", lambda _: write_as(store, beats=1))
    with pytest.raises(RunError, match="run a is being trained by process .* on elsewhere"):
        hold(StoredRun(store, "a"), Timing(4, 60)).__enter__()


def test_a_holder_that_lost_its_lease_stops_and_does_not_take_it_back(store: Store) -> None:
    with hold(StoredRun(store, "a"), QUICK) as held:
        other = write_as(store)
        deadline = time.monotonic() + 10
        while not held.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(TakenOverError, match="run a was taken over by process .* on elsewhere"):
            held.check()
    assert read(store) == other


def test_a_lease_is_still_held_after_the_store_was_unreachable(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        store = open_store(new_address())
        with hold(StoredRun(store, "a"), QUICK) as held:
            proxy.refuse()
            time.sleep(1)
            proxy.accept()
            beats = read(store).beats
            deadline = time.monotonic() + 20
            while read(store).beats == beats and time.monotonic() < deadline:
                time.sleep(0.1)
            assert read(store).beats > beats
            held.check()


def test_a_lease_that_could_not_be_released_is_taken_at_once_on_the_same_machine(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        run = StoredRun(open_store(new_address()), "a")
        monkeypatch.setattr(lease, "RELEASE_SECONDS", 0.1)
        with hold(run, Timing(20, 60)):
            proxy.refuse()
        proxy.accept()
        began = time.monotonic()
        with hold(run, Timing(20, 60)):
            assert time.monotonic() - began < 5


def test_a_store_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(StorageError, match=r"leases/a\.json cannot be"):
        hold(StoredRun(open_store(tmp_path / "disk" / "store"), "a")).__enter__()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", json.dumps({"version": 2}).encode(), b"\xff", b"[" * 100_000])
def test_a_damaged_lease_is_named(tmp_path: Path, content: bytes) -> None:
    store = open_store(tmp_path)
    store.put_new(lease_key("a"), content)
    with pytest.raises(StorageError, match=r"leases/a\.json in .* is damaged: "):
        hold(StoredRun(store, "a")).__enter__()
    with pytest.raises(StorageError, match=r"leases/a\.json in .* is damaged"):
        live_holder(StoredRun(store, "a"))


def test_a_lease_of_a_later_version_is_refused_and_not_called_damaged(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put_new(lease_key("a"), b'{"version": 3, "run_id": "a", "epoch": 7}')
    with pytest.raises(
        StorageError, match=r"leases/a\.json in .* has version 3, expected 2: another version of gan-train"
    ):
        hold(StoredRun(store, "a")).__enter__()


OLD = {
    "version": 1, "run_id": "a", "token": "f" * 32, "host": "elsewhere", "pid": 7, "since": "2026-11-01T00:00:00+00:00",
    "machine": "a boot", "process_start": 3, "beats": 4, "released": False,
}  # fmt: skip


def test_a_lease_of_the_version_before_is_respected_and_then_taken(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put_new(lease_key("a"), json.dumps(OLD).encode())
    assert live_holder(StoredRun(store, "a")) is not None
    with hold(StoredRun(store, "a"), QUICK):
        assert (read(store).version, read(store).number) == (2, 1)


def test_holders_are_counted_and_each_has_keys_of_its_own(tmp_path: Path) -> None:
    run = StoredRun(open_store(tmp_path), "a")
    owned = []
    for number in (1, 2, 3):
        with hold(run, QUICK) as held:
            assert held.own.number == number
            owned.append(held.own.prefix)
    assert len(set(owned)) == 3 and all(prefix.startswith("attempts/a/00000") for prefix in owned)


def test_a_holder_stops_by_itself_while_it_cannot_renew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(StoredRun(store, "a"), Timing(60, 60)) as held:
        held.check()
        later = lease._now() + 59
        monkeypatch.setattr(lease, "_now", lambda: later)
        with pytest.raises(StorageError, match="the lease of run a could not be renewed for 58 s"):
            held.check()
        with pytest.raises(StorageError, match="could not be renewed"):
            held.commit("0" * 64)
        held.confirm()
        held.check()
    assert read(store).committed is None


def test_one_of_two_holders_commits(store: Store) -> None:
    run = StoredRun(store, "a")
    with hold(run, Timing(60, 60)) as first:
        found = store.read_versioned(lease_key("a"))
        assert found and store.replace(lease_key("a"), read(store).model_copy(update={"released": True})
                                       .model_dump_json().encode(), found.version)  # fmt: skip
        with hold(run, Timing(60, 60)) as second:
            with pytest.raises(TakenOverError, match="taken over by process"):
                first.commit("1" * 64)
            second.commit("2" * 64)
            assert second.committed and second.committed.sha256 == "2" * 64
    with hold(run) as third:
        assert third.committed == second.committed


def test_a_local_store_has_leases_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with hold(StoredRun(store, "a"), QUICK), pytest.raises(RunError, match="run a is being trained by process"):
        hold(StoredRun(store, "a"), QUICK).__enter__()
    assert read(store).released


def test_a_lease_is_renewed_after_an_error_that_nobody_has_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, failures = StoredRun(LocalStore(tmp_path), "a"), [KeyError("a"), KeyError("b")]
    replace = LocalStore.replace

    def fail_twice(store: LocalStore, key: str, data: bytes, version: str | None) -> str | None:
        if version and failures:
            raise failures.pop()
        return replace(store, key, data, version)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(LocalStore, "replace", fail_twice)
    with hold(run, Timing(0.02, 60.0)):
        while read(run.store).beats < 2:
            time.sleep(0.01)
    assert caplog.text.count("could not be renewed, and this is tried again: unexpected: KeyError: 'b'.") == 1
