"""When is a flow run of a deployment put back into the queue, to resume from its checkpoint?

A run that stops because its worker stops puts itself back into the queue. A killed run cannot do that. The automation
of flows.deploy sets it to Crashed when its heartbeats stop, and `recover`, which each worker calls every few seconds,
puts it back. Heartbeats may also be lost while a run trains. The run's lease or lock says whether it is in training.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as this_flow_run
from prefect.states import AwaitingRetry, Cancelled, Failed, Running

from flows.prefect_compat import end_process, environment_of, working_dir_of
from flows.settings import run_path_in
from gan.errors import GanError, RunError, SettingError
from gan.runs.run_dir import RunDir
from gan.storage.address import is_remote, open_store
from gan.sync.lease import DEFAULT_TIMING, live_holder
from gan.sync.stored_run import StoredRun

REQUEUE_SECONDS = 20  # the stopping worker takes runs up to 10 s ahead, and must not take this one
FAILED = "failed: "  # begins the message of a state in which a run waits to be tried again
MAX_DELAY_SECONDS = 3600
MAX_ATTEMPTS = 32  # with delays of 20, 40, ..., 3600, 3600 s: about a day
MAX_CRASHES = 3  # of one flow run; after that it fails
PATIENCE_SECONDS = {  # a worker that is running ends these states within this time
    StateType.CRASHED: 0.0,
    StateType.CANCELLING: 60.0,
    StateType.PENDING: 300.0,
}


def put_back(message: str, seconds: float = REQUEUE_SECONDS) -> NoReturn:
    """Put the flow run of this process back into its work pool's queue, and end the process."""
    later: State[None] = AwaitingRetry(message=message, scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(this_flow_run.id), later, force=True)
    end_process(message)


def put_back_later(message: str) -> None:
    """Put the flow run of this process back, to try again after a delay that doubles each time.

    Return, doing nothing, after a day in which each attempt has failed.
    """
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(this_flow_run.id))
    num_before = sum((state.message or "").startswith(FAILED) for state in states)
    delay = min(REQUEUE_SECONDS * 2**num_before, MAX_DELAY_SECONDS)
    if num_before < MAX_ATTEMPTS:
        put_back(f"{FAILED}{message} It is tried again in {delay:,} s.", delay)


def is_cancelling() -> bool:
    """Return whether a user has asked to cancel the flow run of this process."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(this_flow_run.id)).state
    return state is not None and state.is_cancelling()


def recover(pool: str, store: str) -> list[str]:
    """Put a new state on the flow runs of a pool whose processes have ended; return one line for each."""
    unfinished = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(PATIENCE_SECONDS))),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=unfinished, work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        )
        template = client.read_work_pool(pool).base_job_template if runs else {}
        done = [(run.name, _try_to_recover(client, run, template, store)) for run in runs]
    return [f"{name}: {what}" for name, what in done if what]


def _try_to_recover(client: SyncPrefectClient, run: FlowRun, template: dict[str, Any], store: str) -> str | None:
    """Recover one flow run. An error, as of its own store, must not keep the others from being recovered."""
    try:
        return _recover(client, run, *_place_of(client, run, template, store))
    except GanError as error:
        return f"cannot be put back at present: {error}"


def check_work_dir(pool: str) -> None:
    """Raise SettingError if a pool, or the directory in which its runs work, is not there."""
    try:
        with get_client(sync_client=True) as client:
            work_dir = working_dir_of(client.read_work_pool(pool).base_job_template)
    except ObjectNotFound as error:
        raise SettingError(f"There is no work pool {pool} yet. Make it by `python -m flows.deploy`.") from error
    if work_dir and not work_dir.is_dir():
        raise SettingError(
            f"The runs of the work pool {pool} work in {work_dir}, which is no directory of this machine. Make it, or "
            "set GAN_WORK_DIR to another one and run `python -m flows.deploy`."
        )


def _place_of(client: SyncPrefectClient, run: FlowRun, template: dict[str, Any], store: str) -> tuple[str, str]:
    """Return the run id and the store of a flow run. Its paths are seen from where it works, not from this process."""
    assert run.deployment_id is not None
    given = (client.read_deployment(run.deployment_id).job_variables, run.job_variables)
    environment = environment_of(template, *given)
    run_id = environment.get("GAN_RUN_ID") or os.environ.get("GAN_RUN_ID") or str(run.id)
    store = environment.get("GAN_STORE") or store
    if is_remote(store):
        return run_id, store
    folders = [Path(each["working_dir"]) for each in given if each and each.get("working_dir")]
    work_dir = folders[-1] if folders else working_dir_of(template) or Path()
    return run_id, str(work_dir / store)


def _recover(client: SyncPrefectClient, run: FlowRun, run_id: str, store: str) -> str | None:
    state = run.state
    assert state is not None
    age_seconds = (datetime.now(UTC) - state.timestamp).total_seconds()
    if age_seconds < PATIENCE_SECONDS[state.type]:
        return None
    if is_in_training(run_id, store):
        # The lease of a killed run stays for a while. If it is still renewed after that, the run is in training.
        if not state.is_crashed() or age_seconds < 2 * DEFAULT_TIMING.expiry_seconds:
            return None
        client.set_flow_run_state(run.id, Running(message="it is still in training"), force=True)
        return "is still in training: set to Running"
    follows = _next_state(client, run, state)
    if follows is None:
        return None
    client.set_flow_run_state(run.id, follows, force=True)
    return f"from {state.name} to {follows.name}: {follows.message}"


def _next_state(client: SyncPrefectClient, run: FlowRun, state: State) -> State | None:
    states = client.read_flow_run_states(run.id)
    if any(each.is_cancelling() for each in states):
        return Cancelled(message="its process ended before it reported that it was cancelled")
    crashes = [each for each in states if each.is_crashed()]
    if len(crashes) > MAX_CRASHES:
        return Failed(message=f"crashed {len(crashes)} times, the last time: {state.message}")
    return AwaitingRetry(message="its process has ended; it resumes from its last checkpoint")


def is_in_training(run_id: str, store: str) -> bool:
    """Return whether a process trains a run: in a bucket its lease says so, in a directory its lock."""
    if is_remote(store):
        return live_holder(StoredRun(open_store(store), run_id)) is not None
    return _is_locked(run_path_in(store, run_id))


def _is_locked(run_path: Path) -> bool:
    if not run_path.exists():
        return False
    try:
        with RunDir(run_path).locked():
            return False
    except RunError:
        return True
