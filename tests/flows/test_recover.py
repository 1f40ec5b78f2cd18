"""Which flow runs of a deployment are scheduled again, and which are not changed?"""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelling, Completed, Crashed, Failed, Pending, Running

from flows import recovery as resume
from flows.deploy import make_pool
from flows.gan_train import gan_train
from flows.recovery import MAX_CRASHES, PATIENCE_SECONDS, check_work_dir, recover
from flows.worker import POOL
from gan.errors import SettingError
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.sync.lease import Timing, hold
from gan.sync.stored_run import StoredRun
from tests.support.s3_server import S3Server, new_address

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a store, and shorten all waiting times."""
    monkeypatch.setattr(resume, "PATIENCE_SECONDS", dict.fromkeys(PATIENCE_SECONDS, 0.0))
    return str(tmp_path / "store")


def new_run(*states: State, job_variables: dict[str, Any] | None = None) -> FlowRun:
    """Create a flow run of a deployment and set these states one after the other."""
    with get_client(sync_client=True) as client:
        make_pool(client, Path())
        flow_id = client.create_flow(gan_train)
        deployment_id = client.create_deployment(flow_id, "tested", work_pool_name=POOL)
        run = client.create_flow_run_from_deployment(deployment_id, job_variables=job_variables)
        for state in states:
            client.set_flow_run_state(run.id, state, force=True)
    return run


def state_of(run: FlowRun) -> State:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("states", "follows"),
    [
        ([Running(), Crashed()], "AwaitingRetry"),
        ([Running(), *MAX_CRASHES * [Crashed(), Running()], Crashed(message="out of memory")], "Failed"),
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
    recover(POOL, store)
    assert state_of(run).name == follows


def test_the_state_of_a_failed_run_says_how_it_ended(store: str) -> None:
    run = new_run(*(MAX_CRASHES + 1) * [Running(), Crashed(message="out of memory")])
    (line,) = recover(POOL, store)
    assert state_of(run).message == "crashed 4 times, the last time: out of memory"
    assert run.name in line


def test_a_state_that_may_end_by_itself_is_not_changed_at_once(tmp_path: Path) -> None:
    runs = [new_run(Running(), Cancelling()), new_run(Pending())]
    recover(POOL, str(tmp_path))
    assert [state_of(run).name for run in runs] == ["Cancelling", "Pending"]


def test_a_run_whose_store_fails_does_not_keep_others_in_the_crash(store: str) -> None:
    bad = new_run(Running(), Crashed(), job_variables={"env": {"GAN_STORE": "s3://"}})
    good = new_run(Running(), Crashed())
    lines = recover(POOL, store)
    assert any(line.startswith(f"{bad.name}: cannot be put back at present: s3://") for line in lines)
    assert (state_of(bad).name, state_of(good).name) == ("Crashed", "AwaitingRetry")


def test_runs_of_another_pool_are_not_changed(store: str) -> None:
    run = new_run(Running(), Crashed())
    recover("another", store)
    assert state_of(run).name == "Crashed"


def test_a_run_whose_directory_is_locked_is_not_started_twice(store: str) -> None:
    run = new_run(Running(), Crashed())
    path = Path(store, "runs", str(run.id))
    path.mkdir(parents=True)
    with RunDir(path).locked():
        recover(POOL, store)
        assert state_of(run).name == "Crashed"
    recover(POOL, store)
    assert state_of(run).name == "AwaitingRetry"


@pytest.mark.parametrize(
    "of_the_run", [{}, {"working_dir": "."}, {"env": {"GAN_STORE": "other", "GAN_RUN_ID": "mine"}}]
)
def test_a_run_is_looked_for_where_it_works(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_the_run: dict[str, Any]
) -> None:
    """The worker may have been started in another folder."""
    run = new_run(Running(), Crashed(), job_variables=of_the_run)
    work_dir = tmp_path / "work"
    with get_client(sync_client=True) as client:
        make_pool(client, work_dir)
    environment = of_the_run.get("env", {"GAN_STORE": "store", "GAN_RUN_ID": str(run.id)})
    path = (tmp_path if "working_dir" in of_the_run else work_dir) / environment["GAN_STORE"] / "runs"
    path = path / environment["GAN_RUN_ID"]
    path.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with RunDir(path).locked():
        recover(POOL, "store")
        assert state_of(run).name == "Crashed"
    recover(POOL, "store")
    assert state_of(run).name == "AwaitingRetry"


def test_a_pool_whose_directory_is_not_here(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        make_pool(client, tmp_path / "elsewhere")
    with pytest.raises(SettingError, match=r"The runs of the work pool gpu work in .*elsewhere, which is no directory"):
        check_work_dir(POOL)
    with pytest.raises(SettingError, match=r"There is no work pool another yet. Make it by `python -m flows.deploy`"):
        check_work_dir("another")


def test_a_crashed_run_that_is_still_being_trained_becomes_running(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, run = new_address(), new_run(Running(), Crashed())
    with hold(StoredRun(open_store(address), str(run.id))):
        recover(POOL, address)
        assert state_of(run).name == "Crashed"  # a killed holder's lease would look the same by now
        monkeypatch.setattr(resume, "DEFAULT_TIMING", Timing(0, 0))
        recover(POOL, address)
        assert state_of(run).name == "Running"
