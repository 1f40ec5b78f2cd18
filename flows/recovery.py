"""Which flow runs of a deployment go on by themselves, and when?

A run that is stopped with its worker puts itself back into the queue. One that is killed cannot: the automation of
flows.deploy calls it Crashed when its heartbeats stay away, and `recover`, which each worker calls every few seconds,
puts it back. A heartbeat says whether Prefect has heard of a run, a lease whether it is trained; the second counts.
"""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
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
from prefect.exceptions import Abort
from prefect.runtime import flow_run as this_flow_run
from prefect.states import AwaitingRetry, Cancelled, Failed, Running

from flows.settings import run_path_in
from gan.errors import RunError
from gan.runs.run_dir import RunDir
from gan.storage.address import is_remote, open_store
from gan.sync.lease import DEFAULT_TIMING, live_holder
from gan.sync.stored_run import StoredRun

BACK_SECONDS = 20  # after a stop, so that the worker that is stopping, and looks 10 s ahead, does not take it
MAX_CRASHES = 3  # of one flow run; a run that crashes again would for ever
PATIENCE_SECONDS = {  # in a state that ends by itself, if a worker is there to end it
    StateType.CRASHED: 0.0,
    StateType.CANCELLING: 60.0,
    StateType.PENDING: 300.0,
}

log = logging.getLogger("gan.resume")


def put_back(message: str) -> NoReturn:
    """Put this process's flow run back into the queue of its work pool, and end it here."""
    later: State[None] = AwaitingRetry(
        message=message, scheduled_time=datetime.now(UTC) + timedelta(seconds=BACK_SECONDS)
    )
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(this_flow_run.id), later, force=True)
    raise Abort(message)


def is_cancelling() -> bool:
    """Tell whether somebody has asked for this process's flow run to be cancelled."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(this_flow_run.id)).state
    return state is not None and state.is_cancelling()


def recover(pool: str, store: str) -> list[str]:
    """Move on the flow runs of a pool that hang in a state, as their processes are gone; return what was done."""
    waiting = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(PATIENCE_SECONDS))),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=waiting, work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        )
        return [f"{run.name}: {done}" for run in runs if (done := _recover(client, run, store))]


def _recover(client: SyncPrefectClient, run: FlowRun, store: str) -> str | None:
    state = run.state
    assert state is not None
    age_seconds = (datetime.now(UTC) - state.timestamp).total_seconds()
    if age_seconds < PATIENCE_SECONDS[state.type]:
        return None
    if is_trained(str(run.id), store):
        # A lease outlives a killed holder for a while; one that is renewed after that has a living one.
        if not state.is_crashed() or age_seconds < 2 * DEFAULT_TIMING.expiry_seconds:
            return None
        client.set_flow_run_state(run.id, Running(message="it is being trained all the same"), force=True)
        return "is being trained, and Running again"
    follows = _next_state(client, run, state)
    if follows is None:
        return None
    client.set_flow_run_state(run.id, follows, force=True)
    return f"was {state.name}, is {follows.name}: {follows.message}"


def _next_state(client: SyncPrefectClient, run: FlowRun, state: State) -> State | None:
    states = client.read_flow_run_states(run.id)
    if any(each.is_cancelling() for each in states):
        return Cancelled(message="its process ended before it could say so")
    crashes = [each for each in states if each.is_crashed()]
    if len(crashes) > MAX_CRASHES:
        return Failed(message=f"crashed {len(crashes)} times, the last time: {state.message}")
    return AwaitingRetry(message="its process is gone; it goes on from its last checkpoint")


def is_trained(run_id: str, store: str) -> bool:
    """Tell whether a process trains a run: by its lease in a store elsewhere, by its lock in a directory."""
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
