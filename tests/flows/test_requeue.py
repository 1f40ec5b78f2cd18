"""Which state does a flow run get whose run was taken over, or that has met an error that may pass?"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import Abort
from prefect.runtime import flow_run as this_flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending, Running

from flows.labels import FAILURES, RUN_ID, STORE
from flows.requeue import MAX_FAILURES, check_ours, label_run, put_back_later
from flows.settings import Settings
from flows.tasks import publish_run
from gan.config import TrainConfig
from gan.errors import DeviceError, DownloadError, GanError, RunError, RunInUseError, StorageError, TakenOverError
from gan.storage.local import LocalStore
from gan.sync.claims import claim
from gan.sync.stored_run import StoredRun
from tests.support.flow_run import new_run, run, state_of
from tests.support.tcp_proxy import TcpProxy, proxy_to

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


ENDS = [RunError("no"), StorageError("no"), KeyboardInterrupt(), None]
NAMES = ["Failed", "AwaitingRetry", "AwaitingRetry", "Completed"]  # of the states that follow


class Held:
    """A lease that this process holds."""

    def check(self) -> None:
        pass


class Expired:
    """A lease that could not be renewed, in a store that does not answer."""

    def check(self) -> None:
        raise StorageError("the lease of run mine could not be renewed for 58 s")

    confirm = check


def end(
    monkeypatch: pytest.MonkeyPatch, lease: Held | Expired | None, ends: BaseException | None, *meanwhile: State
) -> list[str]:
    """End a run after Prefect got these states; return the states in order."""

    def publish(*_: object) -> None:
        with get_client(sync_client=True) as client:
            for state in meanwhile:
                client.set_flow_run_state(UUID(this_flow_run.id), state, force=True)
        if ends:
            raise ends

    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.hold_run", lambda *_: lease)
    monkeypatch.setattr("flows.gan_train.label_run", lambda *_: None)
    monkeypatch.setattr("flows.gan_train.train_gan", lambda *_, **__: SimpleNamespace(result=lambda: None))
    monkeypatch.setattr("flows.gan_train.publish_run", publish)
    monkeypatch.setattr("flows.gan_train.evaluate_gan", lambda *_: None)
    return states_of_ended_run()


@pytest.mark.parametrize(("ends", "name"), list(zip(ENDS, NAMES, strict=True)))
def test_a_process_whose_lease_has_expired_says_how_the_run_ended_while_it_is_the_only_one(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None, name: str
) -> None:
    assert end(monkeypatch, Expired(), ends) == ["Pending", "Running", name]


@pytest.mark.parametrize("ends", ENDS)
def test_a_process_whose_lease_has_expired_says_nothing_of_a_run_that_others_may_train(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None
) -> None:
    assert end(monkeypatch, Expired(), ends, Crashed()) == ["Pending", "Running", "Crashed"]


@pytest.mark.parametrize("ends", ENDS)
def test_a_process_whose_lease_has_expired_says_nothing_of_a_run_that_runs_elsewhere(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None
) -> None:
    states = ["Pending", "Running", "Crashed", "AwaitingRetry", "Running"]
    assert end(monkeypatch, Expired(), ends, Crashed(), AwaitingRetry(), Running()) == states


@pytest.mark.parametrize("ends", ENDS)
def test_a_process_says_nothing_of_a_run_that_is_in_the_queue_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None
) -> None:
    """The process that runs it next finds what was published: it alone sets Completed."""
    states = ["Pending", "Running", "Crashed", "AwaitingRetry"]
    assert end(monkeypatch, Held(), ends, Crashed(), AwaitingRetry()) == states


@pytest.mark.parametrize("lease", [Held(), None], ids=["in a bucket", "in a directory"])
@pytest.mark.parametrize("meanwhile", [Pending(), Completed(), Failed(), Cancelled()], ids=lambda state: state.name)
def test_a_process_says_nothing_of_a_run_that_begins_elsewhere_or_has_ended(
    finished: Path, monkeypatch: pytest.MonkeyPatch, lease: Held | None, meanwhile: State
) -> None:
    assert end(monkeypatch, lease, None, meanwhile) == ["Pending", "Running", meanwhile.name]


@pytest.mark.parametrize(("ends", "name"), list(zip(ENDS, NAMES, strict=True)))
def test_a_process_that_holds_a_crashed_run_sets_it_to_running_before_it_says_how_it_ended(
    finished: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None, name: str
) -> None:
    """A crashed run would be put back once it is released."""
    states = ["Pending", "Running", "Crashed", "Running", name]
    assert end(monkeypatch, Held(), ends, Crashed()) == states


def test_a_process_that_cannot_hold_a_run_says_nothing_after_its_holder_has_completed_it(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(*_: object) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(this_flow_run.id), Completed(), force=True)
        raise RunInUseError("run mine is being trained by process 7 on elsewhere.")

    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.hold_run", hold)
    assert states_of_ended_run() == ["Pending", "Running", "Completed"]


@pytest.mark.parametrize(
    "error",
    [
        StorageError("s3://gan does not answer."),
        DownloadError("no mirror has the file."),
        DeviceError("no GPU is usable."),
        RunInUseError("run mine is being trained by process 7 on elsewhere."),
    ],
)
def test_an_error_that_may_pass_puts_the_run_of_a_deployment_back_for_a_while(
    finished: Path, monkeypatch: pytest.MonkeyPatch, error: GanError
) -> None:
    def fail(*_: object) -> None:
        raise error

    deploy(monkeypatch)
    monkeypatch.setattr("flows.gan_train.publish_run", fail)
    assert states_of_ended_run() == ["Pending", "Running", "AwaitingRetry"]


def test_the_delay_doubles_until_the_run_makes_progress(
    finished: Path, deployed_run: FlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day without progress, the run is not put back any more."""
    settings = Settings.from_env()
    assert [delay_of(deployed_run, settings) for _ in range(3)] == [20, 40, 80]
    (finished / "manifest.json").unlink()
    assert delay_of(deployed_run, settings) == 160
    shutil.copy(finished / "checkpoints/step-000020.safetensors", finished / "checkpoints/step-000030.safetensors")
    assert delay_of(deployed_run, settings) == 20
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(deployed_run.id, {FAILURES: MAX_FAILURES - 1})
    assert delay_of(deployed_run, settings) == 3600
    put_back_later("no", settings)


