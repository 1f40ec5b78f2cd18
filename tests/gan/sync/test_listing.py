"""Are the runs of a store listed, the unfinished and the damaged ones too?"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gan.storage.local import LocalStore
from gan.sync.listing import list_runs, stored_name
from gan.sync.stored_run import StoredRun
from tests.support.publishing import publish
from tests.support.sample_run import write_sample_run
from tests.support.small_run import tree, write_run


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def described(store: LocalStore) -> list[dict[str, object]]:
    """List the runs without their version and time."""
    return [run.model_dump(exclude={"version", "updated"}) for run in list_runs(store)]


def test_a_published_and_an_unfinished_run(store: LocalStore) -> None:
    for run_id in ("b", "a"):
        write_run(store.root / "runs" / run_id)
    publish(store.root / "runs/a", StoredRun(store, "a"))
    size = {run_id: sum(map(len, tree(store.root / "runs" / run_id).values())) for run_id in "ab"}
    known = {"steps": 2000, "num_steps": 2000, "recipe": "tuned", "seed": None, "created": None}
    assert described(store) == [
        {"run_id": "a", "state": "published", **known, "bytes": size["a"]},
        {"run_id": "b", "state": "unfinished", **known, "bytes": size["b"]},
    ]
    for run in list_runs(store):
        assert timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(run.updated) < timedelta(minutes=1)


def test_a_run_has_the_name_of_what_it_trains(tmp_path: Path, store: LocalStore) -> None:
    write_sample_run(store.root / "runs" / "a")
    store.put_new("runs/b/provenance.json", b"{")
    named, unnamed = list_runs(store)
    assert named.name == stored_name(StoredRun(store, "a")) == "tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC"
    assert unnamed.name == stored_name(StoredRun(store, "b")) == ""


def test_an_empty_store_has_no_runs(store: LocalStore) -> None:
    assert list_runs(store) == []


@pytest.mark.parametrize("config", [b"", b"{", b"[]", b"\xff", b'{"recipe": 7, "num_steps": "many"}', b"[" * 100_000])
def test_a_damaged_config_hides_no_run(store: LocalStore, config: bytes) -> None:
    store.put_new("runs/a/config.json", config)
    store.put_new("runs/b/grids/step-001000.png", b"PNG")
    unknown = {"state": "unfinished", "steps": 0, "num_steps": None, "recipe": None, "seed": None, "created": None}
    assert described(store) == [
        {"run_id": "a", **unknown, "bytes": len(config)},
        {"run_id": "b", **unknown, "bytes": 3},
    ]


def test_entries_that_are_not_runs_are_left_out(store: LocalStore) -> None:
    store.put_new("runs/readme.txt", b"")
    store.put_new("champion.json", b"{}")
    assert list_runs(store) == []
