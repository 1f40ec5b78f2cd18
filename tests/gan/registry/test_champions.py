"""Has each data set a champion of its own, and is that of MNIST as it was?"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gan.data.data_note import DataNote
from gan.errors import RunError, StorageError
from gan.registry.champion import History, append, champion_of, read_champion, rollback
from gan.registry.champions import data_of_champion, find_champion, histories
from gan.registry.promotion import Decision, comparer, promote
from gan.registry.prune import plan, prune
from gan.runs.provenance import Provenance
from gan.storage.base import Store
from gan.storage.local import LocalStore
from tests.support.challengers import by_figures, challenger_at

PETS = DataNote(name="pets", sha256="a" * 64, classes=["cat", "dog"], license="CC0", attribution="A. Painter")
CARS = DataNote(name="cars", sha256="b" * 64)
OTHER_PETS = DataNote(name="pets", sha256="c" * 64)


@pytest.fixture
def store(folder_or_bucket: Store) -> Store:
    return folder_or_bucket


def add(store: Store, run_id: str, distance: float, data: DataNote | None = None, judge: str = "") -> Decision:
    """Publish a run that was found to be at a distance, by MNIST's judge or another, and let it be promoted."""
    store.put_new(f"runs/{run_id}/manifest.json", b"{}")
    challenger = replace(challenger_at(run_id, distance), data=data)
    if judge:
        evaluation = challenger.evaluation.model_copy(update={"judge": judge})
        challenger = replace(challenger, evaluation=evaluation)
    return promote(store, challenger, by_figures(challenger), "me@here")


def run_ids(store: Store, data: DataNote | None) -> list[str]:
    return [change.run_id for change in read_champion(store, data and data.address).history.history]


def test_each_set_has_a_champion_and_mnists_file_stays_as_it_was(store: Store) -> None:
    add(store, "digits", 10.0)
    before = store.read("champion.json")
    assert before and b'"data"' not in before
    assert str(add(store, "first", 30.0, PETS)) == "first is the champion of pets now: it is the first one"
    assert add(store, "second", 20.0, PETS).champion == "first"
    assert add(store, "third", 25.0, PETS).outcome == "kept"
    assert add(store, "wheels", 90.0, CARS).outcome == "promoted"
    assert store.read("champion.json") == before
    assert [run_ids(store, data) for data in (None, PETS, CARS)] == [["digits"], ["first", "second"], ["wheels"]]
    assert sorted(info.key for info in store.list("champion")) == [
        "champion.json", f"champions/{'a' * 64}.json", f"champions/{'b' * 64}.json",
    ]  # fmt: skip


def test_the_file_has_the_schema_of_mnists_and_says_which_set_it_is_of(store: Store) -> None:
    add(store, "digits", 10.0)
    add(store, "first", 30.0, PETS)
    ours, mnists = (json.loads(store.read(key) or b"") for key in (f"champions/{'a' * 64}.json", "champion.json"))
    assert ours.keys() - mnists.keys() == {"data"} and ours["data"] == PETS.address
    assert ours["history"][0].keys() - mnists["history"][0].keys() == {"data"}
    assert ours["history"][0]["data"] == PETS.model_dump()


def test_a_rollback_leaves_the_other_champions_alone(store: Store) -> None:
    for run_id, distance in (("first", 30.0), ("second", 20.0)):
        add(store, run_id, distance, PETS)
        add(store, f"digits-{run_id}", distance)
    provenance = Provenance.now("first", "cpu", {"torch": "2"}, {"pets": PETS.sha256}, data_set=PETS)
    store.put_new("runs/first/provenance.json", provenance.model_dump_json().encode())
    assert rollback(store, "me@here", "", PETS.address).run_id == "first"
    assert run_ids(store, None) == ["digits-first", "digits-second"]
    assert champion_of(store, PETS.address).data == PETS
    with pytest.raises(RunError, match=f"no champion of {PETS.address} before .* history .* --data {PETS.address}`"):
        rollback(store, "me@here", "", PETS.address)


def test_a_champion_of_a_set_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("store"))
    add(store, "digits", 10.0)
    add(store, "first", 30.0, PETS)
    add(store, "wheels", 30.0, CARS)
    for named in ("pets", f"pets@{'a' * 8}", PETS.address):
        assert data_of_champion(store, named) == PETS.address
    for named, run_id in ((None, "digits"), ("mnist", "digits"), ("pets", "first"), ("cars", "wheels")):
        found = find_champion("champion", named)
        assert found and found[1].run_id == run_id
    with pytest.raises(
        StorageError, match=rf"no champion of boats yet. .* one of:\n  mnist\n  {PETS.address}\n  cars@"
    ):
        data_of_champion(store, "boats")
    with pytest.raises(StorageError, match="'../x' names no data set"):
        data_of_champion(store, "../x")
    add(store, "others", 30.0, OTHER_PETS)
    with pytest.raises(StorageError, match=rf"of 2 data sets pets. Name one:\n  mnist\n  {PETS.address}\n  pets@c"):
        data_of_champion(store, "pets")


def test_the_champion_of_another_set_is_not_read_under_a_wrong_key(store: Store) -> None:
    add(store, "first", 30.0, PETS)
    raw = store.read(f"champions/{'a' * 64}.json") or b""
    for key, data in ((f"champions/{'b' * 64}.json", CARS), ("champion.json", None)):
        store.put_new(key, raw)
        with pytest.raises(StorageError, match=f"{key} in .* is damaged: it is of {PETS.address}"):
            read_champion(store, data and data.address)


