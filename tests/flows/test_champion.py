"""Does a flow run evaluate the run that it published, promote it only if it is better, and never lose it?"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.prefect_home import HOME as HOME  # isort: skip  # before anything imports prefect

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import State

from flows.gan_train import gan_train
from gan.config import TrainConfig
from gan.data.download import download_dataset, mirrors_from_env
from gan.errors import StorageError
from gan.evaluation.evaluator import Evaluator
from gan.registry.champion import read_champion
from gan.registry.promotion import measure
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.real_digits import real_digits

pytestmark = [pytest.mark.usefixtures("api"), pytest.mark.mnist]


@pytest.fixture(scope="module")
def mnist_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mnist")
    download_dataset(path, mirrors_from_env())
    return path


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(real_digits())


@pytest.fixture
def store(tmp_path: Path, mnist_dir: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Set the environment of a run. 300 samples are compared with 300 test images, instead of 10,000 with 10,000."""
    monkeypatch.setenv("GAN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GAN_DATA_DIR", str(mnist_dir))
    monkeypatch.setattr("flows.tasks.measure", partial(measure, num_samples=300))
    monkeypatch.setattr("flows.tasks.evaluator_of", lambda *_data_and_device: evaluator)
    return LocalStore(tmp_path / "store")


def run(run_id: str, monkeypatch: pytest.MonkeyPatch, learning_rate: float = 6e-4) -> State[Any]:
    monkeypatch.setenv("GAN_RUN_ID", run_id)
    config = TrainConfig(num_steps=4, learning_rate=learning_rate, lr_decay_start=1, ema_decay=0, num_threads=1)
    state: State[Any] = gan_train(config, return_state=True)
    return state


def shown(state: State[Any]) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the description of the flow run's table, and its rows by the first column."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]),
        key=ArtifactFilterKey(any_=["gan-train-champion"]),
    )
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    assert artifact.type == "table" and artifact.description
    return artifact.description, {row["figure"]: row for row in json.loads(str(artifact.data))}


def champions(store: LocalStore) -> list[str]:
    return [change.run_id for change in read_champion(store).history.history]


def test_the_first_run_is_promoted_and_a_worse_one_is_not(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("first", monkeypatch)
    assert first.result() == f"{store.address}/runs/first/"
    assert shown(first)[0].startswith("first is the champion now: it is the first one\n\nrun: tuned, 4 steps, seed 0, ")
    second = run("second", monkeypatch, learning_rate=0.1)
    assert second.is_completed()
    description, rows = shown(second)
    assert description.startswith("first stays the champion, not second: distance ")
    assert ": not better by more than the noise at an error rate of 1%; classes covered " in description
    assert "(second, step 4)\n\nchampion so far: tuned, 4 steps, seed 0, " in description
    assert float(rows["distance"]["real images"]) > 1
    (change,) = read_champion(store).history.history
    assert (change.run_id, change.by.split("@")[0].split(",")[0]) == ("first", "gan-train")


def test_a_promotion_that_fails_says_that_the_run_is_published(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_new("champion.json", b"{")
    state = run("mine", monkeypatch)
    assert state.is_failed() and isinstance(state.result(raise_on_failure=False), StorageError)
    problem, how = str(state.message).split("\n")
    assert problem.startswith("champion.json in ") and "is damaged" in problem
    assert how.startswith(f"The run is complete and published as runs/mine/ in {store.address}; measure it again ")
    assert verify(StoredRun(store, "mine")).problems == []
    store.delete("champion.json")
    assert run("mine", monkeypatch).is_completed()
    assert champions(store) == ["mine"]
