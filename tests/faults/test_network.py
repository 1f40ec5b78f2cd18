"""Is a run in a bucket whole, and nothing left over, after the network or the store failed anywhere in a publication?

Each kind of fault strikes at every 6th request, and at 8 byte offsets; with FAULTS=long at every request. A process is
killed between two parts of a file 3 times, with FAULTS=long 50 times.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gan.errors import GanError
from gan.registry.prune import prune
from gan.runs import layout
from gan.runs.manifest import Manifest
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.s3 import S3Store
from gan.sync import publish as publishing
from gan.sync.holder import lease_key
from gan.sync.lease import Lease, hold
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.fault_form import num
from tests.support.gate import Gate, asks
from tests.support.life import Machine, Quick
from tests.support.quirk_proxy import Answer, Forward, Quirk, QuirkProxy, Request, plain, quirky
from tests.support.s3_server import BUCKET, S3Server, admin_client, new_address
from tests.support.tcp_proxy import proxy_to

pytestmark = pytest.mark.faults
TIMING = Quick(heartbeat_seconds=10, expiry_seconds=2)  # no heartbeat comes between the requests of a publication
PART = 5 << 20  # the smallest part of S3
FILES = {
    "config.json": b'{"version": 1, "recipe": "tuned", "num_steps": 1000}\n',
    "losses.npz": b"losses" * 50_000,
    "grids/step-001000.png": b"\x89PNG",
    "report/index.html": b"<!doctype html><title>run</title>",
}


@pytest.fixture(autouse=True)
def _one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each fault be felt: boto3 would try again, after seconds."""
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)


