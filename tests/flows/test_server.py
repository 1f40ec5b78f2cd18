"""Does the embedded server run exactly as long as its command, even if the command is killed?

Here a small application stands in for Prefect's server, because these tests are about the process. The other tests of
flows use Prefect's own server, and test_cli.py kills a command that has one.
"""

import http.client
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import server
from flows.api import ServerError
from flows.server import embedded_server, prefect_api
from tests.support import stub_server
from tests.support.killing import Command

ROOT = Path(__file__).parents[2]
EMBEDDED_SERVER = """
import logging, sys, time
from flows import server
from flows.server import embedded_server
logging.getLogger("flows").addHandler(logging.StreamHandler())  # as gan-train shows what flows/ logs
server.SERVER_APP = {app!r}
with embedded_server() as api_url:
    print(api_url, flush=True)
    {then}
"""
STARTUP_SECONDS = 90


def start(folder: Path, then: str = "time.sleep(600)", app: str = stub_server.APP, **environment: str) -> Command:
    """Start a command that has an embedded server."""
    folder.mkdir(exist_ok=True)
    script = EMBEDDED_SERVER.format(app=app, then=then)
    return Command([sys.executable, "-c", script], folder, PYTHONPATH=str(ROOT), **environment)


def wait_for_port(command: Command) -> int:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if "/api\n" in (written := command.log.read_text()):
            return int(written.removeprefix("http://127.0.0.1:").removesuffix("/api\n"))
        time.sleep(0.1)
    raise AssertionError(command.log.read_text())


def server_of(command: Command) -> int:
    (server,) = [pid for pid in command.processes() if pid != command.process.pid]
    return server


@pytest.mark.prefect
def test_the_server_ends_with_a_killed_command_but_not_with_its_process_group(tmp_path: Path) -> None:
    command = start(tmp_path)
    wait_for_port(command)
    assert os.getsid(server_of(command)) != os.getsid(command.process.pid)
    os.killpg(command.process.pid, signal.SIGKILL)
    command.process.wait()
    assert command.wait_until_all_are_gone() == []


@pytest.mark.prefect
def test_a_request_waits_for_a_restart_and_an_interrupt_ends_the_server(tmp_path: Path) -> None:
    command = start(tmp_path)
    port = wait_for_port(command)
    killed = server_of(command)
    os.kill(killed, signal.SIGKILL)
    while killed in command.processes():
        time.sleep(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STARTUP_SECONDS)
    connection.request("GET", "/api/health")
    assert connection.getresponse().read() == b"true"
    connection.close()
    assert "ended with code -9; starting it again" in command.log.read_text()
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(STARTUP_SECONDS) == -signal.SIGINT
    assert command.wait_until_all_are_gone() == []


@pytest.mark.prefect
def test_two_commands_share_a_new_home_and_a_failed_command_ends_its_server(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    app = stub_server.MIGRATING_APP
    good = start(tmp_path / "good", "time.sleep(1)", app, PREFECT_HOME=home)
    bad = start(tmp_path / "bad", "sys.exit('an error')", app, PREFECT_HOME=home)
    assert [command.process.wait(2 * STARTUP_SECONDS) for command in (good, bad)] == [0, 1]
    assert [command.processes() for command in (good, bad)] == [[], []]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("UNRELATED", "Its database is in .*. Set PREFECT_HOME to another folder"),
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", r"It uses the database of \w+_URL \(set in the environment\)"),
    ],
)
def test_a_server_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, place: str
) -> None:
    monkeypatch.setattr(server, "SERVER_APP", stub_server.FAILING_APP)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(name, "sqlite+aiosqlite:////nowhere/s3cret.db")
    why = f"^the embedded Prefect server ended with code 3: ERROR: +Application startup failed. Exiting. {place}"
    with pytest.raises(ServerError, match=why) as caught, embedded_server():
        pass
    assert "\n" not in str(caught.value)
    (output,) = tmp_path.glob("gan-train-server-*.txt")
    assert str(output) in str(caught.value) and "unable to open database file" in output.read_text()


def test_a_home_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with (
        temporary_settings({PREFECT_HOME: tmp_path / "home"}),
        pytest.raises(ServerError, match=r"home: Prefect's database cannot be kept there \(File exists\)"),
        embedded_server(),
    ):
        pass


def test_a_configured_api_is_used(api: str) -> None:
    with prefect_api() as database:
        assert database == api


def test_a_configured_api_must_answer() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ServerError, match=r"http://127.0.0.1:9/api does not answer .* gan-train starts its own server"),
        prefect_api(),
    ):
        pass
