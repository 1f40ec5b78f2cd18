"""Which flow runs of a deployment are scheduled again, and which are not changed?"""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from click.testing import CliRunner
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running

from flows import recover as module
from flows.deploy import make_pool
from flows.labels import CRASHES, labels_of_place
from flows.recover import MAX_CRASHES, PATIENCE_SECONDS, command, recover, recover_or_warn
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.sync.claims import claim
from gan.sync.lease import Timing, hold
from gan.sync.stored_run import StoredRun
from tests.support.flow_run import new_run, set_states, state_of
from tests.support.s3_server import S3Server, new_address

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a store, and shorten all waiting times."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", dict.fromkeys(PATIENCE_SECONDS, 0.0))
    monkeypatch.setenv("GAN_STORE", str(tmp_path / "store"))
    return str(tmp_path / "store")


def labelled(run: FlowRun, store: str) -> FlowRun:
    """Write into the labels of a flow run where its run is, as the run itself does."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run.id, labels_of_place(store, str(run.id)))
    return run


def make_progress(run: FlowRun, store: str, step: int) -> None:
    path = Path(store, "runs", str(run.id), "checkpoints", f"step-{step:06d}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("states", "follows"),
    [
        ([Running(), Crashed()], "AwaitingRetry"),
        ([Running(), Cancelling()], "Cancelled"),
        ([Running(), Cancelling(), Crashed()], "Cancelled"),
        ([Pending()], "AwaitingRetry"),
        ([Running()], "Running"),
        ([Running(), Failed()], "Failed"),
        ([Running(), Completed()], "Completed"),
    ],
)  # fmt: skip
def test_the_state_after_a_recovery(store: str, states: list[State], follows: str) -> None:
    run = new_run(*states)
    recover()
    assert state_of(run).name == follows


def crash(run: FlowRun) -> State:
    """Let the process of a flow run be killed, and recover; return the state after that."""
    set_states(run, Running(), Crashed(message="out of memory"))
    recover()
    return state_of(run)


def test_a_run_that_crashes_again_and_again_without_progress_fails(store: str) -> None:
    run = new_run()
    assert [crash(run).name for _ in range(MAX_CRASHES + 1)] == [*MAX_CRASHES * ["AwaitingRetry"], "Failed"]
    assert state_of(run).message == "crashed 4 times without progress, the last time: out of memory"


def test_crashes_are_counted_since_the_last_progress(store: str) -> None:
    run = labelled(new_run(), store)
    for step in range(1, MAX_CRASHES + 3):
        make_progress(run, store, step)
        assert crash(run).name == "AwaitingRetry"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run.id).labels[CRASHES] == 1
    assert [crash(run).name for _ in range(MAX_CRASHES)] == [*(MAX_CRASHES - 1) * ["AwaitingRetry"], "Failed"]


def test_a_recovered_run_comes_before_runs_that_have_not_begun(store: str) -> None:
    run, later = new_run(Running(), Crashed()), new_run()
    recover()
    first, second = (state_of(each).state_details.scheduled_time for each in (run, later))
    assert first and second and first < second  # workers take runs in this order


def test_a_state_that_may_end_by_itself_is_not_changed_at_once(tmp_path: Path) -> None:
    runs = [new_run(Running(), Cancelling()), new_run(Pending())]
    recover()
    assert [state_of(run).name for run in runs] == ["Cancelling", "Pending"]


def test_a_run_whose_store_fails_does_not_keep_others_in_the_crash(store: str) -> None:
    bad = new_run(Running(), Crashed(), job_variables={"env": {"GAN_STORE": "s3://"}})
    good = new_run(Running(), Crashed())
    lines = recover()
    assert any(line.startswith(f"{bad.name}: cannot be put back at present: s3://") for line in lines)
    assert (state_of(bad).name, state_of(good).name) == ("Crashed", "AwaitingRetry")


def test_runs_of_every_pool_are_recovered(store: str) -> None:
    run = new_run(Running(), Crashed(), pool="kubernetes")
    recover()
    assert state_of(run).name == "AwaitingRetry"


def test_runs_of_another_flow_are_not_changed(store: str) -> None:
    @flow
    def another() -> None:
        """Do nothing."""

    run = new_run(Running(), Crashed(), of=another)
    recover()
    assert state_of(run).name == "Crashed"


def test_a_run_whose_directory_is_locked_is_not_started_twice(store: str) -> None:
    run = new_run(Running(), Crashed())
    path = Path(store, "runs", str(run.id))
    path.mkdir(parents=True)
    with RunDir(path).locked():
        recover()
        assert state_of(run).name == "Crashed"
    recover()
    assert state_of(run).name == "AwaitingRetry"


def test_another_process_that_looks_whether_a_run_is_trained_is_not_taken_for_its_trainer(store: str) -> None:
    run = new_run(Running(), Crashed())
    path = Path(store, "runs", str(run.id))
    path.mkdir(parents=True)
    other = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(other, fcntl.LOCK_SH)
    recover()
    os.close(other)
    assert state_of(run).name == "AwaitingRetry"


@pytest.mark.parametrize(
    "of_the_run", [{}, {"working_dir": "."}, {"env": {"GAN_STORE": "other", "GAN_RUN_ID": "mine"}}]
)
def test_a_run_is_looked_for_where_it_works(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_the_run: dict[str, Any]
) -> None:
    """The worker may have been started in another folder."""
    monkeypatch.setenv("GAN_STORE", "store")
    run = new_run(Running(), Crashed(), job_variables=of_the_run)
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    with get_client(sync_client=True) as client:
        make_pool(client, work_dir)
    environment = of_the_run.get("env", {"GAN_STORE": "store", "GAN_RUN_ID": str(run.id)})
    path = (tmp_path if "working_dir" in of_the_run else work_dir) / environment["GAN_STORE"] / "runs"
    path = path / environment["GAN_RUN_ID"]
    path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with RunDir(path).locked():
        recover()
        assert state_of(run).name == "Crashed"
    recover()
    assert state_of(run).name == "AwaitingRetry"


def test_the_labels_of_a_run_say_where_it_is(store: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    run = labelled(new_run(Running(), Crashed()), other)
    make_progress(run, other, 1)
    with RunDir(Path(other, "runs", str(run.id))).locked():
        recover()
        assert state_of(run).name == "Crashed"


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_run_in_a_directory_of_another_machine_is_left_to_that_machine(
    store: str, tmp_path: Path, has_begun: bool
) -> None:
    there = tmp_path / "there"
    run = new_run(Running(), Crashed(), job_variables={"working_dir": str(there)})
    if has_begun:
        labelled(run, str(there / "store"))
    (line,) = (line for line in recover() if line.startswith(run.name))
    assert "is no directory of this machine. Its own machine can put the run back." in line
    assert state_of(run).name == "Crashed" and not there.exists()


def test_a_state_that_another_process_has_claimed_is_not_changed(store: str) -> None:
    run = labelled(new_run(Running(), Crashed()), store)
    make_progress(run, store, 1)
    assert claim(StoredRun(open_store(store), str(run.id)), str(state_of(run).id))
    recover()
    assert state_of(run).name == "Crashed"


def test_a_state_that_is_replaced_meanwhile_is_not_changed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(Running(), Crashed())

    def claim_late(*_: object) -> bool:
        set_states(run, Completed())
        return True

    monkeypatch.setattr(module, "claim", claim_late)
    recover()
    assert state_of(run).name == "Completed"


def test_a_crashed_run_that_is_still_being_trained_becomes_running(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = new_address()
    run = labelled(new_run(Running(), Crashed()), address)
    with hold(StoredRun(open_store(address), str(run.id))):
        recover()
        assert state_of(run).name == "Crashed"  # a killed holder's lease would look the same by now
        monkeypatch.setattr(module, "DEFAULT_TIMING", Timing(0, 0))
        recover()
        assert state_of(run).name == "Running"


def test_the_command_recovers_once(store: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = new_run(Running(), Crashed())
    done = CliRunner().invoke(command, ["--once"])
    assert done.exit_code == 0, done.output
    assert state_of(run).name == "AwaitingRetry"


def test_a_server_that_is_away_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        recover_or_warn()
    assert "cannot put killed runs back at present; trying again every 10 s" in caplog.text


NUM_CRASHES = 200 if os.environ.get("FAULTS") == "long" else 4


def times_put_back_by_two(run: FlowRun) -> int:
    """Let two processes find the same crash at the same time; return how often they have put the run back together."""
    set_states(run, Running(), Crashed())
    with get_client(sync_client=True) as client, ThreadPoolExecutor(2) as pool:
        before = len(client.read_flow_run_states(run.id))
        lines = [each.result() for each in [pool.submit(copy_context().run, recover) for _ in range(2)]]
        num_changes = len(client.read_flow_run_states(run.id)) - before
    assert num_changes == sum(line.startswith(run.name) for each in lines for line in each)
    return num_changes


def test_two_processes_put_a_run_back_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = labelled(new_run(), store)
    for step in range(NUM_CRASHES):
        make_progress(run, store, step)
        assert times_put_back_by_two(run) == 1
        assert state_of(run).name == "AwaitingRetry"


def test_without_claims_two_processes_put_a_run_back_twice(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_decided = Barrier(2)
    monkeypatch.setattr(module, "claim", lambda *_: both_have_decided.wait(10) >= 0)
    run = labelled(new_run(), store)
    make_progress(run, store, 1)
    assert times_put_back_by_two(run) == 2
