"""Does a flow run train on an imported data set, also on a machine that has to copy it from the bucket?"""

import json
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import State

from flows.artifacts import champion_key
from gan.config import TrainConfig
from gan.registry.champion import champion_of, read_champion
from gan.registry.promotion import measure
from gan.runs.run_dir import RunDir
from gan.sets.set_import import import_set, open_source
from gan.sets.set_manifest import Facts, SetManifest
from gan.sets.sources.base import Form
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.digits import digits
from tests.support.flow_run import run
from tests.support.judged_set import import_digits, train_judge
from tests.support.s3_server import S3Server, new_address

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def address(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a run in a new bucket, and work in a folder without data."""
    seaweedfs.use(monkeypatch)
    store = new_address()
    monkeypatch.chdir(tmp_path)
    for name, value in (("GAN_STORE", store), ("GAN_RUN_ID", "mine"), ("GAN_SETS_DIR", str(tmp_path / "here"))):
        monkeypatch.setenv(name, value)
    return store


def make_set(folder: Path, *, private: bool = False) -> SetManifest:
    images, labels = digits(64)
    np.savez(folder / "digits.npz", images=images, labels=labels)
    facts = Facts(private=private)
    source = open_source(folder / "digits.npz")
    return import_set(source, folder / "here", "digits", Form(32, 1, (0, 0, 0)), test_share=0.3, facts=facts).manifest


def config(data: str) -> TrainConfig:
    return TrainConfig(recipe="dcgan", data=data, num_steps=2, snapshot_steps=1, batch_size=25, num_threads=1)


@pytest.mark.parametrize("named", ["digits", "digits@{sha}"])
def test_a_machine_without_the_set_copies_it_from_the_bucket(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    made = make_set(tmp_path)
    assert run(config("digits")).is_completed()
    assert RunDir(tmp_path / "store/runs/mine").read_config().data == made.address
    assert verify(StoredRun(open_store(address), "mine")).problems == []
    monkeypatch.setenv("GAN_SETS_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("GAN_RUN_ID", "second")
    assert run(config(named.format(sha=made.sha256))).is_completed()
    assert SetManifest.read(tmp_path / "there/digits" / made.sha256) == made


def test_a_private_set_is_not_copied(tmp_path: Path, address: str) -> None:
    made = make_set(tmp_path, private=True)
    assert run(config(made.address)).is_completed()
    assert list(open_store(address).list("datasets/")) == []


def test_a_set_that_is_nowhere_fails_the_run(address: str) -> None:
    state = run(config("nothing"))
    assert state.is_failed() and "has no data set nothing. Import it" in (state.message or "")


def shown(state: State[Any], key: str) -> tuple[str, list[str]]:
    """Return the description of the flow run's table under a key, and what its rows are of."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]),
        key=ArtifactFilterKey(any_=[key]),
    )
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    return artifact.description or "", [row["figure"] for row in json.loads(str(artifact.data))]


def tuned(data: str, learning_rate: float = 6e-4) -> TrainConfig:
    return TrainConfig(
        data=data, num_steps=4, learning_rate=learning_rate, lr_decay_start=1, ema_decay=0, num_threads=1
    )


def test_a_run_is_promoted_over_the_champion_of_its_own_set(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.tasks.measure", partial(measure, num_samples=300))
    made, store = import_digits(tmp_path / "here"), open_store(address)
    train_judge(tmp_path / "here", made.name)
    assert store.put_new("champion.json", b"of MNIST, and not even read")
    first = run(tuned(made.name))
    assert first.is_completed(), first.message
    description, rows = shown(first, champion_key(champion_of(store, made.address).data))
    assert description.startswith("mine is the champion of numerals now: it is the first one\n\nrun: tuned, 4 steps, ")
    assert f"data: numerals\\@{made.sha256}\n\nlicence: CC0\n\nsource: a \\<b\\>box\\</b\\>\n\n" in description
    assert "distance" in rows
    # A machine without set and judge takes both from the bucket.
    monkeypatch.setenv("GAN_SETS_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("GAN_RUN_ID", "worse")
    second = run(tuned(made.address, learning_rate=0.1))
    assert second.is_completed(), second.message
    kept, _ = shown(second, f"gan-train-champion-numerals-{made.sha256[:8]}")
    assert kept.startswith("mine stays the champion of numerals, not worse: distance ")
    [change] = read_champion(store, made.address).history.history
    assert change.data and change.data.attribution == "A. Painter"
    assert store.read("champion.json") == b"of MNIST, and not even read"


def test_a_run_on_a_set_without_a_judge_is_not_compared(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = import_digits(tmp_path / "here")
    with caplog.at_level(logging.INFO):
        assert run(tuned(made.name)).is_completed()
    said = f"not compared with a champion: {made.address} has no judge yet; `gan judge train --data {made.address}`"
    assert re.search(re.escape(said) + " trains it; then `gan-train --run-id mine .*` measures this run", caplog.text)
    assert list(open_store(address).list("champion")) == []
