"""How does a test run the flow in its own process, and how does it make flow runs that are in a certain state?"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectAlreadyExists

from flows.deploy import make_pool
from flows.gan_train import gan_train
from flows.worker import POOL
from gan.config import TrainConfig

CONFIG = TrainConfig(num_steps=20, snapshot_steps=10, batch_size=32, num_threads=1)


def run(config: TrainConfig = CONFIG) -> State[Any]:
    state: State[Any] = gan_train(config, return_state=True)
    return state


def new_run(
    *states: State, job_variables: dict[str, Any] | None = None, pool: str = POOL, of: Flow[..., Any] = gan_train
) -> FlowRun:
    """Create a flow run of a deployment and set these states one after the other."""
    with get_client(sync_client=True) as client:
        make_pool(client, Path())
        if pool != POOL:
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="kubernetes"))
        deployment_id = client.create_deployment(client.create_flow(of), "tested", work_pool_name=pool)
        created = client.create_flow_run_from_deployment(deployment_id, job_variables=job_variables)
    set_states(created, *states)
    return created


def set_states(created: FlowRun, *states: State) -> None:
    """Set these states of a flow run one after the other."""
    with get_client(sync_client=True) as client:
        for state in states:
            client.set_flow_run_state(created.id, state, force=True)


def state_of(created: FlowRun) -> State:
    """Return the present state of a flow run."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(created.id).state
    assert state is not None
    return state
