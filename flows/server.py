"""Which Prefect API does a command talk to, when nobody runs a server?"""

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

from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.server_process import GRACE_SECONDS
from gan.errors import GanError

APP = "prefect.server.api.server:create_app"
EMBEDDED = "embedded"
HOST = "127.0.0.1"
STARTUP_SECONDS = 60.0  # 2 usually, 7 in an empty home, more beside busy processes
DRAIN_SECONDS = 5.0
MAX_RESTARTS = 3
LOG_TAIL_BYTES = 4000
ENVIRONMENT = {
    "PREFECT__SERVER_EPHEMERAL": "1",  # Prefect's own switch: no UI, no scheduler, only what records runs
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",  # whatever the command shows of its own
}

log = logging.getLogger("gan.server")


class ServerError(GanError):
    """A Prefect API that does not answer."""


@contextmanager
def prefect_api() -> Iterator[str]:
    """Use the API that the environment or a profile names, else a server for this block alone.

    Yields a name for the database behind it: the API's address, or EMBEDDED.

    Raises:
        ServerError: nothing answers there.
    """
    configured = PREFECT_API_URL.value()
    if not configured:
        with embedded_server():
            yield EMBEDDED
        return
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise ServerError(
                f"Prefect's API at {configured} does not answer ({error}). "
                "Start that server, or unset PREFECT_API_URL to use one of the command's own."
            )
    yield configured


@contextmanager
def embedded_server() -> Iterator[str]:
    """Run a Prefect server for this block and yield its API address; Prefect in this process then uses it.

    It works on the database in PREFECT_HOME and listens on a free loopback port. It ends with this block, or with
    this process, however that dies.

    Raises:
        ServerError: it did not answer within 60 s; says what it wrote.
    """
    with tempfile.TemporaryFile() as output, socket.create_server((HOST, 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        server = _Server(listener, output)
        try:
            with _one_start_at_a_time():
                server.start()
                _wait_until_healthy(server, port)
            threading.Thread(target=server.keep_alive, name="server", daemon=True).start()
            with _proxies_bypassed(), temporary_settings({PREFECT_API_URL: f"http://{HOST}:{port}/api"}):
                try:
                    yield f"http://{HOST}:{port}/api"
                finally:
                    _drain()
        finally:
            server.stop()


class _Server:
    """Own the server's process. The listening socket stays open here, so that requests outwait a restart."""

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
            [sys.executable, "-P", "-m", "flows.server_process", str(descriptor), APP],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.output,
            env={**os.environ, **ENVIRONMENT},
            pass_fds=[descriptor],
            start_new_session=True,
        )
        return self.process

    def keep_alive(self) -> None:
        """Start the process anew when something ends it, three times at most."""
        for _ in range(MAX_RESTARTS):
            assert self.process is not None
            code = self.process.wait()
            with self.lock:
                if self.stopping:
                    return
                log.warning("the embedded Prefect server ended with code %s; starting it again", code)
                self.start()

    def stop(self) -> None:
        """End the process in an orderly way, by the end of its standard input; kill it when it takes too long."""
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
        """Put a problem into words, with the end of what the process wrote."""
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - LOG_TAIL_BYTES))
        tail = self.output.read().decode(errors="replace").strip() or "nothing"
        return ServerError(
            f"the embedded Prefect server {problem}. Its database is in {get_current_settings().home}: give "
            f"PREFECT_HOME another folder, or PREFECT_API_URL a server that runs. It wrote:\n{tail}"
        )


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """Let one command at a time start a server in this home: two would migrate one new database at once."""
    home = get_current_settings().home
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "gan-train-start.lock").open("w")
    except OSError as error:
        raise ServerError(
            f"{home}: Prefect's database cannot be kept there ({error.strerror}). Give PREFECT_HOME another folder."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
    """Keep HTTP_PROXY, where it is set, away from the loopback address."""
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


def _drain() -> None:
    """Send the logs and task states that Prefect still holds: its own try comes at exit, when the server is gone."""
    APILogWorker.drain_all(timeout=DRAIN_SECONDS)
    EventsWorker.drain_all(timeout=DRAIN_SECONDS)
