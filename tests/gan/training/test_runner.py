"""Does a run leave what it should, and resume to the same bytes?"""

import errno
import gc
import logging
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.cli.progress import distance_note
from gan.config import TrainConfig
from gan.data.mnist import FILES
from gan.errors import CheckpointError, StorageError
from gan.evaluation.results import QuickEvaluation
from gan.runs import checkpoint, layout
from gan.runs.run_dir import RunDir
from gan.runs.sampling import load_sampler
from gan.sync.publish import seal
from gan.training import periodic as quick
from gan.training.runner import Run, open_run
from tests.support.killing import differing
from tests.support.training import CONFIG, DATA, train

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "undisturbed"
    train(path)
    return path


def test_a_run_leaves_what_the_design_says(undisturbed: Path) -> None:
    names = {p.relative_to(undisturbed).as_posix() for p in undisturbed.rglob("*") if p.is_file()}
    assert {name for name in names if not name.startswith(("tensorboard/", "journal/"))} == {
        "config.json", "provenance.json", "processes.jsonl", "reals.png", "neighbours.png", "losses.npz",
        "metrics.jsonl",
        *(f"grids/step-0000{step}.png" for step in (10, 20, 30, 40)),
        *(f"checkpoints/step-0000{step}.safetensors{end}" for step in (20, 30, 40) for end in ("", ".sha256")),
    }  # fmt: skip


def test_a_run_is_freed_without_a_garbage_collection(tmp_path: Path) -> None:
    """Its data and state take 150 MB, and the film and the report are made after training."""
    gc.disable()
    try:
        freed = weakref.ref(train(tmp_path / "run", stop_at=1).state)
    finally:
        gc.enable()
    assert freed() is None


def test_the_losses_of_every_step_are_kept(undisturbed: Path) -> None:
    losses = np.load(RunDir(undisturbed).losses_path)
    assert {name: (losses[name].dtype, losses[name].shape) for name in losses} == {
        "g_loss": (np.float32, (40,)),
        "d_loss": (np.float32, (40,)),
    }


def test_metrics_have_a_line_a_snapshot(undisturbed: Path) -> None:
    metrics = RunDir(undisturbed).read_metrics()
    losses = np.load(RunDir(undisturbed).losses_path)
    assert [line.step for line in metrics] == [10, 20, 30, 40]
    assert metrics[1].g_loss == pytest.approx(losses["g_loss"][10:20].mean())


@pytest.mark.parametrize("stop_at", [1, 10, 17, 39])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, undisturbed: Path, stop_at: int) -> None:
    assert train(tmp_path / "run", stop_at=stop_at).state.step == stop_at
    assert differing(tmp_path / "run", undisturbed) != []
    assert train(tmp_path / "run", TrainConfig(), resume=True).finished
    assert differing(tmp_path / "run", undisturbed) == []


@pytest.mark.parametrize("leaves_sidecar", [False, True])
def test_a_run_that_ends_while_its_last_checkpoints_are_deleted_keeps_the_same_ones(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, leaves_sidecar: bool
) -> None:
    def fail(run_path: Path, step: int) -> None:
        if leaves_sidecar:
            checkpoint.path_of(run_path, step).unlink()
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(checkpoint, "delete", fail)
        train(tmp_path / "run")
    train(tmp_path / "run", resume=True)
    assert differing(tmp_path / "run", undisturbed) == []


@torch.no_grad()
def test_a_run_of_dcgan_resumes_to_the_same_bytes_and_is_sampled(tmp_path: Path) -> None:
    config = TrainConfig(
        recipe="dcgan", num_steps=12, snapshot_steps=5, batch_size=25, augment_translate=1, num_threads=1
    )
    once = train(tmp_path / "once", config)
    train(tmp_path / "twice", config, stop_at=7)
    train(tmp_path / "twice", TrainConfig(), resume=True)
    assert differing(tmp_path / "twice", tmp_path / "once") == []
    network, _, step = load_sampler(tmp_path / "twice")
    assert step == 12 and torch.equal(network(once.state.fixed_z), once.state.sampler.eval()(once.state.fixed_z))


def test_an_evaluated_run_resumes_to_the_same_bytes_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "MIN_STEPS", 50)
    config = TrainConfig(num_steps=70, snapshot_steps=10, batch_size=25, num_threads=1)
    known = replace(DATA, sha256={file.name: file.sha256 for file in FILES})  # evaluated as if it were MNIST
    runs: dict[str, Run] = {}
    for name, stops in {"once": [None], "stopped-at-50": [50, None], "stopped-at-57": [57, None]}.items():
        for stop in stops:
            with open_run(tmp_path / name, config, known, resume=True) as run:
                list(run.train(lambda stop=stop, run=run: run.state.step == stop))
        runs[name] = run
    expected = evaluations(tmp_path / "once")
    assert list(expected) == [50, 70]
    for name, run in runs.items():
        assert differing(tmp_path / name, tmp_path / "once") == []
        assert evaluations(tmp_path / name) == expected
        assert run.last_evaluated is not None
        assert (run.last_evaluated.step, run.last_evaluated.evaluation) == (70, expected[70])
    events = b"".join(path.read_bytes() for path in (tmp_path / "once/tensorboard").iterdir())
    assert events.count(b"judge/distance_floor") == 2


