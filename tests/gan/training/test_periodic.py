"""Is a training evaluated when it should be, without an effect on it?"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.config import TrainConfig
from gan.data.dataset import Dataset
from gan.data.mnist import FILES
from gan.engine.state import TrainState
from gan.errors import ChecksumError
from gan.evaluation import judge
from gan.evaluation.evaluator import NUM_QUICK
from gan.evaluation.judge_training import train_judge
from gan.recipes.draw import draw
from gan.runs.run_dir import SnapshotMetrics
from gan.training import periodic as quick
from gan.training.monitor import Monitor
from gan.training.periodic import PeriodicEvaluator
from tests.support.configs import run_config
from tests.support.digits import mnist, without_labels

pytestmark = pytest.mark.usefixtures("small_networks")

DATA = mnist()
KNOWN = replace(DATA, sha256={file.name: file.sha256 for file in FILES})  # evaluated as if it were MNIST
STRANGE = replace(DATA, test_images=255 - DATA.test_images)


def at_step(step: int, recipe: str = "tuned", data: Dataset = KNOWN) -> tuple[PeriodicEvaluator, TrainState]:
    """Return a periodic evaluator and an untrained state at the last step of a run."""
    config = run_config(num_steps=step, recipe=recipe)
    state = TrainState(config)
    state.step = step
    return PeriodicEvaluator(config, data), state


@pytest.mark.parametrize(
    ("num_steps", "snapshot_steps", "due"),
    [
        (12_500, 1000, [5000, 10_000, 12_500]),
        (2500, 200, [1000, 2000, 2500]),
        (2500, 300, [1500, 2500]),
        (2100, 10, [1000, 2000, 2100]),  # dense snapshots: each 100th
        (1000, 1000, [1000]),
        (999, 100, []),
    ],
)
def test_every_5th_snapshot_and_the_last_is_due(num_steps: int, snapshot_steps: int, due: list[int]) -> None:
    config = TrainConfig(num_steps=num_steps, snapshot_steps=snapshot_steps)
    snapshots = [*range(snapshot_steps, num_steps, snapshot_steps), num_steps]
    assert [step for step in snapshots if PeriodicEvaluator(config, KNOWN).is_due(step)] == due


def test_2000_samples_of_separate_latents_are_measured() -> None:
    evaluator, state = at_step(1000)
    found = evaluator.evaluate(state)
    assert found is not None and found.num_samples == NUM_QUICK
    assert found.distance > 100 * found.distance_floor
    samples = draw(state.sampler, 100, NUM_QUICK, quick.SEED)
    assert not torch.equal(samples[:25], draw(state.sampler, 100, 25, seed=0))  # those of gan evaluate
    assert evaluator.evaluate(state) == at_step(1000)[0].evaluate(state) == found


@pytest.mark.parametrize("recipe", ["tuned", "published", "dcgan"])
def test_the_state_does_not_change(recipe: str) -> None:
    evaluator, state = at_step(1000, recipe)
    before, rng_state = {name: tensor.clone() for name, tensor in state.tensors().items()}, torch.get_rng_state()
    assert evaluator.evaluate(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    assert torch.equal(torch.get_rng_state(), rng_state) and state.generator.training


def test_classes_that_the_training_images_have_and_the_samples_lack_are_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "NUM_QUICK", 200)
    evaluator, state = at_step(10_000)
    found = evaluator.evaluate(state)
    assert found is not None and found == evaluator.evaluate(state)
    lost = [str(digit) for digit, share in enumerate(found.class_shares) if share <= 0.01]
    said = f"step 10,000: the samples lack {', '.join(lost)}, which the training images have"
    assert lost and [record.getMessage() for record in caplog.records] == [said]  # once
    caplog.clear()
    drawn = found.class_shares.index(max(found.class_shares))
    of_one_class = replace(KNOWN, train_labels=np.full_like(KNOWN.train_labels, drawn))
    assert at_step(10_000, data=of_one_class)[0].evaluate(state) == found and not caplog.records


def test_an_unknown_data_set_is_not_evaluated_and_that_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    evaluator, state = at_step(1000, data=STRANGE)
    with caplog.at_level(logging.INFO):
        assert [evaluator.evaluate(state), evaluator.evaluate(state)] == [None, None]
    assert (
        caplog.text.count(
            "training continues without evaluations: samples of this data set cannot be evaluated: the judge"
        )
        == 1
    )


def test_images_without_labels_are_measured_by_their_own_judge_and_no_class_is_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "NUM_QUICK", 200)
    bare = replace(without_labels(mnist(num_train=300, num_test=300)), judge_folder=tmp_path / "judge")
    train_judge(bare, tmp_path / "judge")
    evaluator, state = at_step(10_000, data=bare)
    found = evaluator.evaluate(state)
    assert found is not None and found.features == "random" and found.distance > 2 * found.distance_floor
    assert (found.class_shares, found.classes_covered, caplog.records) == ([], None, [])
    assert Monitor(run_config(num_steps=10_000), bare, lambda step: 0).classifier is None
    shown = SnapshotMetrics(step=1, g_loss=1, d_loss=1, steps_per_second=1, seconds=1, time="", evaluation=found)
    assert shown.scalars().keys() == {"steps_per_second", "judge/distance", "judge/distance_floor"}


def test_a_damaged_reference_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "PATH", tmp_path / "reference.safetensors")
    judge.PATH.write_bytes(b"")
    evaluator, state = at_step(1000)
    with pytest.raises(ChecksumError, match=f"reference.safetensors: SHA-256 is .* expected {judge.SHA256}"):
        evaluator.evaluate(state)
