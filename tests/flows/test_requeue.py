"""Which state does a flow run get whose run was taken over, or whose store fails?"""

from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import Abort

from gan.config import TrainConfig
from gan.errors import RunError, StorageError, TakenOverError
from tests.support.flow_run import run

pytestmark = pytest.mark.usefixtures("api")


def taken_over(*_: object) -> str:
    raise TakenOverError("run mine was taken over by process 7 on elsewhere")


def test_the_flow_run_of_a_command_whose_run_was_taken_over_is_cancelled(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.gan_train.publish_run", taken_over)
    state = run(TrainConfig())
    assert state.is_cancelled() and state.message == "run mine was taken over by process 7 on elsewhere"


def test_the_flow_run_of_a_deployment_whose_run_was_taken_over_gets_no_state(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.publish_run", taken_over)
    assert states_of_ended_run() == ["Pending", "Running"]


@pytest.mark.parametrize("ends", [RunError("no"), StorageError("no"), KeyboardInterrupt(), None])
def test_a_process_whose_lease_has_expired_does_not_say_how_the_run_ended(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None
) -> None:
    def end(*_: object) -> None:
        if ends:
            raise ends

    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.hold_run", lambda *_: Expired())
    monkeypatch.setattr("flows.gan_train.train_gan", lambda *_, **__: SimpleNamespace(result=lambda: None))
    monkeypatch.setattr("flows.gan_train.publish_run", end)
    assert states_of_ended_run() == ["Pending", "Running"]


class Expired:
    """A lease that could not be renewed, in a store that does not answer."""

    def check(self) -> None:
        raise StorageError("the lease of run mine could not be renewed for 58 s")

    confirm = check


def test_a_store_that_fails_puts_the_run_of_a_deployment_back_for_a_while(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageError("s3://gan does not answer.")

    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.publish_run", away)
    assert states_of_ended_run() == ["Pending", "Running", "AwaitingRetry"]


def deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the flow believe that a worker runs it."""
    for module in ("flows.gan_train", "flows.tasks"):
        monkeypatch.setattr(f"{module}.deployment", SimpleNamespace(id="a deployment"))


def states_of_ended_run() -> list[str]:
    """Run the flow, which ends its process, and return the states of its flow run."""
    with pytest.raises(Abort):
        run(TrainConfig())
    with get_client(sync_client=True) as client:
        (newest,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        return [state.name or "" for state in client.read_flow_run_states(newest.id)]
