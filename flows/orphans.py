"""Which flow runs are orphans: left open by a command that was killed?

Each command locks a file in PREFECT_HOME and tags its flow run with the file's name. The kernel releases the lock when
the command ends, also after SIGKILL. If the next command can lock the file, the flow run is an orphan. Process ids are
not compared: they are used again, and two containers may share PREFECT_HOME.
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

log = logging.getLogger(__name__)


@contextmanager
def owned_runs(api: str, resume_command: str) -> Iterator[str]:
    """Yield a tag for the flow runs of this block, and close those that are still open when the block ends.

    If this process is killed, the next command closes them with `close_orphans`. `api` names the database of the flow
    runs. `resume_command` is shown to the user when an orphan is closed.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with suppress(OSError):  # without locks no command can tell orphans, and none closes any
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.write(handle, json.dumps({"api": api, "resume": resume_command}).encode())
        # Other commands see the file only under its new name, and by then it is locked.
        owner = Path(temporary).rename(Path(temporary).with_suffix(".owner"))
        try:
            yield _tag(owner)
        finally:
            _close_own_runs(owner)
    finally:
        os.close(handle)


def close_orphans(api: str) -> None:
    """Set the state of every orphan in this database to Crashed, and log a warning for each."""
    for owner in sorted(_folder().glob("*.owner")):
        with suppress(FileNotFoundError), owner.open("rb") as file:  # another command may have closed it meanwhile
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its command is running, or this file system has no locks
            noted = json.loads(file.read())
            if noted["api"] == api:
                message = f"the command was killed; resume with: {noted['resume']}"
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
        log.warning("Prefect's API does not answer (%s): the next command closes the flow run if it is open", error)


def _close_runs(client: SyncPrefectClient, tag: str, message: str) -> list[str]:
    """Set the unfinished flow runs with a tag, and their task runs, to Crashed; return the flow runs' names."""
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
