"""How does a test come between a client and a server, to delay, cut, refuse and count?"""

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread

PIECE = 1 << 16
REQUEST_LINE = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) ([^ ]+) HTTP/1\.1\r\n")


class TcpProxy:
    """Passes on what comes to its port, until it is told otherwise.

    delay_seconds: kept for so long is every piece, in both directions.
    cut_after: so many bytes of an answer are passed on; then the connection is reset, once.
    lose_answer_to: a request with these bytes in it is passed on, and the connection reset when its answer comes, once.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_seconds = 0.0
        self.cut_after: int | None = None
        self.lose_answer_to: bytes | None = None
        self.bytes_sent = 0  # by clients
        self.requests: list[str] = []  # method and path of each HTTP request
        self._target_port = target_port
        self._sockets: set[socket.socket] = set()
        self._losing: set[socket.socket] = set()  # clients whose next answer is lost
        self._lock = Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.accept()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Take connections (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Take no more connections, and reset those that are there: the server is down."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            for each in self._sockets:
                _reset(each)
            self._sockets.clear()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            with self._lock:
                self._sockets |= {client, server}
            for source, target in ((client, server), (server, client)):
                Thread(target=self._pass_on, args=(source, target, source is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        num_passed = 0
        with suppress(OSError):
            while piece := source.recv(PIECE):
                if is_request:
                    self.bytes_sent += len(piece)
                    self.requests += [
                        f"{found[1].decode()} {found[2].decode()}" for found in REQUEST_LINE.finditer(piece)
                    ]
                    if self.lose_answer_to and self.lose_answer_to in piece:
                        self.lose_answer_to = None
                        self._losing.add(source)
                elif target in self._losing:
                    break
                time.sleep(self.delay_seconds)
                num_passed += len(piece)
                if not is_request and self.cut_after is not None and num_passed > self.cut_after:
                    target.sendall(piece[: self.cut_after - num_passed])
                    self.cut_after = None
                    break
                target.sendall(piece)
        with self._lock:
            for each in (source, target):
                self._sockets.discard(each)
                _reset(each)


@contextmanager
def proxy_to(port: int) -> Iterator[TcpProxy]:
    """Run a proxy before a port on loopback."""
    proxy = TcpProxy(port)
    try:
        yield proxy
    finally:
        proxy.refuse()


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        # Lingering for 0 s turns a close into a reset; the shutdown wakes a thread that reads.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
