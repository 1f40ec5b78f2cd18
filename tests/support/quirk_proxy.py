"""How does a test put an S3 server with a fault before the client?

A quirk is a function of a request and of `forward`, which sends a request to the real server and returns its answer.
So a quirk may change the request, the answer, or both, or answer by itself.
"""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.s3_server import ADMIN, READER, REGION, S3Server

SECRETS = dict((ADMIN, READER))  # by key id: a request that a quirk has changed is signed again
OF_A_CONNECTION = {"connection", "content-length", "expect", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """A request of the client."""

    method: str
    target: str  # path and query
    headers: dict[str, str]
    body: bytes = b""

    def without(self, *names: str) -> "Request":
        """Return the request without these headers."""
        dropped = {name.lower() for name in names}
        return replace(self, headers={name: text for name, text in self.headers.items() if name.lower() not in dropped})


@dataclass(frozen=True)
class Answer:
    """An answer to the client."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def with_header(self, name: str, text: str) -> "Answer":
        """Return the answer with a header in place of the one that it had."""
        return replace(self.without(name), headers={**self.without(name).headers, name: text})

    def without(self, *names: str) -> "Answer":
        """Return the answer without these headers."""
        dropped = {name.lower() for name in names}
        return replace(self, headers={name: text for name, text in self.headers.items() if name.lower() not in dropped})


Forward = Callable[[Request], Answer]
Quirk = Callable[[Request, Forward], Answer]


def header(answer: Answer, name: str) -> str | None:
    return {key.lower(): value for key, value in answer.headers.items()}.get(name)


def plain(request: Request, forward: Forward) -> Answer:
    return forward(request)


def with_text(name: str, change: Callable[[str], str]) -> Quirk:
    """Change a header of each answer that has it."""

    def quirk(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        found = header(answer, name)
        return answer if found is None else answer.with_header(name, change(found))

    return quirk


@dataclass
class QuirkProxy:
    """A server before the real one. `requests` are those of the client; `quirk` may be replaced at any time."""

    url: str
    quirk: Quirk
    requests: list[Request] = field(default_factory=list)


@contextmanager
def quirky(server: S3Server, quirk: Quirk) -> Iterator[QuirkProxy]:
    """Run a proxy before a server, with a quirk."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            proxy.requests.append(request)
            answer = proxy.quirk(request, lambda changed: _forward(server, request, changed))
            headers = {"Content-Length": str(len(answer.body)), **answer.headers}
            self.send_response_only(answer.status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.end_headers()
            breaks_off = headers["Content-Length"] != str(len(answer.body)) and self.command != "HEAD"
            self.close_connection = self.close_connection or breaks_off
            self.wfile.write(answer.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
    proxy = QuirkProxy(f"http://127.0.0.1:{listener.server_port}", quirk)
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def _forward(server: S3Server, original: Request, request: Request) -> Answer:
    """Send a request to the server, signed again where it was changed; return the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = request.headers if request == original else _signed(server, request)
    dropped = OF_A_CONNECTION - {"content-length"}
    kept = {name: text for name, text in headers.items() if name.lower() not in dropped}
    try:
        connection.request(request.method, request.target, request.body or None, kept)
        answer = connection.getresponse()
        body = answer.read()
        found = {name: text for name, text in answer.getheaders() if name.lower() not in OF_A_CONNECTION}
        if request.method == "HEAD" and (size := answer.getheader("Content-Length")):
            found["Content-Length"] = size
        return Answer(answer.status, found, body)
    finally:
        connection.close()


def _signed(server: S3Server, request: Request) -> dict[str, str]:
    """Return the headers of a request with a signature that fits them."""
    signature = request.headers.get("Authorization", "")
    key_id = signature.partition("Credential=")[2].partition("/")[0]
    unsigned = request.without("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256", "Host", *OF_A_CONNECTION)
    if key_id not in SECRETS:
        return request.headers
    wanted = AWSRequest(request.method, server.url + request.target, unsigned.headers, request.body)
    S3SigV4Auth(Credentials(key_id, SECRETS[key_id]), "s3", REGION).add_auth(wanted)
    return {**dict(wanted.headers.items()), "Content-Length": str(len(request.body))}
