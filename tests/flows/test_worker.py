"""Does a run that is stopped with its worker resume with the next one, to the same bytes?"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.worker
from flows.deploy import make_pool
from flows.worker import ENVIRONMENT, POOL, _tend, check_work_dir, main
from flows.worker_process import MARK
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.errors import SettingError
from gan.runs.run_dir import RunDir
from gan.training.runner import open_run
from tests.support.answers import HEALTHY, LOCKED, server
from tests.support.killing import Command, differing

CONFIG = {"num_steps": 200, "snapshot_steps": 25, "num_threads": 1, "batch_size": 32}

ROOT = Path(__file__).parents[2]
STUB = [sys.executable, "-m", "flows.worker_process", "tests.support.stub_worker"]
PARENT = f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests ignore it, and so would their children
from flows import worker
worker.WORKER = {STUB}
worker.wait_for_api = worker._tend = lambda it: it
worker.check_work_dir = lambda pool: None
sys.exit(worker.main())
"""


@contextmanager
def worker(environment: dict[str, str], work_dir: Path) -> Iterator[None]:
    """Run a worker, and end it by SIGTERM."""
    with (work_dir / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.worker"], env=environment, cwd=work_dir, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def state_of(client: SyncPrefectClient, run_id: UUID) -> str | None:
    state = client.read_flow_run(run_id).state
    assert state is not None
    return state.name


def wait_until(condition: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{log.read_text()}"
        time.sleep(0.1)


def test_a_server_that_refuses_the_password_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with server(LOCKED) as address, temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        assert main() == 1
    assert "asks for a password (401), and none is set" in caplog.text


def test_no_run_is_taken_before_its_directory_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = iter([SettingError("no pool"), SettingError("no pool"), None])
    stop = threading.Event()

    def check(_pool: str) -> None:
        if error := next(found):
            raise error

    monkeypatch.setattr(flows.worker, "RECOVER_SECONDS", 0.01)
    monkeypatch.setattr(flows.worker, "check_work_dir", check)
    assert flows.worker._wait_for_work_dir(stop) and next(found, "all asked") == "all asked"
    assert "waiting: no pool" in caplog.text
    stop.set()
    assert not flows.worker._wait_for_work_dir(stop)


def test_a_page_in_place_of_an_answer_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    answers = HEALTHY | {"/api/admin/version": (200, '"3.0.0"'), f"/api/work_pools/{POOL}": (200, "<html>back soon")}
    with (
        server(answers) as address,
        temporary_settings({PREFECT_API_URL: f"{address}/api"}),
        subprocess.Popen([sys.executable, "-c", ""]) as process,
    ):
        assert _tend(process) is process
    assert "cannot put killed runs back at present" in caplog.text and "Traceback" not in caplog.text


def test_the_health_of_a_worker_is_served_to_its_machine_alone() -> None:
    assert ENVIRONMENT["PREFECT_WORKER_WEBSERVER_HOST"] == "127.0.0.1"


def says(log: Path, text: str) -> bool:
    return text in log.read_text()


@pytest.mark.prefect
def test_the_run_saves_and_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """After the end of a terminal, and after SIGKILL."""
    codes = {signal.SIGHUP: 0, signal.SIGKILL: -9}
    commands: dict[signal.Signals, Command] = {}
    for number in codes:
        folder = tmp_path / number.name
        folder.mkdir()
        commands[number] = Command([sys.executable, "-c", PARENT], folder, PYTHONPATH=str(ROOT))
    for number, command in commands.items():
        wait_until(partial(says, command.log, "the run trains"), "no run", command.log)
        command.process.send_signal(number)
    for number, command in commands.items():
        assert command.process.wait(30) == codes[number]
        assert command.wait_until_all_are_gone() == []
        assert "the worker ends after its run, which ended with 3\n" in command.log.read_text()


def test_what_nobody_can_read_is_dropped() -> None:
    """As after the end of a terminal, or of `tee`: a program that prints then would fail."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), MARK: "tested"}
    process = subprocess.Popen(STUB, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"the run trains\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.mark.usefixtures("api")
def test_a_pool_whose_directory_is_not_here(tmp_path: Path) -> None:
    with get_client(sync_client=True) as client:
        make_pool(client, tmp_path / "elsewhere")
    with pytest.raises(SettingError, match=r"The runs of the work pool gpu work in .*elsewhere, which is no directory"):
        check_work_dir(POOL)
    with pytest.raises(SettingError, match=r"There is no work pool another yet. Make it by `python -m flows.deploy`"):
        check_work_dir("another")


@pytest.mark.usefixtures("deployed")
def test_a_stopped_run_resumes_with_the_next_worker(api: str, data_dir: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PREFECT_API_URL": api, "GAN_DATA_DIR": str(data_dir), "GAN_NO_PINNED_HASH": "1",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO", "PREFECT_WORKER_QUERY_SECONDS": "1",
    }  # fmt: skip
    log = tmp_path / "worker.log"
    with get_client(sync_client=True) as client:
        make_pool(client, tmp_path)
        for other in client.read_flow_runs(limit=200):  # of other tests, whose Running ones take the pool's only place
            client.delete_flow_run(other.id)
        deployment = client.read_deployment_by_name("gan-train/default")
        run_id = client.create_flow_run_from_deployment(deployment.id, parameters={"config": CONFIG}).id
        path = tmp_path / "store" / "runs" / str(run_id)
        with worker(environment, tmp_path):
            wait_until((path / "metrics.jsonl").exists, "no snapshot", log)
        assert state_of(client, run_id) == "AwaitingRetry"
        with worker(environment, tmp_path):
            wait_until(lambda: state_of(client, run_id) == "Completed", "the run is not Completed", log)
        assert "Crashed" not in [state.name for state in client.read_flow_run_states(run_id)]
        assert client.read_flow_run(run_id).name == RunDir(path).read_name()
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        cards = [(artifact.key, artifact.data) for artifact in client.read_artifacts(artifact_filter=of_run)]
        assert [data for key, data in cards if key == "gan-train-progress"] == [100]
        assert len(cards) == len({key for key, _ in cards}) == 3

    undisturbed = tmp_path / "undisturbed"
    with open_run(undisturbed, TrainConfig.model_validate(CONFIG), load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    assert differing(undisturbed, path) == []