@pytest.fixture
def proxy(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[QuirkProxy]:
    with quirky(seaweedfs, plain) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        yield proxy


def write_files(path: Path) -> Path:
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def publish(run_path: Path, run: StoredRun) -> None:
    with hold(run, TIMING) as lease:
        publishing.publish(run_path, lease)


def cut(request: Request, forward: Forward) -> Answer:
    raise ConnectionError


def lose(request: Request, forward: Forward) -> Answer:
    forward(request)
    raise ConnectionError


def throttle(request: Request, forward: Forward) -> Answer:
    return Answer(503, {"Content-Type": "application/xml"}, b"<Error><Code>SlowDown</Code></Error>")


def fail(request: Request, forward: Forward) -> Answer:
    return Answer(500, {"Content-Type": "application/xml"}, b"<Error><Code>InternalError</Code></Error>")


def flip(request: Request, forward: Forward) -> Answer:
    """Flip a bit of what is sent, or of what is answered."""
    if request.body:
        return forward(replace(request, body=flipped(request.body)))
    answer = forward(request)
    return replace(answer, body=flipped(answer.body))


def break_off(request: Request, forward: Forward) -> Answer:
    """Answer with half a body."""
    answer = forward(request)
    return replace(
        answer.with_header("Content-Length", str(len(answer.body))), body=answer.body[: len(answer.body) // 2]
    )


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 1 for byte in content[middle : middle + 1]) + content[middle + 1 :]


def at(number: int, fault: Quirk) -> Quirk:
    """Let the fault strike at one request, counted from 1."""
    seen: list[Request] = []

    def quirk(request: Request, forward: Forward) -> Answer:
        seen.append(request)
        return fault(request, forward) if len(seen) == number else forward(request)

    return quirk


def left_over(server: S3Server, store: Store) -> list[str]:
    """List the open uploads of a store, and the keys that nothing names."""
    manifest = StoredRun(store, "a").manifest()
    named = {f"runs/a/{name}" for name in (*manifest.files, layout.MANIFEST)} if manifest else set()
    keys = [info.key for info in store.list("") if info.key not in named | {lease_key("a")}]
    prefix = store.address.removeprefix(f"s3://{BUCKET}/")
    uploads = admin_client(server).list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    return keys + [each["Key"] for each in uploads if each["Key"].startswith(prefix)]


def check_whole(server: S3Server, store: Store, run_path: Path) -> None:
    """Check that what is committed verifies, that the next publication ends, and that prune leaves nothing."""
    run = StoredRun(store, "a")
    if run.manifest():
        assert verify(run).problems == []
    publish(run_path, run)
    assert verify(run).problems == []
    assert left_over(server, store) == []
    prune(store, "a")
    assert list(store.list("")) == [] == left_over(server, store)


def strike(run_path: Path, store: Store) -> bool:
    """Publish, and return whether the fault was felt: then it is an error of ours."""
    try:
        publish(run_path, StoredRun(store, "a"))
    except GanError:
        return True
    return False


@pytest.mark.parametrize("fault", [cut, lose, throttle, fail, flip, break_off])
def test_a_fault_at_a_request_leaves_a_whole_run(
    tmp_path: Path, seaweedfs: S3Server, proxy: QuirkProxy, fault: Quirk
) -> None:
    publish(write_files(tmp_path / "first"), StoredRun(open_store(new_address()), "a"))
    numbers = range(1, len(proxy.requests) + 1, num(6, 1))
    num_felt = 0
    for number in numbers:
        run_path, store = write_files(tmp_path / str(number)), open_store(new_address())
        proxy.quirk = at(number, fault)
        num_felt += strike(run_path, store)
        proxy.quirk = plain
        check_whole(seaweedfs, store, run_path)
    assert num_felt


@pytest.mark.parametrize("eighth", range(8))
def test_a_connection_that_is_cut_at_a_byte_leaves_a_whole_run(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, eighth: int
) -> None:
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        publish(write_files(tmp_path / "first"), StoredRun(open_store(new_address()), "a"))
        total = proxy.bytes_sent
        run_path, store = write_files(tmp_path / "run"), open_store(new_address())
        proxy.cut_sent_at = total + total * (2 * eighth + 1) // 16
        strike(run_path, store)
        assert proxy.cut_sent_at is None
        check_whole(seaweedfs, store, run_path)


def test_a_store_of_1_kib_a_second_gets_the_whole_run(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_bytes(FILES["config.json"])
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        run = StoredRun(open_store(new_address()), "a")
        proxy.bytes_per_second = num(16 << 10, 1 << 10)
        publish(tmp_path / "run", run)
        proxy.bytes_per_second = None
        check_whole(seaweedfs, run.store, tmp_path / "run")


def publish_in_parts(run_path: Path, address: str, folder: str) -> None:
    """Publish, with the lock of the lease in a folder where the next process sees that this one is dead."""
    os.environ["TMPDIR"] = folder
    publish(run_path, StoredRun(S3Store(BUCKET, address.removeprefix(f"s3://{BUCKET}/"), part_bytes=PART), "a"))


def test_a_process_that_was_killed_between_two_parts_leaves_nothing(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MinIO does not list the parts below a prefix, so that they stay there for a day."""
    seaweedfs.use(monkeypatch)
    run_path = write_files(tmp_path / "run")
    (run_path / "large").write_bytes(b"w" * (2 * PART + 1))
    for number in range(num(3, 50)):
        address, gate = new_address(), Gate(asks("PUT", "/large"))
        with quirky(seaweedfs, gate) as proxy:
            machine = Machine(tmp_path / str(number), seaweedfs.environment(proxy.url))
            killed = machine.start(publish_in_parts, run_path, address, os.environ.get("TMPDIR", "/tmp"))
            assert gate.reached.wait(60), killed.log
            killed.kill()
            gate.open.set()
        store = open_store(address)
        assert any(key.endswith("/large") for key in left_over(seaweedfs, store))
        check_whole(seaweedfs, store, run_path)
        (run_path / layout.MANIFEST).unlink()


def test_without_the_manifest_last_a_run_that_does_not_verify_is_seen(
    tmp_path: Path, seaweedfs: S3Server, proxy: QuirkProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_committed = publishing._copy_committed

    def manifest_first(lease: Lease) -> Manifest:
        assert lease.committed
        source = lease.run.written_by(lease.committed.token)
        lease.run.store.put_new(lease.run.key(layout.MANIFEST), source.read(layout.MANIFEST) or b"")
        return copy_committed(lease)

    monkeypatch.setattr(publishing, "_copy_committed", manifest_first)
    with pytest.raises(AssertionError):
        test_a_fault_at_a_request_leaves_a_whole_run(tmp_path, seaweedfs, proxy, cut)


def test_without_its_sha256_a_flipped_byte_is_stored_and_seen(
    tmp_path: Path, seaweedfs: S3Server, proxy: QuirkProxy
) -> None:
    def unseen(request: Request, forward: Forward) -> Answer:
        if request.method != "PUT" or not request.target.endswith("/losses.npz") or not request.body:
            return forward(request)
        unchecked = request.without("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm", "Content-MD5")
        return forward(replace(unchecked, body=flipped(request.body)))

    proxy.quirk = unseen
    run = StoredRun(open_store(new_address()), "a")
    publish(write_files(tmp_path / "run"), run)
    assert [problem.file for problem in verify(run).problems] == ["losses.npz"]


def test_without_the_sweep_parts_are_seen_to_stay(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StoredRun, "sweep", lambda run: None)
    with pytest.raises(AssertionError):
        test_a_process_that_was_killed_between_two_parts_leaves_nothing(tmp_path, seaweedfs, monkeypatch)
