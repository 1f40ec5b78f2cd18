"""Does a run in a store have the keys, the address and the manifest that it should?"""

from pathlib import Path

import pytest

from gan.errors import RunError, StorageError
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun, check_id
from tests.support.publishing import publish
from tests.support.small_run import NAMES, write_run


def test_a_run_lies_below_its_id(tmp_path: Path) -> None:
    run = StoredRun(LocalStore(tmp_path), "mine")
    assert run.key("config.json") == "runs/mine/config.json"
    assert run.address == f"{tmp_path}/runs/mine"
    assert run.where("config.json") == f"runs/mine/config.json in {tmp_path}"


def test_a_run_at_its_own_address_has_the_same_files_and_manifest(tmp_path: Path) -> None:
    run = StoredRun(LocalStore(tmp_path), "mine")
    assert run.manifest() is None
    with pytest.raises(
        StorageError, match=r"runs/mine/manifest\.json in .* is missing: there is no such run, or it is"
    ):
        run.published_manifest()
    publish(write_run(tmp_path / "made"), run)
    same = StoredRun.at(run.address)
    assert same.published_manifest() == run.published_manifest()
    assert sorted(info.key for info in same.files()) == sorted(info.key for info in run.files())
    assert {info.key for info in run.files()} == {*NAMES, "manifest.json"}
    assert same.read("config.json") == b"".join(run.get("config.json"))


def test_only_a_run_that_exists_may_have_an_odd_id(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for run_id in ("mine", "20261128-030000-tuned-0a1b", "_.-", "a" * 128):
        check_id(StoredRun(store, run_id), tmp_path / "none")
    for run_id in ("-x", ".x", "$(id)", "[x](http:", "a b", "é", "a" * 129):
        with pytest.raises(RunError, match="a new run cannot have the id"):
            check_id(StoredRun(store, run_id), tmp_path / "none")
        check_id(StoredRun(store, run_id), write_run(tmp_path / run_id))
        publish(tmp_path / run_id, StoredRun(store, run_id))
        check_id(StoredRun(store, run_id), tmp_path / "none")
