"""Is one run published whole, and no champion lost, where several publish, promote, roll back and prune at once?

50 rounds in a folder and 3 in a bucket; with FAULTS=long 1,000 and 200.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from gan.files import atomic_write
from gan.registry import champion
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.lease import Lease
from tests.support.contention import contend, faults_after, prepare
from tests.support.fault_form import num
from tests.support.s3_server import SERVERS, new_address

pytestmark = pytest.mark.faults
NUM_LOCAL, NUM_S3 = num(50, 1000), num(3, 200)
NUM_CONTROL = 100  # at most: a control ends at the first round that shows the fault


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def rounds(num_rounds: int, open_new: Callable[[int], Callable[[], Store]], folder: Path) -> Iterator[list[str]]:
    """Yield what is wrong after each round, in a new store."""
    rng = Random(7)
    for number in range(num_rounds):
        open_it = open_new(number)
        prepare(open_it())
        done = contend(open_it, folder / "runs", rng)
        assert done.published
        yield faults_after(open_it(), done)
        shutil.rmtree(folder / "runs")


def in_folders(folder: Path) -> Callable[[int], Callable[[], Store]]:
    return lambda number: lambda: LocalStore(folder / f"store-{number}")


def test_in_a_folder_one_wins_and_no_champion_is_lost(tmp_path: Path) -> None:
    for number, found in enumerate(rounds(NUM_LOCAL, in_folders(tmp_path), tmp_path)):
        assert found == [], number
        shutil.rmtree(tmp_path / f"store-{number}")


@pytest.mark.parametrize("server", SERVERS)
def test_in_a_bucket_one_wins_and_no_champion_is_lost(
    tmp_path: Path, server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue(server).use(monkeypatch)

    def open_new(number: int) -> Callable[[], Store]:
        address = new_address()
        return lambda: open_store(address)

    for number, found in enumerate(rounds(NUM_S3, open_new, tmp_path)):
        assert found == [], number


def test_without_the_lease_damaged_runs_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "own", property(lambda lease: lease.run))
    for name in ("acquire", "check", "_renew", "_release"):
        monkeypatch.setattr(Lease, name, lambda lease: None)
    monkeypatch.setattr(Lease, "_write", lambda lease, me: None)
    assert any(rounds(NUM_CONTROL, in_folders(tmp_path), tmp_path))


def test_without_compare_and_swap_lost_champions_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(store: LocalStore, key: str, data: bytes, version: str | None, idle: bytes) -> str:
        time.sleep(0.1)  # longer than the actors begin apart, so that several have read the same version
        return atomic_write(store.root / key, data)

    monkeypatch.setattr(champion, "swap", write)
    found = rounds(NUM_CONTROL, in_folders(tmp_path), tmp_path)
    assert any("changes of the champion were lost" in str(each) for each in found)