def test_of_two_changes_at_once_the_second_sees_the_first(store: Store) -> None:
    add(store, "first", 30.0, PETS)
    found = read_champion(store, PETS.address)
    add(store, "second", 20.0, PETS)
    late = found.history.history[0].model_copy(update={"id": "another", "run_id": "late"})
    assert not append(store, found, late)
    assert run_ids(store, PETS) == ["first", "second"]


def test_figures_of_two_judges_are_not_compared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "first", 30.0, PETS, judge="1" * 64)
    challenger = replace(challenger_at("second", 20.0), data=PETS)
    monkeypatch.setattr("gan.registry.promotion.measure", None)  # nothing is measured
    kept = promote(store, challenger, comparer(store, challenger, None), "me@here")  # type: ignore[arg-type]
    assert (kept.outcome, run_ids(store, PETS)) == ("kept", ["first"])
    assert f"measured by the judge {'1' * 64}, and this run by the judge {challenger.evaluation.judge}" in kept.reason
    assert f"`gan champion promote --force {store.address}/runs/first`" in kept.reason
    # As the reason says: measured by hand by the present judge, the champion stays, and can be compared.
    again = replace(challenger_at("first", 25.0), data=PETS)
    assert promote(store, again, by_figures(again), "me@here", force=True).outcome == "promoted"
    assert promote(store, challenger, by_figures(challenger), "me@here").outcome == "promoted"
    assert [change.run_id for change in read_champion(store, PETS.address).history.line] == ["first", "second"]


def test_a_champion_that_was_deleted_is_replaced_whatever_its_judge_was(store: Store) -> None:
    add(store, "first", 30.0, PETS, judge="1" * 64)
    store.delete("runs/first/manifest.json")
    challenger = replace(challenger_at("second", 90.0), data=PETS)
    decided = promote(store, challenger, comparer(store, challenger, None), "me@here")  # type: ignore[arg-type]
    assert str(decided) == "second is the champion of pets now: the champion, first, was deleted from the store"


@pytest.fixture
def champions(store: Store) -> Store:
    """Return a store in which `new` alone never was a champion."""
    for run_id, distance, data in (("a", 30.0, None), ("b", 20.0, None), ("c", 30.0, PETS), ("d", 20.0, PETS),
                                   ("e", 9.0, CARS)):  # fmt: skip
        add(store, run_id, distance, data)
    store.put_new("runs/new/manifest.json", b"{}")
    return store


def test_the_champions_of_all_sets_stay(champions: Store) -> None:
    decisions = {each.run_id: each for each in plan(champions, 0)}
    assert [run_id for run_id, each in decisions.items() if each.prune] == ["new"]
    assert decisions["a"].reason == "a champion, by champion.json"
    assert decisions["c"].reason == f"a champion, by champions/{'a' * 64}.json"
    with pytest.raises(RunError, match="e has just become a champion by champions/b"):
        prune(champions, "e")
    assert all(each.prune for each in plan(champions, 0, champions=True))
    prune(champions, "e", champions=True)


def test_a_run_that_becomes_a_champion_after_the_plan_stays(champions: Store) -> None:
    [decided] = [each for each in plan(champions, 0) if each.prune]
    add(champions, "new", 1.0, OTHER_PETS)
    with pytest.raises(RunError, match="new has just become a champion by champions/c"):
        prune(champions, "new", decided=decided)
    assert champions.read("runs/new/manifest.json")


@pytest.mark.parametrize("raw", [b"{", b'{"version": 1, "history": []}', b'{"version": 2, "history": []}'])
def test_a_damaged_champion_of_any_set_stops_pruning(champions: Store, raw: bytes) -> None:
    champions.put_new(f"champions/{'d' * 64}.json", raw)
    with pytest.raises(StorageError, match=r"champions/d+\.json in .* is damaged.* so no run is deleted"):
        plan(champions, 0)


def test_what_is_no_champion_is_passed_over(champions: Store) -> None:
    champions.put_new("champions/notes.txt", b"mine")
    assert len(histories(champions)) == 3
    assert [each.run_id for each in plan(champions, 0) if each.prune] == ["new"]


def test_a_history_names_a_set_or_nothing() -> None:
    assert History().model_dump_json(indent=2) == '{\n  "version": 1,\n  "history": []\n}'
    with pytest.raises(ValueError, match="String should match pattern"):
        History(data="../x@" + "a" * 64)


def test_the_table_has_a_row_for_each_class_that_has_a_name(tmp_path: Path) -> None:
    challenger = replace(challenger_at("first", 30.0), data=PETS, real_shares=(0.6, 0.4))
    store = LocalStore(tmp_path)
    promote(store, challenger, by_figures(challenger), "me@here")
    second = replace(challenger, run_id="second", sha256="2" * 64)
    rows = promote(store, second, by_figures(second), "me@here").rows()
    assert [row["figure"] for row in rows[-3:]] == ["classes covered", "class cat", "class dog"]
    assert rows[-3]["real images"] == "2"
    assert rows[-1] == {
        "figure": "class dog", "better": "as real", "run": "10.0%", "champion so far": "10.0%", "real images": "40.0%",
    }  # fmt: skip
    first = promote(LocalStore(tmp_path / "other"), challenger, by_figures(challenger), "me@here").rows()
    assert first[-1]["champion so far"] == "-"
    without = replace(challenger_at("digits", 30.0))
    assert len(promote(store, without, by_figures(without), "me@here").rows()) == len(rows) - 2
