"""Does one process, and no other, change a state of a run?"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync import claims
from gan.sync.claims import claim, delete_claims
from gan.sync.stored_run import StoredRun
from tests.support.s3_server import SERVERS, new_address


@pytest.fixture(params=["directory", *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "directory":
        return open_store(tmp_path)
    request.getfixturevalue(request.param).use(monkeypatch)
    return open_store(new_address())


def test_a_state_is_claimed_once(store: Store) -> None:
    run = StoredRun(store, "mine")
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: claim(run, "first"), range(4))) == 1
    assert claim(run, "second") and claim(StoredRun(store, "other"), "first")


def test_the_claim_of_a_dead_process_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = StoredRun(store, "mine")
    assert claim(run, "first")
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.0)
    assert claim(run, "first")


def test_claims_are_deleted(store: Store) -> None:
    run, other = StoredRun(store, "mine"), StoredRun(store, "mine.2")
    assert claim(run, "first") and claim(other, "first")
    delete_claims(run)
    assert [info.key for info in store.list("claims/")] == ["claims/mine.2/first"]
