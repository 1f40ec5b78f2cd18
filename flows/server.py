"""Which Prefect API does a command use? A configured server, or one of its own for as long as it runs."""

import fcntl
import http.client
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_AUTH_STRING,
    get_current_settings,
    temporary_settings,
)

from flows.api import ServerError, check_api
from flows.prefect_compat import SERVER_APP, SERVER_ENVIRONMENT, send_pending
from flows.server_process import GRACE_SECONDS
from gan.storage.masking import masked

EMBEDDED = "embedded"
HOST = "127.0.0.1"
STARTUP_SECONDS = 60.0  # 2 usually, 7 in an empty home, more beside busy processes
SEND_SECONDS = 5.0  # for what Prefect has not sent when the block ends
MAX_RESTARTS = 3
LOG_TAIL_BYTES, LOG_TAIL_LINES = 4000, 5
ENVIRONMENT = {
    **SERVER_ENVIRONMENT,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",  # even if the command's own console shows more or less
}

log = logging.getLogger(__name__)


@contextmanager
def prefect_api() -> Iterator[str]:
    """Use the API that the environment or a Prefect profile names, or else start a server for this block.

    Yields a name for the API's database: the API's address, or EMBEDDED.

    Raises:
        ServerError: the API does not answer, or refuses what it is sent.
    """
    configured = PREFECT_API_URL.value()
    if not configured:
        with embedded_server():
            yield EMBEDDED
        return
    check_api()
    yield configured


@contextmanager
def embedded_server() -> Iterator[str]:
    """Run a Prefect server for this block and yield its API address; Prefect in this process then uses it.

    The server uses the database in PREFECT_HOME and listens on a free loopback port. It ends when this block ends, or
    when this process ends, also by SIGKILL.

    Raises:
        ServerError: it did not answer within 60 s. The message has the end of the server's output.
    """
    with tempfile.TemporaryFile() as output, socket.create_server((HOST, 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        server = _Server(listener, output)
        try:
            with _one_start_at_a_time():
                server.start()
                _wait_until_healthy(server, port)
            threading.Thread(target=server.keep_alive, name="server", daemon=True).start()
            ours = {
                PREFECT_API_URL: f"http://{HOST}:{port}/api",
                PREFECT_API_AUTH_STRING: PREFECT_SERVER_API_AUTH_STRING.value(),  # the process inherits it
            }
            with _proxies_bypassed(), temporary_settings(ours):
                try:
                    yield f"http://{HOST}:{port}/api"
                finally:
                    send_pending(SEND_SECONDS)
        finally:
            server.stop()


class _Server:
    """Run the server's process. The listening socket stays open here, so requests wait while the server restarts."""

    def __init__(self, listener: socket.socket, output: IO[bytes]) -> None:
        self.listener = listener
        self.output = output
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.lock = threading.Lock()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own, where the terminal's Ctrl-C does not reach it."""
        descriptor = self.listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.server_process", str(descriptor), SERVER_APP],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.output,
            env={**os.environ, **ENVIRONMENT},
            pass_fds=[descriptor],
            start_new_session=True,
        )
        return self.process

    def keep_alive(self) -> None:
        """Start the process again when it ends, at most three times."""
        for _ in range(MAX_RESTARTS):
            assert self.process is not None
            code = self.process.wait()
            with self.lock:
                if self.stopping:
                    return
                log.warning("the embedded Prefect server ended with code %s; starting it again", code)
                self.start()

    def stop(self) -> None:
        """End the process by closing its standard input. Kill it if it does not end in time."""
        with self.lock:
            self.stopping = True
        if self.process is None:
            return
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(GRACE_SECONDS + 1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def error(self, problem: str) -> ServerError:
        """Make an error that has the end of the process's output."""
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - LOG_TAIL_BYTES))
        lines = masked(self.output.read().decode(errors="replace").strip()).splitlines()
        tail = "\n".join(lines[-LOG_TAIL_LINES:]) or "nothing"
        return ServerError(
            f"the embedded Prefect server {problem}. Its database is in {get_current_settings().home}. "
            f"Set PREFECT_HOME to another folder, or PREFECT_API_URL to a running server. Its output:\n{tail}"
        )


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """Let only one command at a time start a server in this home, because two would migrate a new database at once."""
    home = get_current_settings().home
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "gan-train-start.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise ServerError(
            f"{home}: Prefect's database cannot be kept there ({error.strerror}). Set PREFECT_HOME to another folder."
        ) from error
    with lock:
        yield


def _wait_until_healthy(server: _Server, port: int) -> None:
    assert server.process is not None
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise server.error(f"ended with code {server.process.returncode}")
        if _is_healthy(port):
            return
        time.sleep(0.1)
    raise server.error(f"did not answer within {STARTUP_SECONDS:.0f} s")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def _proxies_bypassed() -> Iterator[None]:
    """Connect to the loopback address without the proxy that HTTP_PROXY may name."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update({name: f"{value},{HOST}" if value else HOST for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
