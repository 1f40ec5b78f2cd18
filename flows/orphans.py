"""Which flow runs did a killed command leave open?

Each command holds a locked file in PREFECT_HOME and tags its flow run with the file's name. The kernel drops the lock
when the command dies, however it dies; whoever then gets the lock knows that the run has no owner any more. No
process id is compared, so a reused one, or one of another container on the same home, cannot mislead.
"""

import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterTags
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
from prefect.states import Crashed

log = logging.getLogger("gan.leftovers")


@contextmanager
def owned_runs(api: str, resume_command: str) -> Iterator[str]:
    """Yield a tag for the flow runs of this block; close those that it leaves open, here or, killed, at the next start.

    `api` names the database they are in; `resume_command` is what to tell who meets one that was left.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, json.dumps({"api": api, "resume": resume_command}).encode())
        owner = Path(temporary).rename(Path(temporary).with_suffix(".owner"))  # seen by others only when locked
        try:
            yield _tag(owner)
        finally:
            _close_own_runs(owner)
    finally:
        os.close(handle)


def close_leftovers(api: str) -> None:
    """Give every flow run that a dead command left open in this database the state Crashed; say so in the log."""
    for owner in sorted(_folder().glob("*.owner")):
        with suppress(FileNotFoundError), owner.open("rb") as file:  # another command may have seen to it meanwhile
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its command lives
            left = json.loads(file.read())
            if left["api"] == api:
                message = f"the command was killed; go on with: {left['resume']}"
                with get_client(sync_client=True) as client:
                    for name in _close_runs(client, _tag(owner), message):
                        log.warning("flow run %s was left open: %s", name, message)
                owner.unlink()


def _close_own_runs(owner: Path) -> None:
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            _close_runs(client, _tag(owner), "the command ended before its flow run did")
        owner.unlink()
    except httpx.HTTPError as error:
        log.warning("Prefect's API is away (%s): the next command closes the flow run if it is open", error)


def _close_runs(client: SyncPrefectClient, tag: str, message: str) -> list[str]:
    """Close the flow runs with a tag that are not final, and their task runs; return the names of the flow runs."""
    names = []
    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))):
        if run.state is not None and run.state.is_final():
            continue
        for task_run in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))):
            if task_run.state is None or not task_run.state.is_final():
                client.set_task_run_state(task_run.id, Crashed(message=message), force=True)
        client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        names.append(run.name)
    return names


def _folder() -> Path:
    return get_current_settings().home / "gan-train"


def _tag(owner: Path) -> str:
    return f"gan-train:{owner.stem}"