def delay_of(deployed_run: FlowRun, settings: Settings) -> int:
    """Put a flow run back, as if this were its process, and return the delay in seconds."""
    with pytest.raises(Abort, match=r"failed: no It is tried again in [\d,]+ s\.") as aborted:
        put_back_later("no", settings)
    assert state_of(deployed_run).name == "AwaitingRetry"
    return int(str(aborted.value).split()[-2].replace(",", ""))


@pytest.fixture
def deployed_run(monkeypatch: pytest.MonkeyPatch) -> FlowRun:
    """Create a flow run, and make this process believe that it is its own."""
    made = new_run(Running())
    monkeypatch.setattr("flows.requeue.this_flow_run", SimpleNamespace(id=str(made.id), run_count=1))
    return made


def test_the_labels_of_a_flow_run_have_the_store_without_credentials(
    finished: Path, deployed_run: FlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parents[2])
    label_run(replace(Settings.from_env(), store="store"))
    with get_client(sync_client=True) as client:
        labels = client.read_flow_run(deployed_run.id).labels
    assert (labels[STORE], labels[RUN_ID]) == (str(finished.parents[1].resolve()), "mine")


def test_a_process_that_cannot_reach_prefect_ends_with_an_error(
    finished: Path, deployed_run: FlowRun, caplog: pytest.LogCaptureFixture
) -> None:
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away), pytest.raises(SystemExit) as ended:
        put_back_later("no", Settings.from_env())
    assert ended.value.code == 1 and "Prefect cannot be told how this run ended" in caplog.text
    assert state_of(deployed_run).name == "Running"


@pytest.fixture
def away(api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    """Let nobody reach Prefect, and yield the proxy that can change it."""
    deploy(monkeypatch)
    monkeypatch.setattr("flows.requeue.API_POLL_SECONDS", 0.1)
    with (
        proxy_to(urlsplit(api).port or 0) as proxy,
        temporary_settings({PREFECT_API_URL: f"{proxy.url}/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
    ):
        proxy.refuse()
        yield proxy


def test_a_process_waits_for_prefect_before_it_says_how_a_run_ended(deployed_run: FlowRun, away: TcpProxy) -> None:
    """Prefect may be restarted just when a run of many hours ends."""
    begun = time.monotonic()
    Timer(1, away.accept).start()
    check_ours(Held())
    assert time.monotonic() - begun >= 1


def test_a_process_does_not_wait_for_prefect_after_a_signal_or_for_too_long(
    deployed_run: FlowRun, away: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.monotonic()
    with pytest.raises(SystemExit):
        check_ours(Held(), patient=False)
    monkeypatch.setattr("flows.requeue.API_SECONDS", 1)
    with pytest.raises(SystemExit):
        check_ours(Held())
    assert 1 <= time.monotonic() - begun < 10


def test_a_run_that_is_published_has_no_claims_any_more(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(finished.parents[1])
    assert claim(StoredRun(store, "mine"), "crashed")
    deploy(monkeypatch)
    publish_run.fn(Settings.from_env(), None)
    assert list(store.list("claims/")) == []


def deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the flow believe that a worker runs it."""
    for module in ("flows.gan_train", "flows.tasks", "flows.requeue"):
        monkeypatch.setattr(f"{module}.deployment", SimpleNamespace(id="a deployment"))


def states_of_ended_run() -> list[str]:
    """Run the flow, which ends its process where another state than its own stays; return the states of its run."""
    with suppress(Abort):
        run(TrainConfig())
    with get_client(sync_client=True) as client:
        (newest,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        return [state.name or "" for state in client.read_flow_run_states(newest.id)]
