"""Is champion.json changed by one process at a time, is its history complete, and are the promoted bytes served?"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from gan.data.mnist import FILES as FILES_OF_MNIST
from gan.errors import ChecksumError, DataError, RunError, StorageError
from gan.registry.champion import (
    append,
    champion_checkpoint,
    me,
    read_champion,
    rollback,
)
from gan.registry.champions import find_champion
from gan.registry.promotion import promote
from gan.runs.provenance import Provenance
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from tests.support.challengers import by_figures, challenger_at
from tests.support.publishing import publish
from tests.support.s3_server import SERVERS, new_address
from tests.support.small_run import CHECKPOINTS, FILES, write_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store")


def promote_runs(store: Store, *run_ids: str) -> None:
    """Add runs to the store, each better than all before, and promote them."""
    for run_id in run_ids:
        store.put_new(f"runs/{run_id}/manifest.json", b"{}")
        better = challenger_at(run_id, 100.0 - 10 * len(read_champion(store).history.history))
        assert promote(store, better, by_figures(better), "me@here").outcome == "promoted"


def run_ids(store: Store) -> list[str]:
    return [change.run_id for change in read_champion(store).history.history]


def current(store: Store) -> str | None:
    change = read_champion(store).history.current
    return change.run_id if change else None


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("num_rounds", [50, pytest.param(200, marks=pytest.mark.kill)])
def test_of_two_concurrent_trainers_one_is_promoted_in_each_round(
    num_rounds: int, server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request.getfixturevalue(server).use(monkeypatch)
    address = new_address()
    stores = [open_store(address), open_store(address)]
    barrier = Barrier(2, timeout=60)

    def train(trainer: int) -> list[str]:
        won = []
        for number in range(num_rounds):
            challenger = challenger_at(f"{number}-{trainer}", 1000.0 - 2 * number)
            barrier.wait()
            if promote(stores[trainer], challenger, by_figures(challenger), f"trainer {trainer}").outcome == "promoted":
                won.append(challenger.run_id)
        return won

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(train, range(2))
    history = read_champion(stores[0]).history.history
    assert [change.run_id for change in history] == sorted(first + second, key=lambda run_id: int(run_id.split("-")[0]))
    assert [int(change.run_id.split("-")[0]) for change in history] == list(range(num_rounds))
    assert {change.by[-1] for change in history} == {change.run_id[-1] for change in history} == {"0", "1"}
    assert [change.comparison is None for change in history] == [True] + [False] * (num_rounds - 1)


def test_the_history_has_the_person_the_time_the_reason_and_the_metrics(store: Store) -> None:
    promote_runs(store, "a", "b")
    first, second = read_champion(store).history.history
    assert (first.action, first.by, first.run_id, first.checkpoint) == ("promoted", "me@here", "a", CHECKPOINTS[1])
    assert (first.reason, first.comparison) == ("it is the first one", None)
    assert second.reason == (
        "distance 90.00 against 100.00, -10.00 ± 0.50: better by more than the noise at an error rate of 1%; "
        "classes covered 10 against 10"
    )
    assert second.comparison and second.comparison.judge == second.evaluation.judge
    assert second.evaluation.distance.value == 90 and second.time.endswith("+00:00")
    assert str(second) == f"{second.time}  promoted  b step 2000  by me@here: {second.reason}"
    assert "@" in me()


def test_a_rollback_goes_to_the_champion_before_and_then_further_back(store: Store) -> None:
    promote_runs(store, "a", "b", "c")
    change = rollback(store, "me@here", "its eights look like threes")
    assert (change.action, change.run_id, change.reason) == ("rolled back", "b", "its eights look like threes")
    assert rollback(store, "me@here", "").run_id == "a"
    assert run_ids(store) == ["a", "b", "c", "b", "a"]
    with pytest.raises(RunError, match="no champion before the present one. `gan champion history .*` shows them"):
        rollback(store, "me@here", "")
    promote_runs(store, "d", "e")
    assert rollback(store, "me@here", "").run_id == "d"
    assert rollback(store, "me@here", "").run_id == "a"


def test_a_champion_that_was_pruned_is_not_rolled_back_to(store: Store) -> None:
    promote_runs(store, "a", "b")
    store.delete("runs/a/manifest.json")
    with pytest.raises(RunError, match="was deleted from .* `gan champion promote --force .*/runs/ID` promotes"):
        rollback(store, "me@here", "")
    assert run_ids(store) == ["a", "b"]


def test_a_champion_of_other_data_is_not_rolled_back_to(store: Store) -> None:
    promote_runs(store, "a", "b")  # an older version promoted runs of any data
    found = Provenance.now("a", "cpu", {"torch": "2"}, {file.name: "1" * 64 for file in FILES_OF_MNIST})
    store.put_new("runs/a/provenance.json", found.model_dump_json().encode())
    with pytest.raises(DataError, match=r"runs/a was not trained on MNIST: .* Promote another run: gan champion"):
        rollback(store, "me@here", "")
    assert run_ids(store) == ["a", "b"]


def test_the_second_of_two_concurrent_changes_is_not_made(store: Store) -> None:
    promote_runs(store, "a")
    found = read_champion(store)
    promote_runs(store, "b")
    late = found.history.history[0].model_copy(update={"id": "another", "run_id": "c"})
    assert not append(store, found, late)
    assert run_ids(store) == ["a", "b"]


class ForgetfulStore(LocalStore):
    """A store that writes, but whose answer is lost."""

    def replace(self, key: str, data: bytes, version: str | None) -> str | None:
        super().replace(key, data, version)
        return None


def test_a_change_whose_answer_is_lost_is_made_once(tmp_path: Path) -> None:
    promote_runs(ForgetfulStore(tmp_path), "a", "b")
    assert run_ids(LocalStore(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "Invalid JSON"),
        (b'{"version": 2, "history": []}', "version: Input should be 1"),
        (b'{"version": 1, "history": [], "extra": 1}', "extra: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_file_is_not_overwritten(store: Store, raw: bytes, said: str) -> None:
    store.put_new("champion.json", raw)
    with pytest.raises(StorageError, match=rf"champion\.json in .* is damaged, .*{said}.* Restore it from a copy"):
        promote_runs(store, "a")
    assert store.read("champion.json") == raw


def test_a_run_id_that_leaves_the_store_is_refused(store: Store) -> None:
    promote_runs(store, "a")
    raw = store.read("champion.json") or b""
    store.delete("champion.json")
    store.put_new("champion.json", raw.replace(b'"a"', b'"../a"'))
    with pytest.raises(StorageError, match="cannot name a file of a run"):
        read_champion(store)


@pytest.fixture
def served(folder_or_bucket: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Publish a run, and make it the champion; the store may be a bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = folder_or_bucket
    publish(write_run(tmp_path / "run"), StoredRun(store, "a"))
    published = replace(challenger_at("a", 9.0), sha256=hashlib.sha256(FILES[CHECKPOINTS[1]]).hexdigest())
    promote(store, published, by_figures(published), "me@here")
    return store


def test_the_champion_is_found_by_the_address_of_its_store(served: Store) -> None:
    found = find_champion(f"{served.address}/champion")
    assert found
    path = champion_checkpoint(*found)
    assert path.read_bytes() == FILES[CHECKPOINTS[1]] and path.with_name(path.name + ".sha256").exists()


def test_other_bytes_under_the_champions_name_are_not_served(served: Store, tmp_path: Path) -> None:
    for key in [info.key for info in served.list("runs/a/")]:
        served.delete(key)
    run = write_run(tmp_path / "other")
    (run / CHECKPOINTS[1]).write_bytes(b"other weights")
    (run / f"{CHECKPOINTS[1]}.sha256").write_text(hashlib.sha256(b"other weights").hexdigest() + "  step\n")
    publish(run, StoredRun(served, "a"))
    found = find_champion(f"{served.address}/champion")
    assert found
    with pytest.raises(ChecksumError, match="is not the champion that was promoted: SHA-256 expected"):
        champion_checkpoint(*found)


def test_a_champion_that_was_deleted_is_named(served: Store) -> None:
    for key in [info.key for info in served.list("runs/a/")]:
        served.delete(key)
    found = find_champion(f"{served.address}/champion")
    assert found
    with pytest.raises(StorageError, match=r"runs/a"):
        champion_checkpoint(*found)


def test_which_addresses_name_a_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    promote_runs(LocalStore(Path("store")), "a")
    found = find_champion("champion")
    assert found and (found[0].address, found[1].run_id) == ("store", "a")
    for address in ("store/runs/a", "store/runs/champion", "s3://bucket/runs/champion", "champion/checkpoints"):
        assert find_champion(address) is None
    (tmp_path / "champion").mkdir()
    assert find_champion("champion") is None
    with pytest.raises(StorageError, match="other has no champion yet. `gan-train` promotes the first run"):
        find_champion("other/champion")
