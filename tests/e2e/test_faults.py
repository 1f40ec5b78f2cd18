"""What becomes of a training when something of the stack stops or dies in the middle of it?

Every run here is of the same config, so that its files have to be the same as those of one that nobody disturbed. Their
data set has no judge: to measure each run would take longer than to train it.
"""

import time
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from tests.e2e.discs import import_discs
from tests.e2e.stack import Stack, wait_for

pytestmark = pytest.mark.e2e

CONFIG: dict[str, Any] = {"data": "faults", "num_steps": 600, "snapshot_steps": 75, "seed": 7}
BEGUN = 150  # steps, when the trouble comes
FOLLOWING = CONFIG | {"num_steps": 75}  # a run that needs the slot of another one
HEARTBEATS_SECONDS = 90  # that are missed before a run counts as killed


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> dict[str, str]:
    """Return the SHA-256 of every file that a run of CONFIG is to have."""
    import_discs(stack, CONFIG["data"])
    return stack.manifest(stack.finish(stack.run(**CONFIG)))


@pytest.fixture
def run(stack: Stack, undisturbed: dict[str, str]) -> FlowRun:
    """Begin a run and wait until it is in the middle."""
    run = stack.run(**CONFIG)
    stack.wait_for_step(run, BEGUN)
    return run


def test_a_stack_that_is_stopped_saves_and_goes_on_by_itself(
    stack: Stack, run: FlowRun, undisturbed: dict[str, str]
) -> None:
    begun = time.monotonic()
    stack.compose("stop", "worker")
    assert time.monotonic() - begun < 60
    assert stack.states(run)[-1] == "AwaitingRetry"
    stack.compose("stop")

    stack.up()

    assert stack.manifest(stack.finish(run)) == undisturbed
    assert "Crashed" not in stack.states(run)
    assert "stopped and saved at step" in stack.logs("worker")


def test_a_killed_worker_leaves_no_zombie_and_its_run_goes_on(
    stack: Stack, run: FlowRun, undisturbed: dict[str, str]
) -> None:
    with stack.away("worker", seconds=1):
        pass
    saved = stack.steps(run)

    wait_for(lambda: "Crashed" in stack.states(run), HEARTBEATS_SECONDS + 40, "Crashed")
    following = stack.run(**FOLLOWING)  # no slot is held by the dead
    stack.finish(run)

    assert stack.manifest(run) == undisturbed
    assert f"training steps {saved + 1} to" in stack.logs("worker")
    stack.finish(following)


@pytest.mark.parametrize("seconds", [60, *(pytest.param(each, marks=pytest.mark.long) for each in (10, 300))])
def test_prefect_server_may_be_away(stack: Stack, run: FlowRun, undisturbed: dict[str, str], seconds: int) -> None:
    with stack.away("prefect-server", seconds):
        pass

    stack.finish(run)

    assert stack.manifest(run) == undisturbed
    wait_for(lambda: stack.trainers() == 0, 30, "no process left")


def test_the_store_and_the_database_may_be_away_at_once(
    stack: Stack, run: FlowRun, undisturbed: dict[str, str]
) -> None:
    with stack.away("minio", seconds=0), stack.away("postgres", seconds=15):
        pass

    stack.finish(run)

    assert stack.manifest(run) == undisturbed
    wait_for(lambda: stack.trainers() == 0, 30, "no process left")


def test_a_cancelled_run_stops_at_once_and_keeps_its_checkpoint(stack: Stack, run: FlowRun) -> None:
    with stack.prefect() as client:
        client.set_flow_run_state(run.id, Cancelling())

    stack.wait_for_state(run, "CANCELLED", seconds=30)

    wait_for(lambda: stack.trainers() == 0, 30, "no process left")
    kept = stack.exec("worker", "ls", f"/work/store/runs/{run.id}/checkpoints")
    assert "safetensors" in kept
    stack.finish(stack.run(**FOLLOWING))
    assert stack.states(run)[-1] == "Cancelled"
