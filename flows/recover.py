"""When is a flow run of a deployment, whose process has ended, put back into the queue to resume?

A run that stops because its worker stops puts itself back. A killed run cannot do that. The automation of
flows.deploy sets it to Crashed when its heartbeats stop. Each worker, and `python -m flows.recover` on any machine that
reaches the API and the store, then puts it back, whatever work pool it is in. Heartbeats may also be lost while a run
trains. The run's lease or lock says whether it is in training.
"""

import flows.first  # isort: skip  # noqa: F401  # before anything else of Prefect

import logging
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Failed, Running

from flows.api import HASTE, check_api, wait_for_api
from flows.labels import FLOW, RUN_ID, STORE, Ends, progress_of
from flows.prefect_compat import environment_of, working_dir_of
from flows.service import log_to_stderr, stop_event
from flows.settings import store_from_env
from gan.cli.entry import run_program
from gan.errors import GanError, RunError
from gan.locks import is_locked
from gan.storage.address import is_remote, open_store
from gan.storage.local import LocalStore
from gan.storage.masking import masked
from gan.sync.claims import claim
from gan.sync.lease import DEFAULT_TIMING, live_holder
from gan.sync.stored_run import StoredRun

RECOVER_SECONDS = 10.0
MAX_CRASHES = 3  # of one flow run without progress; after that it fails
PATIENCE_SECONDS = {  # a worker that is running ends these states within this time
    StateType.CRASHED: 0.0,
    StateType.CANCELLING: 60.0,
    StateType.PENDING: 300.0,
}
AWAY = (httpx.HTTPError, PrefectException, GanError, ValueError)  # a ValueError: a page, not an answer

log = logging.getLogger(__name__)


@click.command()
@click.option("--once", is_flag=True, help="Look once, and end. For a scheduler such as cron.")
def command(once: bool) -> int:
    """Put killed runs of gan-train back into their queues, until a signal ends it.

    A worker does the same. Run this where no worker of ours runs, as beside a Kubernetes work pool. PREFECT_API_URL is
    the server. Runs in a bucket need its credentials; runs in a local store are left to their own machine.
    """
    log_to_stderr(log)
    if once:
        check_api()
        _log_all(recover())
        return 0
    stop = stop_event(log, "stopping")
    wait_for_api(lambda: stop.wait(RECOVER_SECONDS))
    log.info("looking for killed runs every %.0f s", RECOVER_SECONDS)
    while not stop.wait(RECOVER_SECONDS):
        recover_or_warn()
    return 0


def recover_or_warn() -> None:
    """Recover once. Log a warning where the API does not answer: the caller tries again soon."""
    try:
        with temporary_settings(HASTE):
            check_api()
            _log_all(recover())
    except AWAY as error:
        log.warning(
            "cannot put killed runs back at present; trying again every %.0f s: %s", RECOVER_SECONDS, said_by(error)
        )


def said_by(error: Exception) -> str:
    """Return what an error of AWAY says: all of ours, and the first line of another's."""
    return masked(str(error) if isinstance(error, GanError) else str(error).partition("\n")[0])


def recover() -> list[str]:
    """Put a new state on the flow runs of our deployments whose processes have ended; return one line for each.

    The same lines come again while a run cannot be put back.
    """
    unfinished = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(PATIENCE_SECONDS))),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )
    ours = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=ours, flow_run_filter=unfinished)
        done = [(run.name, _try_to_recover(client, run)) for run in runs]
    return [f"{name}: {what}" for name, what in done if what]


