"""What happens where an answer is not quite one of S3?"""

import hashlib
import logging
from pathlib import Path

import pytest

from gan.errors import GanError, StorageError
from gan.storage.address import link_to, open_store
from gan.storage.base import Store
from gan.storage.s3_errors import CONDITION
from tests.gan.storage.test_s3_errors import USES, explain
from tests.support.quirk_proxy import Answer, Forward, Quirk, QuirkProxy, Request, header, with_text
from tests.support.s3_server import new_address

KEY = "runs/a/config.json"
HTML = {"Content-Type": "text/html; charset=utf-8"}
CONSOLE = b"<!doctype html><html><head><title>MinIO Console</title></head><body><script>1</script></body></html>"
LOOKS_REAL = {**HTML, "ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 19:00:00 GMT"}


def always(answer: Answer) -> Quirk:
    return lambda request, forward: answer


def renamed(name: str, new: str | None) -> Quirk:
    """Give a header of each answer another name, or drop it."""

    def quirk(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        found = header(answer, name)
        without = answer.without(name)
        return without if found is None or new is None else without.with_header(new, found)

    return quirk


@pytest.fixture(scope="module")
def store(module_proxy: QuirkProxy) -> Store:
    return open_store(new_address())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_bytes(b"{}")
    return tmp_path / "config.json"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "quirk",
    [
        renamed("x-amz-meta-sha256", "x-amz-meta-Sha256"),
        renamed("x-amz-meta-sha256", "X-AMZ-META-SHA256"),
        with_text("x-amz-meta-sha256", str.upper),
        with_text("x-amz-meta-sha256", lambda value: f' "{value}" '),
    ],
    ids=["Sha256", "SHA256", "upper-case hex", "quoted"],
)
def test_the_sha256_is_known_however_it_is_written(
    proxy: QuirkProxy, store: Store, caplog: pytest.LogCaptureFixture, file: Path, quirk: Quirk
) -> None:
    proxy.quirk = quirk
    store.delete(KEY)
    for _ in range(2):
        store.put(KEY, file, sha256(b"{}"))
    assert [request.method for request in proxy.requests] == ["DELETE", "HEAD", "PUT", "HEAD"]
    proxy.quirk = damaging(quirk)
    with pytest.raises(GanError, match=f"{KEY} .* is damaged"):
        store.read(KEY)
    assert "no SHA-256" not in caplog.text


def test_an_object_without_a_sha256_is_named_once(
    proxy: QuirkProxy, caplog: pytest.LogCaptureFixture, file: Path
) -> None:
    proxy.quirk = renamed("x-amz-meta-sha256", None)
    store = open_store(new_address())
    store.put(KEY, file, sha256(b"{}"))
    assert store.read(KEY) == b"".join(store.get(KEY)) == b"{}"
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{KEY} in {store.address} has no SHA-256 in its metadata")


@pytest.mark.parametrize("headers", [HTML, LOOKS_REAL], ids=["console", "web server"])
def test_a_web_page_is_not_taken_for_an_answer(proxy: QuirkProxy, store: Store, headers: dict[str, str]) -> None:
    proxy.quirk = always(Answer(200, headers, CONSOLE))
    for name, use in USES.items():
        message = explain(lambda use=use: use(store))  # type: ignore[misc]
        shown = "MinIO Console)" if name in ("put_new", "list", "delete", "sweep") else "(200, text/html; "
        assert shown in message or "(a web page in place of" in message
        assert "the answer is not one of S3" in message and "Correct the endpoint (AWS_ENDPOINT_URL_S3)" in message
    # None is tried again, but for one whose connection broke on a busy machine: four attempts each would be 28.
    assert len(USES) <= len(proxy.requests) <= len(USES) + 1
    assert "the answer is not one of S3" in explain(lambda: link_to(store.address, "report/index.html"))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(404, HTML, b"<html><h1>Not  Found</h1></html>"), "404, text/html; charset=utf-8: Not Found"),
        (Answer(400, {}, b"Client sent an HTTP request to an HTTPS server.\n"), "400, no type: Client sent an"),
        (Answer(403, {"Content-Type": "application/json"}, b'{"message":"No"}'), '403, application/json: {"mess'),
        (Answer(301, {"Location": "https://s3.example/gan?t=secret"}), "301, a redirect to https://s3.example/gan?***"),
        (Answer(307), "307, a redirect to no address"),
        (Answer(418, {}, b"a \x1b[31mtea\xffpot"), "418, no type: a ?[31mtea"),
        (Answer(200, {}, b""), "200, no type"),
        (Answer(200, {"Content-Type": "application/json"}, b"{}"), "200, application/json: {}"),
    ],
    ids=["404", "TLS", "JSON", "redirect", "redirect to nowhere", "control characters", "empty", "200 JSON"],
)
def test_what_else_answers_is_shown(proxy: QuirkProxy, store: Store, answer: Answer, found: str) -> None:
    proxy.quirk = always(answer)
    message = explain(lambda: list(store.list("runs/")))
    assert f"cannot be listed: the answer is not one of S3 ({found}" in message and "t=secret" not in message


