"""Are the flow runs of killed commands closed, and those of running commands and of others not changed?"""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.orphans import close_orphans, owned_runs

ROOT = Path(__file__).parents[2]
COMMAND = "gan-train --run-id mine"
KILLED = f"""
import os, signal
from flows.orphans import owned_runs
from tests.flows.test_orphans import start_run
with owned_runs("test", "{COMMAND}") as tag:
    print(start_run(tag), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@flow
def trains() -> None:
    """Stand in for the flow of a command."""


def start_run(*tags: str) -> UUID:
    """Create a flow run that stays Running."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run(trains, tags=tags, state=Running()).id


def state_of(run_id: UUID) -> tuple[str | None, str | None]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    assert state is not None
    return state.name, state.message


def run_of_a_killed_command(api: str) -> UUID:
    environment = {**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr
    return UUID(done.stdout.decode().strip())


def test_the_run_of_a_killed_command_is_closed_once(api: str, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = run_of_a_killed_command(api)
    close_orphans("another database")
    assert state_of(left) == ("Running", None)
    close_orphans("test")
    assert state_of(left) == ("Crashed", f"the command was killed; resume with: {COMMAND}")
    assert [record.getMessage().endswith(f"resume with: {COMMAND}") for record in caplog.records] == [True]
    assert list((home / "gan-train").glob("*.owner")) == []


def test_without_locks_no_run_is_taken_for_an_orphan(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_args: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with owned_runs("test", COMMAND) as tag:
        mine = start_run(tag)
        close_orphans("test")
        assert state_of(mine) == ("Running", None)


def test_runs_of_running_commands_and_of_others_are_not_changed(api: str) -> None:
    others = start_run("somebody's")
    with owned_runs("test", COMMAND) as tag:
        mine = start_run(tag)
        close_orphans("test")
        assert state_of(mine) == state_of(others) == ("Running", None)
    assert state_of(mine) == ("Crashed", "the command ended before its flow run did")
    assert state_of(others) == ("Running", None)


def test_the_run_of_an_interrupted_command_is_closed_at_once(api: str) -> None:
    with pytest.raises(KeyboardInterrupt), owned_runs("test", COMMAND) as tag:
        mine = start_run(tag)
        raise KeyboardInterrupt
    assert state_of(mine)[0] == "Crashed"