def _try_to_recover(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Recover one flow run. An error, as of its own store, must not keep the others from being recovered."""
    state = run.state
    assert state is not None
    age_seconds = (datetime.now(UTC) - state.timestamp).total_seconds()
    if age_seconds < PATIENCE_SECONDS[state.type]:
        return None
    try:
        return _recover(client, run, state, age_seconds)
    except GanError as error:
        return f"cannot be put back at present: {error}"


def _recover(client: SyncPrefectClient, run: FlowRun, state: State, age_seconds: float) -> str | None:
    stored = _stored_run(client, run)
    ends = Ends.of(run.labels)
    if not is_in_training(stored):
        follows, ends = _next_state(client, run, state, ends.since(progress_of(stored)))
    elif state.is_crashed() and age_seconds >= 2 * DEFAULT_TIMING.expiry_seconds:
        follows = Running(message="it is still in training")
    else:  # the lease of a killed run stays for a while
        return None
    if not claim(stored, str(state.id)) or _state_id(client, run) != state.id:
        return None
    client.update_flow_run_labels(run.id, ends.labels)
    client.set_flow_run_state(run.id, follows, force=True)
    return f"from {state.name} to {follows.name}: {follows.message}"


def _next_state(client: SyncPrefectClient, run: FlowRun, state: State, ends: Ends) -> tuple[State[None], Ends]:
    """Return the state in which a run whose process has ended goes on, and how often it has ended by now."""
    if any(each.is_cancelling() for each in client.read_flow_run_states(run.id)):
        return Cancelled(message="its process ended before it reported that it was cancelled"), ends
    ends = replace(ends, crashes=ends.crashes + state.is_crashed())
    if ends.crashes > MAX_CRASHES:
        times = f"crashed {ends.crashes} times without progress"
        return Failed(message=f"{times}, the last time: {state.message}"), ends
    # At the time for which it was scheduled at first: it comes before runs that have not begun.
    message = "its process has ended; it resumes from its last checkpoint"
    return AwaitingRetry(message=message, scheduled_time=run.expected_start_time), ends


def _state_id(client: SyncPrefectClient, run: FlowRun) -> object:
    """Return the id of the present state: another process may have changed it before this one claimed it."""
    return client.read_flow_run(run.id).state_id


def is_in_training(run: StoredRun) -> bool:
    """Return whether a process trains a run: in a bucket its lease says so, in a directory its lock.

    Raises RunError where the directory's lock cannot be read.
    """
    if not isinstance(run.store, LocalStore):
        return live_holder(run) is not None
    path = run.store.root / run.prefix
    try:
        return path.exists() and is_locked(path)
    except OSError as error:
        raise RunError(
            f"{path}: its lock cannot be read ({error.strerror}). Check its permissions and mount."
        ) from error


def _stored_run(client: SyncPrefectClient, run: FlowRun) -> StoredRun:
    """Return the run that a flow run trains. Its labels name it, unless its process ended before it wrote them.

    Raises:
        RunError: it is in a directory of another machine.
    """
    store, run_id = run.labels.get(STORE), run.labels.get(RUN_ID)
    if isinstance(store, str) and isinstance(run_id, str):
        found, folder = StoredRun(open_store(store), run_id), Path(store, "runs", run_id)
    else:
        store, run_id, folder = _place_of(client, run)
        found = StoredRun(open_store(store), run_id)
    if not is_remote(store) and not folder.is_dir():
        raise RunError(f"{folder} is no directory of this machine. Its own machine can put the run back.")
    return found


def _place_of(client: SyncPrefectClient, run: FlowRun) -> tuple[str, str, Path]:
    """Return the store, run id and directory of work of a flow run, as its pool and its deployment give them.

    Its paths are seen from where it works, not from this process.
    """
    assert run.deployment_id is not None
    template = client.read_work_pool(run.work_pool_name).base_job_template if run.work_pool_name else {}
    given = (client.read_deployment(run.deployment_id).job_variables, run.job_variables)
    environment = environment_of(template, *given)
    run_id = environment.get("GAN_RUN_ID") or os.environ.get("GAN_RUN_ID") or str(run.id)
    store = environment.get("GAN_STORE") or store_from_env()
    folders = [Path(each["working_dir"]) for each in given if each and each.get("working_dir")]
    work_dir = folders[-1] if folders else working_dir_of(template) or Path()
    return (store if is_remote(store) else str(work_dir / store)), run_id, work_dir


def _log_all(lines: list[str]) -> None:
    for line in lines:
        log.info("%s", line)


if __name__ == "__main__":
    sys.exit(run_program(lambda: command(standalone_mode=False)))