@pytest.mark.parametrize(
    ("quirk", "name"),
    [
        (renamed("etag", None), "etag"),
        (renamed("last-modified", None), "last-modified"),
        (with_text("last-modified", lambda _: "yesterday"), "last-modified"),
    ],
    ids=["no ETag", "no Last-Modified", "senseless Last-Modified"],
)
def test_a_header_that_is_missing_or_senseless_is_named(
    proxy: QuirkProxy, store: Store, quirk: Quirk, name: str
) -> None:
    store.put_new(KEY, b"{}")
    proxy.quirk = quirk
    message = explain(lambda: store.read_versioned(KEY))
    assert "the answer is not one of S3 (200" in message and f", without a usable {name})" in message


@pytest.mark.parametrize("date", ["today", "Sat, 99 Nov 2026 19:00:00 GMT", "-1"])
def test_the_time_of_this_machine_stands_in_for_that_of_the_server(proxy: QuirkProxy, store: Store, date: str) -> None:
    store.delete(KEY)
    store.put_new(KEY, b"{}")
    proxy.quirk = with_text("date", lambda _: date)
    found = store.read_versioned(KEY)
    assert found and 0 <= found.age_seconds < 60


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidArgument"), (501, "NotImplemented"), (400, "InvalidRequest"), (405, "")]
)
def test_a_store_that_refuses_a_condition_is_told(proxy: QuirkProxy, store: Store, status: int, code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>Unsupported header</Message></Error>".encode() if code else b""
    proxy.quirk = always(Answer(status, {}, body))
    message = explain(lambda: store.replace("leases/a.json", b"{}", '"1"'))
    assert "leases/a.json" in message and f" cannot be replaced: {CONDITION.reason} ({code or status}" in message


def test_a_store_that_is_full_is_not_blamed_for_the_condition(proxy: QuirkProxy, store: Store) -> None:
    proxy.quirk = always(Answer(400, {}, b"<Error><Code>QuotaExceeded</Code></Error>"))
    assert "the store is full" in explain(lambda: store.replace("leases/a.json", b"{}", None))


@pytest.mark.parametrize("code", ["NoSuchKey", "NotFound", "ResourceNotFound", None])
def test_an_object_that_is_not_there_is_none(proxy: QuirkProxy, store: Store, code: str | None) -> None:
    proxy.quirk = always(Answer(404, {}, f"<Error><Code>{code}</Code></Error>".encode() if code else b""))
    assert store.read(KEY) is None and store.replace(KEY, b"", '"1"') is None
    store.delete(KEY)
    assert "cannot be created: there is no such object" in explain(lambda: store.put_new(KEY, b""))


def test_a_download_goes_on_where_the_server_knows_no_ranges(proxy: QuirkProxy, store: Store, file: Path) -> None:
    large = bytes(range(256)) * 10_000
    file.write_bytes(large)
    store.put(KEY, file, sha256(large))
    proxy.requests.clear()
    proxy.quirk = breaks_off_and_ignores_ranges
    assert b"".join(store.get(KEY)) == large and len(proxy.requests) == 2


def test_a_list_of_other_keys_is_left_out(proxy: QuirkProxy, store: Store) -> None:
    proxy.quirk = ignores_the_prefix
    store.put_new("runs/a/x", b"")
    store.put_new("runs/b/x", b"")
    assert [info.key for info in store.list("runs/b/")] == ["runs/b/x"]


def damaging(quirk: Quirk) -> Quirk:
    def damage(request: Request, forward: Forward) -> Answer:
        answer = quirk(request, forward)
        return Answer(answer.status, answer.headers, b"[]")

    return damage


def breaks_off_and_ignores_ranges(request: Request, forward: Forward) -> Answer:
    answer = forward(request.without("Range"))
    if "Range" in request.headers:
        return answer
    return Answer(200, {**answer.headers, "Content-Length": str(len(answer.body))}, answer.body[: 1 << 20])


def ignores_the_prefix(request: Request, forward: Forward) -> Answer:
    address, _, query = request.target.partition("?")
    kept = "&".join(each for each in query.split("&") if not each.startswith("prefix="))
    return forward(Request(request.method, f"{address}?{kept}" if kept else address, request.headers, request.body))


def test_an_answer_that_a_proxy_has_compressed_is_no_damaged_object(proxy: QuirkProxy, store: Store) -> None:
    assert store.put_new(KEY, b"{}") is not None
    proxy.quirk = lambda request, forward: forward(request).with_header("Content-Encoding", "gzip")
    with pytest.raises(StorageError, match=r"not one of S3 \(200, compressed on the way \(Content-Encoding: gzip\)\)"):
        store.read(KEY)


def test_a_proxy_that_asks_for_a_password_is_named(proxy: QuirkProxy, store: Store) -> None:
    proxy.quirk = always(Answer(407, HTML, b"<html>Proxy Authentication Required</html>"))
    with pytest.raises(StorageError, match="the proxy between here and the store cannot be used .*HTTP_PROXY or HTTPS"):
        store.read(KEY)
