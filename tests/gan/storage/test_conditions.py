"""Is a store refused that cannot keep two processes apart?"""

from pathlib import Path

import pytest

from gan.errors import RunError, StorageError
from gan.registry.champion import CHAMPION, Change, append, read_champion
from gan.storage import conditions
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.holder import lease_key, locked_as, next_holder
from gan.sync.lease import hold, live_holder
from gan.sync.stored_run import StoredRun
from tests.support.challengers import evaluation
from tests.support.publishing import publish
from tests.support.quirk_proxy import Answer, Forward, Quirk, QuirkProxy, Request, plain, with_text
from tests.support.s3_server import new_address

DENIED = Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


def ignores(*names: str) -> Quirk:
    """Drop these headers of each write."""
    return lambda request, forward: forward(request.without(*names) if request.method == "PUT" else request)


def without_deletes(quirk: Quirk) -> Quirk:
    return lambda request, forward: DENIED if request.method == "DELETE" else quirk(request, forward)


def always_unmet(request: Request, forward: Forward) -> Answer:
    return Answer(412) if request.method == "PUT" else forward(request)


def a_change() -> Change:
    figures = evaluation(9.0)
    return Change(action="promoted", by="me", reason="why", run_id="a", step=1, sha256="0" * 64, evaluation=figures)


def change_champion(store: Store) -> bool:
    return append(store, read_champion(store), a_change())


def take_lease(store: Store) -> None:
    hold(StoredRun(store, "a")).__enter__()


@pytest.fixture(scope="module")
def module_store(module_proxy: QuirkProxy) -> Store:
    return open_store(new_address())


@pytest.fixture
def store(proxy: QuirkProxy, module_store: Store) -> Store:
    """Return an empty store that this process has not tried yet."""
    conditions._proven.clear()
    for info in module_store.list(""):
        module_store.delete(info.key)
    proxy.requests.clear()
    return module_store


@pytest.mark.parametrize(
    ("quirk", "seen"),
    [
        (ignores("If-None-Match"), ["under If-None-Match: *, although the object exists"]),
        (ignores("If-Match"), ["under If-Match with an ETag that the object does not have"]),
        (ignores("If-Match", "If-None-Match"), ["If-None-Match: *, although", "If-Match with an ETag that"]),
        (always_unmet, ["If-None-Match: * was refused, although there is no such object"]),
        (with_text("etag", lambda etag: f"W/{etag}"), ["under If-Match was refused, although W/"]),
    ],
    ids=["If-None-Match", "If-Match", "both", "refuses all", "weak ETags"],
)
def test_a_store_that_keeps_no_conditions_is_refused_and_nothing_is_left(
    proxy: QuirkProxy, store: Store, quirk: Quirk, seen: list[str], tmp_path: Path
) -> None:
    proxy.quirk = quirk
    (tmp_path / "config.json").write_text("{}")
    for use in (
        lambda: take_lease(store),
        lambda: change_champion(store),
        lambda: publish(tmp_path, StoredRun(store, "a")),
    ):
        with pytest.raises(StorageError, match=f"{store.address} cannot keep two processes apart") as caught:
            use()
        assert all(each in str(caught.value) for each in seen)
    assert list(store.list("")) == []


def test_what_cannot_be_deleted_says_nothing(proxy: QuirkProxy, store: Store) -> None:
    proxy.quirk = without_deletes(ignores("If-Match", "If-None-Match"))
    with pytest.raises(StorageError, match="leases/a.json cannot be deleted and stays there; it says nothing"):
        take_lease(store)
    with pytest.raises(StorageError, match="champion.json cannot be deleted and stays there; it says nothing"):
        change_champion(store)
    assert live_holder(StoredRun(store, "a")) is None and read_champion(store).history.current is None


@pytest.mark.parametrize("name", ["If-None-Match", "If-Match"])
def test_a_store_that_refuses_a_condition_is_told_and_nothing_is_left(
    proxy: QuirkProxy, store: Store, name: str
) -> None:
    refused = Answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
    proxy.quirk = lambda request, forward: refused if name in request.headers else forward(request)
    with pytest.raises(StorageError, match="does not take a write with a condition .* \\(NotImplemented"):
        take_lease(store)
    assert list(store.list("")) == []


@pytest.mark.parametrize("quirk", [plain, without_deletes(plain)], ids=["all rights", "no right to delete"])
def test_a_good_store_has_the_lease_and_nothing_else(proxy: QuirkProxy, store: Store, quirk: Quirk) -> None:
    proxy.quirk = quirk
    with hold(StoredRun(store, "a")):
        assert [info.key for info in store.list("")] == [lease_key("a")]
        assert live_holder(StoredRun(store, "a"))
    proxy.requests.clear()
    assert change_champion(store)
    assert [request.method for request in proxy.requests] == ["GET", "PUT"]  # it is not tried again


def test_what_an_ignored_condition_overwrites_stays_as_it_was(proxy: QuirkProxy, store: Store) -> None:
    assert change_champion(store)
    before = store.read(CHAMPION)
    conditions._proven.clear()
    proxy.quirk = ignores("If-Match", "If-None-Match")
    with pytest.raises(StorageError, match="Seen at champion.json: a write was done under If-None-Match"):
        change_champion(store)
    assert store.read(CHAMPION) == before


def test_a_lease_that_is_held_is_not_tried_on(proxy: QuirkProxy, store: Store) -> None:
    holder = next_holder("a")
    store.put_new(lease_key("a"), holder.model_dump_json().encode())
    proxy.requests.clear()
    with locked_as(holder.token), pytest.raises(RunError, match="run a is being trained by"):
        take_lease(store)
    assert {request.method for request in proxy.requests} == {"GET"}


def test_an_answer_that_is_lost_while_a_lease_is_created_leads_to_the_lease(proxy: QuirkProxy, store: Store) -> None:
    proxy.quirk = loses_the_first_write()
    with hold(StoredRun(store, "a")) as held:
        held.check()
        assert live_holder(StoredRun(store, "a"))


def test_another_process_that_is_first_wins(proxy: QuirkProxy, store: Store) -> None:
    assert change_champion(store)
    found = read_champion(store)
    assert append(store, found, a_change())
    conditions._proven.clear()
    assert not append(store, found, a_change())
    assert len(read_champion(store).history.history) == 2


def loses_the_first_write() -> Quirk:
    lost: list[Request] = []

    def quirk(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.method == "PUT" and not lost:
            lost.append(request)
            return Answer(503)
        return answer

    return quirk
