"""Is a file downloaded completely and in time, and else, is the reason given?"""

import asyncio
import socket
import time

import pytest

from gan.data.web import DEFAULT_LIMITS, Limits, get
from gan.errors import DownloadError
from tests.support.mirror_server import (
    Answer,
    MirrorServer,
    body,
    drip,
    endless,
    redirect,
    reset,
    stall,
    status,
    truncated,
)

DATA = bytes(range(256)) * 1000


def fetch(url: str, limits: Limits = DEFAULT_LIMITS) -> bytes | None:
    return get(url, len(DATA), limits, lambda num_bytes, total: None)


def test_a_file_is_complete_and_its_progress_is_reported(mirror: MirrorServer) -> None:
    mirror.answers["file"] = body(DATA)
    seen: list[tuple[int, int | None]] = []
    data = get(
        f"{mirror.url}/file", len(DATA), DEFAULT_LIMITS, lambda num_bytes, total: seen.append((num_bytes, total))
    )
    assert data == DATA
    assert seen[-1] == (256_000, 256_000) and [num_bytes for num_bytes, _ in seen] == sorted(n for n, _ in seen)


def test_a_gzip_is_not_unpacked_whatever_its_headers_say(mirror: MirrorServer) -> None:
    mirror.answers["file.gz"] = body(b"\x1f\x8b...", Content_Encoding="gzip")
    assert fetch(f"{mirror.url}/file.gz") == b"\x1f\x8b..."


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_missing_file_is_none(mirror: MirrorServer, code: int) -> None:
    mirror.answers["file"] = status(code)
    assert fetch(f"{mirror.url}/file") is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(500), "HTTP 500 Internal Server Error"),
        (body(b"x", X="\r\nContent-Length: -5"), "broke off: bad Content-Length"),
        (status(401), "HTTP 401 Unauthorized"),
        (truncated(DATA), "broke off: found 128,000 bytes, expected 256,000"),
        (reset(DATA), "broke off: .*Connection reset by peer"),
        (body(DATA + b"\0"), "too large: found 256,001 bytes, expected at most 256,000"),
        (endless(DATA), "too large: found .* bytes and more, expected at most 256,000"),
        (body(b"x", Transfer_Encoding="chunked"), "broke off: "),
        (lambda handler: None, "broke off: Server disconnected without sending a response"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), "broke off: Server disconnected without sending a"),
        (redirect("http://mirror.example/file"), "redirects to http://mirror.example, expected https or loopback"),
        (redirect("ftp://127.0.0.1/file"), "redirects to ftp://127.0.0.1, expected https or loopback"),
        (redirect("file:///etc/hostname"), "redirects to file://127.0.0.1, expected https or loopback"),
        (redirect("http://[1/file"), "redirects to http://%5B1, expected https or loopback"),
        (redirect("/file"), "redirects more than 5 times"),
    ],
)
def test_every_fault_has_its_reason(mirror: MirrorServer, answer: Answer, reason: str) -> None:
    mirror.answers["file"] = answer
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{mirror.url}/file")


@pytest.mark.parametrize(
    ("answer", "limits", "reason"),
    [
        (stall(DATA), Limits(read=0.2), "sent nothing for 0.2 s"),
        (stall(b"x"), Limits(read=0.2), "sent nothing for 0.2 s"),
        (stall(DATA), Limits(total=0.2), "took more than 0.2 s"),
        (drip(b"HTTP/1.1 200 OK\r\nX: y\r\n", 0.02), Limits(total=0.2), "took more than 0.2 s"),
        (drip(b"x", 0.02), Limits(total=0.2), "took more than 0.2 s"),
    ],
)
def test_an_endless_response_ends_at_its_time_limit(
    mirror: MirrorServer, answer: Answer, limits: Limits, reason: str
) -> None:
    mirror.answers["file"] = answer
    began = time.monotonic()
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{mirror.url}/file", limits)
    assert time.monotonic() - began < 5


def test_a_redirect_on_loopback_is_followed_without_reading_its_body(mirror: MirrorServer) -> None:
    def answer(handler):  # type: ignore[no-untyped-def]
        handler.head(302, Location="/there", Content_Length=1 << 40)
        endless(DATA)(handler)

    mirror.answers |= {"file": answer, "there": body(b"data")}
    assert fetch(f"{mirror.url}/file") == b"data"


def test_plain_http_may_redirect_to_plain_http(mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.answers |= {"http://a.example/file": redirect("http://b.example/file"), "http://b.example/file": body(b"x")}
    monkeypatch.setenv("http_proxy", mirror.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch("http://a.example/file") == b"x"
    assert mirror.requests == ["http://a.example/file", "http://b.example/file"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_a_public_mirror_may_not_redirect_to_a_private_address(
    mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    mirror.answers["http://mirror.example/file"] = redirect(f"http://{host}:8080/admin")
    monkeypatch.setenv("http_proxy", mirror.url)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadError, match="redirects to http://.*, a private address, from a public one"):
        fetch("http://mirror.example/file")
    assert mirror.requests == ["http://mirror.example/file"]


def test_a_mirror_at_a_private_address_may_redirect_to_another_one(
    mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.answers |= {"http://10.0.0.1/file": redirect("http://10.0.0.2/file"), "http://10.0.0.2/file": body(b"x")}
    monkeypatch.setenv("http_proxy", mirror.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch("http://10.0.0.1/file") == b"x"


def test_no_proxy_is_used_for_loopback(mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.answers["file"] = body(b"x")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch(f"{mirror.url}/file") == b"x"


def test_a_proxy_that_cannot_be_used_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadError, match="cannot be reached: .*SOCKS proxy"):
        fetch("http://a.example/file")


def test_it_works_inside_an_event_loop(mirror: MirrorServer) -> None:
    mirror.answers["file"] = body(b"x")

    async def notebook() -> bytes | None:
        return fetch(f"{mirror.url}/file")

    assert asyncio.run(notebook()) == b"x"


def test_a_mirror_that_is_down_says_so(mirror: MirrorServer) -> None:
    mirror.close()
    with pytest.raises(DownloadError, match="cannot be reached: .*Connection refused"):
        fetch(f"{mirror.url}/file")


def test_a_server_that_never_greets_ends_at_the_connect_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers the TLS greeting
        url = f"https://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(DownloadError, match="cannot be reached: .*timed out"):
            fetch(url, Limits(connect=0.2))
