"""How does a test get a mirror on loopback that behaves as it wishes?"""

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

Answer = Callable[["Handler"], None]


class MirrorServer:
    """Serves what `answers` says by file name, 404 for the rest, and records the requests.

    Speaks TLS where a context is given.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.closing = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if context else "http"
        self._server.mirror = self  # type: ignore[attr-defined]
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up on purpose
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def serve_folder(self, folder: Path) -> "MirrorServer":
        """Serve the files of a folder as they are."""
        self.answers |= {path.name: body(path.read_bytes()) for path in folder.iterdir() if path.is_file()}
        return self

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """Looks up its answer."""

    @property
    def mirror(self) -> MirrorServer:
        mirror: MirrorServer = self.server.mirror  # type: ignore[attr-defined]
        return mirror

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.mirror.requests.append(name)
        self.mirror.answers.get(name, status(404))(self)

    def head(self, code: int, **headers: Any) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def body(data: bytes, **headers: Any) -> Answer:
    """Answer with bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(data), **headers)
        handler.wfile.write(data)

    return answer


def status(code: int) -> Answer:
    """Answer with a status and an HTML page."""

    def answer(handler: Handler) -> None:
        handler.head(code)
        handler.wfile.write(f"<html><h1>{code}</h1></html>".encode())

    return answer


def redirect(url: str) -> Answer:
    """Answer with a redirect."""
    return lambda handler: handler.head(302, Location=url, Content_Length=0)


def truncated(data: bytes) -> Answer:
    """Announce all of the bytes, send half and hang up politely."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(data))
        handler.wfile.write(data[: len(data) // 2])

    return answer


def reset(data: bytes) -> Answer:
    """Announce all of the bytes, send half and reset the connection."""

    def answer(handler: Handler) -> None:
        truncated(data)(handler)
        handler.wfile.flush()
        # Lingering for 0 s turns a close into a reset.
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return answer


def stall(data: bytes) -> Answer:
    """Announce all of the bytes, send half and then nothing, until the server closes."""

    def answer(handler: Handler) -> None:
        truncated(data)(handler)
        handler.mirror.closing.wait(30)

    return answer


def drip(piece: bytes, pause_seconds: float) -> Answer:
    """Send a piece again and again without an end, from the first byte of the answer on."""

    def answer(handler: Handler) -> None:
        while not handler.mirror.closing.wait(pause_seconds):
            handler.wfile.write(piece)

    return answer


def endless(piece: bytes) -> Answer:
    """Answer 200, announce no length and send a piece again and again."""

    def answer(handler: Handler) -> None:
        handler.head(200)
        while not handler.mirror.closing.is_set():
            handler.wfile.write(piece)

    return answer


@pytest.fixture
def mirror() -> Iterator[MirrorServer]:
    """Give an empty mirror; name it by `mirror.url`."""
    server = MirrorServer()
    yield server
    server.close()
