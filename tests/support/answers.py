"""What stands in for a server of Prefect that cannot be used? One that gives the same answers again and again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

HEALTHY = {"/api/health": (200, "true")}
LOCKED = HEALTHY | {"/api/admin/version": (401, '{"exception_message":"Unauthorized"}')}


@contextmanager
def server(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Serve these answers, each a status and a body, by path; 404 for the others. Yield the server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, '{"detail":"Not Found"}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