def evaluations(run_path: Path) -> dict[int, QuickEvaluation]:
    return {line.step: line.evaluation for line in RunDir(run_path).read_metrics() if line.evaluation}


def test_evaluations_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path) -> None:
    monkeypatch.setattr(quick, "MIN_STEPS", 40)
    known = replace(DATA, sha256={**DATA.sha256, **{file.name: file.sha256 for file in FILES}})
    with open_run(tmp_path / "run", CONFIG, known) as run:
        list(run.train())
    found = run.last_evaluated
    assert found is not None and found.evaluation is not None and found.step == 40
    assert distance_note(run) == f"distance {found.evaluation.distance:.1f} at step 40"
    assert differing(tmp_path / "run", undisturbed) == []


def test_the_neighbours_are_drawn_at_the_end_and_again_where_they_are_missing(
    tmp_path: Path, undisturbed: Path
) -> None:
    train(tmp_path / "run", stop_at=39)
    neighbours = RunDir(tmp_path / "run").neighbours_path
    assert not neighbours.exists()
    train(tmp_path / "run", resume=True)
    assert neighbours.read_bytes() == RunDir(undisturbed).neighbours_path.read_bytes()
    neighbours.unlink()
    train(tmp_path / "run", resume=True)
    assert neighbours.exists()
    neighbours.unlink()
    seal(tmp_path / "run", "run")
    train(tmp_path / "run", resume=True)
    assert not neighbours.exists()


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "run", stop_at=35)
    newest = checkpoint.path_of(tmp_path / "run", layout.checkpoint_steps_in(tmp_path / "run")[0])
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.INFO):
        train(tmp_path / "run", resume=True)
    assert "step-000035.safetensors: damaged" in caplog.text and "training steps 31 to 40" in caplog.text
    assert differing(tmp_path / "run", undisturbed) == []


def test_checkpoints_that_are_not_of_this_run_are_passed_over(
    tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run"
    train(path, stop_at=15)
    tensors, config = checkpoint.load(checkpoint.path_of(path, 15))
    checkpoint.save(path, {**tensors, "step": torch.tensor(20)}, {**config, "learning_rate": 0.5})
    checkpoint.save(path, {**tensors, "step": torch.tensor(25)}, config)  # with the losses of 15 steps
    with caplog.at_level(logging.INFO):
        train(path, resume=True)
    assert "step-000020.safetensors: its config is of another run: it differs in learning_rate" in caplog.text
    assert "step-000025.safetensors: the journal does not have the losses of all its steps" in caplog.text
    assert "training steps 16 to 40" in caplog.text
    assert differing(path, undisturbed) == []


def test_where_no_checkpoint_verifies_only_from_scratch_continues(tmp_path: Path, undisturbed: Path) -> None:
    path = tmp_path / "run"
    train(path, stop_at=25)
    for step in layout.checkpoint_steps_in(path):
        checkpoint.path_of(path, step).write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 3 checkpoints verifies"):
        train(path, resume=True)
    train(path, from_scratch=True)
    assert differing(path, undisturbed) == []


LEFT_OUT: dict[str, Callable[[str], bool]] = {
    "generator's weights": lambda name: name.startswith("generator") and name.endswith(("weight", "bias")),
    "generator's batch statistics": lambda name: name.startswith("generator") and "running" in name,
    "discriminator": lambda name: name.startswith("discriminator"),
    "averaged generator": lambda name: name.startswith("ema"),
    "averaged batch statistics": lambda name: name.startswith("ema") and "running" in name,
    "G's first moments": lambda name: name.startswith("g_adam") and name.endswith("exp_avg"),
    "G's second moments": lambda name: name.startswith("g_adam") and name.endswith("exp_avg_sq"),
    "G's Adam steps": lambda name: name.startswith("g_adam") and name.endswith("step"),
    "D's first moments": lambda name: name.startswith("d_adam") and name.endswith("exp_avg"),
    "D's second moments": lambda name: name.startswith("d_adam") and name.endswith("exp_avg_sq"),
    "D's Adam steps": lambda name: name.startswith("d_adam") and name.endswith("step"),
    "random stream": lambda name: name == "random",
    "g_losses": lambda name: name == "g_losses",
    "d_losses": lambda name: name == "d_losses",
}


@pytest.fixture(scope="module")
def stopped_at_15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "stopped"
    train(path, stop_at=15)
    return path


@pytest.mark.parametrize("item", [None, *LEFT_OUT])
def test_leaving_out_any_item_of_the_state_shows(
    tmp_path: Path, undisturbed: Path, stopped_at_15: Path, item: str | None
) -> None:
    """The control of every resume test: with one item not restored, the bytes differ; with all, they do not.

    A step that does not match the number of losses is refused, see above.
    """
    shutil.copytree(stopped_at_15, tmp_path / "run")
    with open_run(tmp_path / "run", CONFIG, DATA, resume=True) as run:
        fresh = type(run.state)(run.config).tensors()
        restored = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
        if item:
            names = [name for name in restored if LEFT_OUT[item](name)]
            assert names
            restored |= {name: fresh[name] if fresh[name].numel() else restored[name] * 0 for name in names}
        run.state.load(restored)
        list(run.train())
    assert (differing(tmp_path / "run", undisturbed) == []) == (item is None)
