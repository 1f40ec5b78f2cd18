"""Are only the right runs deleted, and completely?"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gan.errors import RunError, StorageError
from gan.registry import prune as pruning
from gan.registry.champion import rollback
from gan.registry.promotion import promote
from gan.registry.prune import PruneDecision, parse_age, plan, prune
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.claims import claim
from gan.sync.holder import next_holder
from gan.sync.lease import Lease, hold
from gan.sync.listing import list_runs
from gan.sync.stored_run import StoredRun
from tests.support.challengers import by_figures, challenger_at
from tests.support.s3_server import SERVERS, S3Server, new_address
from tests.support.small_run import tree

OLD = timedelta(days=40)
CONFIG = b'{"version": 1, "recipe": "tuned", "num_steps": 2000}'


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def add_run(store: Store, run_id: str, published: bool = True, days_old: int = 0) -> None:
    names = ["config.json", "grids/step-000001.png", *(["manifest.json"] if published else [])]
    for name in names:
        store.put_new(f"runs/{run_id}/{name}", b"{}")
        if isinstance(store, LocalStore):
            path = store.root / "runs" / run_id / name
            then = path.stat().st_mtime - days_old * 86400
            os.utime(path, (then, then))


def age_all(store: LocalStore) -> None:
    for path in store.root.glob("runs/*/**/*.*"):
        then = path.stat().st_mtime - OLD.total_seconds()
        os.utime(path, (then, then))


def pruned(decisions: list[PruneDecision]) -> list[str]:
    return [decision.run_id for decision in decisions if decision.prune]


@pytest.fixture
def aged(store: LocalStore) -> LocalStore:
    """Make five runs, a the newest; b and d are unfinished."""
    for days_old, run_id in enumerate("abcde"):
        add_run(store, run_id, published=run_id not in "bd", days_old=10 * days_old)
    return store


@pytest.mark.parametrize(
    ("keep_last", "older_than", "gone"),
    [(0, 0, "abcde"), (1, 0, "bcde"), (2, 0, "de"), (3, 0, ""), (1, 25, "de"), (0, 25, "de"), (0, 100, "")],
)
def test_which_runs_are_deleted(aged: LocalStore, keep_last: int, older_than: int, gone: str) -> None:
    before = tree(aged.root)
    assert pruned(plan(aged, keep_last, timedelta(days=older_than))) == list(gone)
    assert tree(aged.root) == before


def test_each_decision_has_its_reason(aged: LocalStore) -> None:
    for run_id, distance in (("e", 30.0), ("c", 20.0)):
        better = challenger_at(run_id, distance)
        promote(aged, better, by_figures(better), "me@here")
    with hold(StoredRun(aged, "d")):
        reasons = {decision.run_id: decision.reason for decision in plan(aged, 1, timedelta(days=5))}
    assert reasons["a"] == "among the last"
    assert reasons["b"] == "not among the last 1 published"
    assert reasons["c"] == reasons["e"] == "a champion, by champion.json"
    assert reasons["d"].startswith(f"being trained by process {os.getpid()} on ")
    assert {decision.run_id: decision.reason for decision in plan(aged, 0, timedelta(days=15))}["b"] == "10.0 days old"


def test_champions_present_and_past_stay_without_the_option(aged: LocalStore) -> None:
    for run_id, distance in (("e", 30.0), ("c", 20.0)):
        better = challenger_at(run_id, distance)
        promote(aged, better, by_figures(better), "me@here")
    rollback(aged, "me@here", "")
    assert pruned(plan(aged, 0)) == ["a", "b", "d"]
    for run_id in "ce":
        with pytest.raises(RunError, match=f"{run_id} has just become a champion by champion.json"):
            prune(aged, run_id)
    assert pruned(plan(aged, 0, champions=True)) == list("abcde")
    prune(aged, "e", champions=True)
    assert [run.run_id for run in list_runs(aged)] == list("abcd")


def test_a_damaged_champion_file_stops_pruning(aged: LocalStore) -> None:
    aged.put_new("champion.json", b"{")
    with pytest.raises(StorageError, match=r"champion\.json in .* is damaged, .* so no run is deleted"):
        plan(aged, 0)


def test_a_damaged_lease_keeps_only_its_own_run(aged: LocalStore) -> None:
    aged.put_new("leases/c.json", b"{")
    assert pruned(plan(aged, 0)) == ["a", "b", "d", "e"]


@pytest.fixture(params=["local", *SERVERS])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path)
    server: S3Server = request.getfixturevalue(request.param)
    server.use(monkeypatch)
    return open_store(new_address())


def test_a_run_is_deleted_completely_and_no_other(any_store: Store) -> None:
    for run_id in ("a", "ab"):
        add_run(any_store, run_id)
        assert claim(StoredRun(any_store, run_id), "crashed")
    prune(any_store, "a")
    assert sorted(info.key for info in any_store.list("")) == [
        "claims/ab/crashed", "runs/ab/config.json", "runs/ab/grids/step-000001.png", "runs/ab/manifest.json",
    ]  # fmt: skip
    prune(any_store, "a")


def test_no_folder_of_a_local_run_remains(store: LocalStore) -> None:
    add_run(store, "a")
    prune(store, "a")
    assert [path.name for path in store.root.iterdir() if any(path.rglob("*"))] == []


def test_the_manifest_is_deleted_first(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(any_store, "a")
    delete = type(any_store).delete

    def break_down(self: Store, key: str) -> None:
        delete(self, key)
        raise StorageError("the store is down")

    monkeypatch.setattr(type(any_store), "delete", break_down)
    with pytest.raises(StorageError):
        prune(any_store, "a")
    monkeypatch.undo()
    assert [(run.run_id, run.state) for run in list_runs(any_store)] == [("a", "unfinished")]


def test_a_run_that_is_being_trained_is_not_deleted(any_store: Store) -> None:
    add_run(any_store, "a")
    with hold(StoredRun(any_store, "a")):
        assert pruned(plan(any_store, 0)) == []
        with pytest.raises(RunError, match="run a is being trained"):
            prune(any_store, "a")
    assert pruned(plan(any_store, 0)) == ["a"]
    assert [run.state for run in list_runs(any_store)] == ["published"]


@pytest.fixture
def trained_in_place(store: LocalStore) -> Iterator[None]:
    """Let another process train a run where it is published, as `gan train --run-dir STORE/runs/a` does."""
    add_run(store, "a")
    command = "import sys; from gan.runs.run_dir import RunDir; from pathlib import Path\n" \
        "with RunDir(Path(sys.argv[1])).locked(): print('locked', flush=True); sys.stdin.read()"  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(store.root / "runs/a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline() == b"locked\n"
    yield
    process.communicate()


def test_a_run_that_is_trained_in_place_is_not_deleted(store: LocalStore, trained_in_place: None) -> None:
    [decision] = plan(store, 0)
    assert "another process is training this run" in decision.reason
    with pytest.raises(RunError, match="another process is training"):
        prune(store, "a")
    assert len(tree(RunDir(store.root / "runs/a").path)) == 3


def add_training(store: Store, run_id: str, steps: int, days_old: int = 40, config: bytes = CONFIG) -> None:
    store.put_new(f"runs/{run_id}/config.json", config)
    store.put_new(f"runs/{run_id}/checkpoints/step-{steps:06d}.safetensors", b"weights")
    if isinstance(store, LocalStore) and days_old:
        age_all(store)


@pytest.mark.parametrize(
    ("steps", "days_old", "config", "reason"),
    [
        (2000, 40, CONFIG, "trained, but not published. The command that trained it publishes it."),
        (3000, 40, CONFIG, "trained, but not published. The command that trained it publishes it."),
        (1000, 0, CONFIG, "unfinished, and written less than a day ago: it may wait for a worker"),
        (1000, 40, b"{", "it has checkpoints, and a damaged config.json. Restore that file from a copy."),
        (1000, 40, CONFIG, "not among the last"),
    ],
)
def test_what_is_to_be_published_stays(
    store: LocalStore, steps: int, days_old: int, config: bytes, reason: str
) -> None:
    add_training(store, "a", steps, days_old, config)
    [decision] = plan(store, 0)
    assert (decision.prune, decision.reason) == (reason == "not among the last", reason)


def test_a_trained_run_is_not_deleted_without_a_plan_either(any_store: Store) -> None:
    add_training(any_store, "a", 2000)
    with pytest.raises(RunError, match="a was not deleted: trained, but not published"):
        prune(any_store, "a")
    assert [run.steps for run in list_runs(any_store)] == [2000]


def test_a_run_whose_worker_died_waits_for_the_next_for_a_day(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(any_store, "a", days_old=40)
    add_dead_holder(any_store)
    [decision] = plan(any_store, 0)
    assert decision.reason.startswith("was being measured by process ") and not decision.prune
    monkeypatch.setattr(pruning, "WAIT", timedelta(0))
    assert pruned(plan(any_store, 0)) == ["a"]


def test_a_run_that_is_published_after_the_decision_stays(any_store: Store) -> None:
    add_run(any_store, "a", published=False, days_old=40)
    decision = PruneDecision(**{**list_runs(any_store)[0].model_dump(), "prune": True, "reason": "not among the last"})
    any_store.put_new("runs/a/manifest.json", b"{}")
    before = sorted(any_store.list(""))
    with pytest.raises(RunError, match="a was written by another process since it was looked at"):
        prune(any_store, "a", decided=decision)
    assert [info for info in sorted(any_store.list("")) if not info.key.startswith("leases/")] == before


@pytest.mark.parametrize("num_deleted", range(3))
def test_a_half_deleted_run_is_deleted_by_the_next_prune(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, num_deleted: int
) -> None:
    add_training(store, "a", 1000)
    store.put_new("runs/a/manifest.json", b"{}")
    delete, deleted = LocalStore.delete, []

    def die(self: LocalStore, key: str) -> None:
        if len(deleted) == num_deleted:
            raise KeyboardInterrupt
        deleted.append(key)
        delete(self, key)

    monkeypatch.setattr(LocalStore, "delete", die)
    with pytest.raises(KeyboardInterrupt):
        prune(store, "a")
    monkeypatch.undo()
    assert deleted == ["runs/a/manifest.json", "runs/a/config.json"][:num_deleted]
    age_all(store)
    assert pruned(plan(store, 0)) == ["a"]
    prune(store, "a")
    assert list(store.list("")) == []


def test_nothing_is_deleted_once_the_lease_is_lost(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add_run(store, "a")
    monkeypatch.setattr(Lease, "check", raise_taken)
    with pytest.raises(RunError, match="taken"):
        prune(store, "a")
    assert [run.state for run in list_runs(store)] == ["published"]


def raise_taken(_lease: Lease) -> None:
    raise RunError("taken")


def add_dead_holder(store: Store) -> None:
    """Leave the lease of a process of this machine that was killed."""
    dead = next_holder("a")
    store.put_new("leases/a.json", dead.model_dump_json().encode())
    Path(tempfile.gettempdir(), f"gan-train-{dead.token}.lock").touch()  # nobody has locked it


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("4w", 672), ("0d", 0)])
def test_an_age_is_parsed(text: str, hours: int) -> None:
    assert parse_age(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30 d", "1y", "999999d"])
def test_an_invalid_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an age; expected"):
        parse_age(text)


@pytest.mark.parametrize("run_id", ["-x", "$(id)", "[x](http:"])
def test_a_run_with_an_odd_id_is_deleted(store: LocalStore, run_id: str) -> None:
    add_run(store, run_id)
    assert pruned(plan(store, 0)) == [run_id]
    prune(store, run_id)
    assert list_runs(store) == []
