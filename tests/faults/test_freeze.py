"""Does a holder that was frozen, taken over and thawed write nothing more to the run, wherever it was frozen?

One freeze at 4 stages of a run's life; FAULTS=long freezes four times at each of the 12 stages.
"""

import signal
from pathlib import Path

import pytest

from gan.registry.champion import read_champion
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.lease import Lease
from gan.sync.stored_run import ATTEMPTS, StoredRun
from gan.sync.verification import verify
from tests.support.fault_form import IS_LONG, num
from tests.support.gate import asks
from tests.support.life import RUN_ID, Machine, Patch
from tests.support.s3_server import S3Server, new_address
from tests.support.stages import STAGES, TRAINED, Stage, send_begun, stopped_at, write_begun

pytestmark = pytest.mark.faults
SHORT = ("train", "report", "publish-copy", "promote")
FROZEN = [stage for stage in STAGES if IS_LONG or stage.name in SHORT]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_begun(tmp_path_factory.mktemp("begun") / RUN_ID)


@pytest.fixture
def address(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, begun: Path) -> str:
    """Return a store with the first steps of a run."""
    seaweedfs.use(monkeypatch)
    address = new_address()
    send_begun(begun, address)
    return address


def live_objects(store: Store) -> dict[str, tuple[int, str, bytes]]:
    """Return all that a manifest, a lease or the champion names: what is not a holder's own."""
    return {
        info.key: (info.size, str(info.modified), store.read(info.key) or b"")
        for info in store.list("")
        if not info.key.startswith(ATTEMPTS)
    }


def frozen_and_thawed(
    stage: Stage, server: S3Server, folder: Path, address: str, patch: Patch | None = None
) -> tuple[list[str], bool, str]:
    """Freeze a life at a stage, let another machine end the run, and thaw.

    Return what the first one has then written, whether anything of the run has changed, and the log of the first one.
    """
    store = open_store(address)
    with stopped_at(stage, server, folder / "first", address, patch) as (first, gate):
        first.send(signal.SIGSTOP)
        first.wait_until_frozen()
        second = Machine(folder / "second", server.environment()).live(address)
        assert second.ended() == 0, second.log
        before, after_place = live_objects(store), len(gate.answered)
        gate.open.set()
        first.send(signal.SIGCONT)
        first.ended(60)
        return gate.writes(own=f"/{ATTEMPTS}", after=after_place), live_objects(store) != before, first.log


@pytest.mark.parametrize("number", range(num(1, 4)))
@pytest.mark.parametrize("stage", FROZEN, ids=str)
def test_a_frozen_holder_writes_nothing_after_it_was_taken_over(
    tmp_path: Path, seaweedfs: S3Server, address: str, stage: Stage, number: int
) -> None:
    written, has_changed, log = frozen_and_thawed(stage, seaweedfs, tmp_path, address)
    assert (written, has_changed) == ([], False)
    assert "run a was taken over by process" in log
    run = StoredRun(open_store(address), RUN_ID)
    assert verify(run).problems == []
    assert [change.run_id for change in read_champion(run.store).history.history] == [RUN_ID]


def write_to_the_keys_of_the_run() -> None:
    """Take the epoch away: holders write where everybody reads."""
    Lease.own = property(lambda lease: lease.run)  # type: ignore[method-assign, assignment]


def end_the_lease_before_publishing() -> None:
    """Publish as versions before the fence did: the lease has ended, and nothing says that it is another's."""
    write_to_the_keys_of_the_run()
    Lease.check = lambda lease: None  # type: ignore[method-assign]
    Lease._write = lambda lease, me: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("name", "wanted", "patch"),
    [
        ("train", f"/runs/a/checkpoints/step-{TRAINED:06d}.safetensors", write_to_the_keys_of_the_run),
        ("publish-send", "/runs/a/report/index.html", end_the_lease_before_publishing),
    ],
)
def test_without_the_fence_a_frozen_holder_is_seen_to_write(
    tmp_path: Path, seaweedfs: S3Server, address: str, name: str, wanted: str, patch: Patch
) -> None:
    stage = Stage(name, asks("PUT", wanted))
    written, _, log = frozen_and_thawed(stage, seaweedfs, tmp_path, address, patch)
    assert any(f"{wanted}: 200" in line for line in written), log
