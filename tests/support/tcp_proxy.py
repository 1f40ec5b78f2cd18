"""How does a test delay, cut, refuse and count the connections between a client and a server?"""

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
    """Forward all data between a client and a server. A test can disturb it:

    delay_seconds: each piece of data is delayed by this time, in both directions.
    cut_after: after this many bytes of an answer, the connection is reset, once.
    cut_sent_at: when clients have sent this many bytes in all, the connection is reset in the middle of a piece, once.
    bytes_per_second: each direction of a connection is at most this fast.
    lose_answer_to: a request that contains these bytes is forwarded, but its answer is lost: the connection is reset,
        once.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_seconds = 0.0
        self.cut_after: int | None = None
        self.cut_sent_at: int | None = None
        self.bytes_per_second: int | None = None
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
        """Accept connections (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Accept no more connections and reset the open ones, as if the server were down."""
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
                Thread(target=self._forward, args=(source, target, source is client), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        num_forwarded = 0
        with suppress(OSError):
            while piece := source.recv(self.bytes_per_second or PIECE):
                if is_request:
                    self.bytes_sent += len(piece)
                    if self.cut_sent_at is not None and self.bytes_sent > self.cut_sent_at:
                        target.sendall(piece[: self.cut_sent_at - self.bytes_sent])
                        self.cut_sent_at = None
                        break
                    self.requests += [
                        f"{found[1].decode()} {found[2].decode()}" for found in REQUEST_LINE.finditer(piece)
                    ]
                    if self.lose_answer_to and self.lose_answer_to in piece:
                        self.lose_answer_to = None
                        self._losing.add(source)
                elif target in self._losing:
                    break
                time.sleep(self.delay_seconds)
                if self.bytes_per_second:
                    time.sleep(len(piece) / self.bytes_per_second)
                num_forwarded += len(piece)
                if not is_request and self.cut_after is not None and num_forwarded > self.cut_after:
                    target.sendall(piece[: self.cut_after - num_forwarded])
                    self.cut_after = None
                    break
                target.sendall(piece)
        with self._lock:
            for each in (source, target):
                self._sockets.discard(each)
                _reset(each)


@contextmanager
def proxy_to(port: int) -> Iterator[TcpProxy]:
    """Run a proxy for a port on loopback."""
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
