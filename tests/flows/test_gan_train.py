"""Does the flow run each task once, retry after a temporary error, and end in the right state?"""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, State

from flows.data_tasks import download_mnist
from flows.retries import is_transient
from flows.settings import Settings
from flows.tasks import Stopped, publish_run
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.errors import (
    CheckpointError,
    ChecksumError,
    ConfigMismatchError,
    DownloadError,
    StorageError,
    TrainingCollapsedError,
    TrainingDivergedError,
)
from gan.registry.prune import plan
from gan.runs.run_dir import RunDir
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.flow_run import CONFIG, run
from tests.support.killing import differing
from tests.support.mirror_server import MirrorServer, status

pytestmark = pytest.mark.usefixtures("api")


def test_a_published_run_is_not_pruned_while_it_is_measured(
    finished: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = []

    def measure_slowly(*_config_and_settings: object) -> None:
        reasons.extend(decision.reason for decision in plan(LocalStore(environment), 0))

    monkeypatch.setattr("flows.gan_train.evaluate_gan", measure_slowly)
    assert run().is_completed()
    assert len(reasons) == 1 and "another process is training this run" in reasons[0]
    assert [decision.prune for decision in plan(LocalStore(environment), 0)] == [True]


def task_states(state: State[Any]) -> dict[str, str]:
    """Return the states of the flow run's tasks by name, once the server has recorded them."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            runs = client.read_task_runs(flow_run_filter=wanted)
            if runs and all(run.state and run.state.is_final() for run in runs):
                break
            time.sleep(0.1)
    return {run.name.rpartition("-")[0]: run.state_name for run in runs}


def test_a_run_is_published_under_its_flow_run_id(environment: Path) -> None:
    state = run()
    run_id = str(state.state_details.flow_run_id)
    assert state.result() == f"{environment}/runs/{run_id}/"
    assert verify(StoredRun(LocalStore(environment), run_id)).problems == []
    names = (
        "download_mnist", "validate_mnist", "hold_run", "train_gan", "render_report", "publish_run", "evaluate_gan",
    )  # fmt: skip
    assert task_states(state) == dict.fromkeys(names, "Completed")
    assert beginnings(contents(state)) == {
        "gan-train-progress": 100,
        "gan-train-samples": '<img alt="step 20" width="100%" src="data:image/png;base64,',
        "gan-train-film": '<img alt="20 steps" width="100%" src="data:image/gif;base64,',
    }
    assert all(each.description for each in artifacts(state).values())
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(run_id)).name == RunDir(environment / "runs" / run_id).read_name()
    assert "training steps 1 to 20 on cpu" in logs(state)
    assert "not evaluated: the judge knows only MNIST, and --no-pinned-hash accepts other data" in logs(
        state
    )  # flows.tasks
    assert not (environment / "champion.json").exists()


def test_a_flow_begins_with_the_weights_of_another_run(environment: Path, published: Path) -> None:
    state = run(CONFIG.model_copy(update={"init_from": str(published)}))
    path = environment / "runs" / str(state.state_details.flow_run_id)
    newest = max((published / "checkpoints").glob("*.safetensors"))
    assert state.is_completed() and (path / "initial.safetensors").read_bytes() == newest.read_bytes()


def artifacts(state: State[Any]) -> dict[str, Artifact]:
    """Return the flow run's artifacts by key. Each key occurs once."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
    assert len({artifact.key for artifact in found}) == len(found)
    return {str(artifact.key): artifact for artifact in found}


def contents(state: State[Any]) -> dict[str, Any]:
    return {key: artifact.data for key, artifact in artifacts(state).items()}


def beginnings(found: dict[str, Any]) -> dict[str, Any]:
    """Return artifacts without their pictures."""
    return {key: f"{data.partition(',')[0]}," if isinstance(data, str) else data for key, data in found.items()}


def logs(state: State[Any]) -> str:
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            found = client.read_logs(log_filter=wanted)
            if any(log.name == "prefect.flow_runs" and "Finished in state" in log.message for log in found):
                break
            time.sleep(0.1)
    return "\n".join(log.message for log in found)


def test_another_config_is_not_retried_and_does_not_change_the_run(finished: Path) -> None:
    state = run(TrainConfig(batch_size=64, num_steps=20))
    assert state.is_failed()
    assert state.message == (
        f"{finished} was made with another config:\n  batch_size: the run has 32, asked for 64\n"
        "Leave these options out to resume it, or start another run."
    )
    assert isinstance(state.result(raise_on_failure=False), ConfigMismatchError)
    assert task_states(state)["train_gan"] == "Failed"
    assert verify(StoredRun.at(finished)).problems == []


def test_a_failed_training_is_not_retried_and_its_diagnosis_is_shown(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAN_DATA_DIR", str(write_mnist(tmp_path / "alike", all_alike=True)))
    state = run()
    assert isinstance(state.result(raise_on_failure=False), TrainingCollapsedError)
    assert str(state.message).startswith("training ended at step 10: constant data: the real images of a batch are")
    assert task_states(state)["train_gan"] == "Failed"
    (event,) = RunDir(run_path).read_events()
    assert contents(state)["gan-train-health"] == f"- {event}"


def test_a_finished_run_is_not_changed(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert run(TrainConfig()).is_completed()
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_signal_cancels_the_flow_run_and_the_next_one_resumes(run_path: Path, tmp_path: Path, data_dir: Path) -> None:
    config = CONFIG.model_copy(update={"num_steps": 100})
    sender = threading.Thread(target=interrupt_when_trained, args=(RunDir(run_path), 10))
    sender.start()
    state = run(config)
    sender.join()
    stopped = state.result(raise_on_failure=False)
    assert isinstance(stopped, Stopped)
    assert stopped.exit_code == 130
    assert state.is_cancelled()
    assert str(state.message).startswith("stopped by SIGINT at step ")
    assert f"; resume with: gan-train --run-id mine --store {tmp_path}/store --data-dir" in str(state.message)
    assert task_states(state)["train_gan"] == "Cancelled"
    assert run(TrainConfig()).is_completed()
    with open_run(tmp_path / "undisturbed", config, load_dataset(data_dir, pinned=False)) as undisturbed:
        list(undisturbed.train())
    assert differing(run_path, tmp_path / "undisturbed") == []


def interrupt_when_trained(run_dir: RunDir, step: int) -> None:
    while not run_dir.grid_path(step).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_from_scratch_trains_from_the_beginning(
    run_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(run_path, CONFIG, load_dataset(data_dir, pinned=False)) as begun:
        next(begun.train())
    created = RunDir(run_path).grid_path(10).stat().st_mtime_ns
    monkeypatch.setenv("GAN_FROM_SCRATCH", "1")
    assert run().is_completed()
    assert RunDir(run_path).grid_path(10).stat().st_mtime_ns > created


def test_a_run_that_cannot_be_published_stays_complete_and_the_error_says_what_to_do(finished: Path) -> None:
    (finished / "manifest.json").unlink()
    (finished / "stray").symlink_to("nowhere")
    with pytest.raises(StorageError) as caught:
        publish_run.with_options(retries=0)(Settings.from_env(), None)
    problem, how = str(caught.value).split("\n")
    assert "stray is not a regular file" in problem
    assert how.startswith(f"The run is complete in {finished}; publish it with: gan-train --run-id mine --store ")
    (finished / "stray").unlink()
    assert run(TrainConfig()).is_completed()


def test_a_switch_that_is_not_1_or_0_fails_the_run_in_one_sentence(
    run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAN_FROM_SCRATCH", "true")
    state = run()
    assert state.is_failed()
    assert state.message == "GAN_FROM_SCRATCH is 'true'. Set it to 1 to switch it on, or to 0 to leave it off."
    assert not run_path.exists()


def test_a_download_is_retried(tmp_path: Path, data_dir: Path, mirror: MirrorServer) -> None:
    mirror.serve_folder(data_dir)
    good = mirror.answers["t10k-labels-idx1-ubyte.gz"]

    def first_busy(handler: Any) -> None:
        mirror.answers["t10k-labels-idx1-ubyte.gz"] = good
        status(503)(handler)

    mirror.answers["t10k-labels-idx1-ubyte.gz"] = first_busy
    place = Settings("mine", "store", tmp_path / "data", (mirror.url,), pinned=False, from_scratch=False)
    download_mnist.with_options(retry_delay_seconds=0)(place)
    assert len(list((tmp_path / "data").iterdir())) == 4


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DownloadError("no mirror"), True),
        (StorageError("disk full"), True),
        (OSError("stale NFS handle"), True),
        (ChecksumError("another file"), False),
        (ConfigMismatchError("another batch size"), False),
        (CheckpointError("none verifies"), False),
        (TrainingDivergedError("NaN"), False),
        (TrainingCollapsedError("dead"), False),
    ],
)
def test_which_errors_are_retried(error: Exception, again: bool) -> None:
    assert is_transient(error) is again
