"""Is a failed training ended, sent back or continued, with the same bytes however often it is interrupted?"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan import health
from gan.config import TrainConfig
from gan.data.batches import Batches, Real
from gan.data.dataset import Dataset
from gan.errors import TrainingCollapsedError, TrainingDivergedError
from gan.health import HealthEvent
from gan.runs import checkpoint, journal, layout
from gan.runs.run_dir import RunDir
from gan.seeds import derive_seed
from gan.training import runner
from gan.training.monitor import Monitor
from gan.training.runner import Run, open_run
from tests.support.configs import run_config
from tests.support.digits import mnist
from tests.support.killing import differing
from tests.support.real_digits import real_digits

pytestmark = pytest.mark.usefixtures("small_networks")

DATA = mnist()
REAL = real_digits()  # 30 of each class, class by class
FIELDS = {"num_steps": 30, "snapshot_steps": 10, "batch_size": 32, "num_threads": 1}
NAN_STEP = 15


class Killed(BaseException):
    """Stands in for a kill at a place that a test chooses."""


class NanBatches(Batches):
    """Give NaN at step 15 of each attempt with seed 0."""

    def __call__(self, step: int) -> Real:
        real = super().__call__(step)
        return real._replace(images=real.images * float("nan")) if (self.seed, step) == (0, NAN_STEP) else real


@pytest.fixture
def nan_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "Batches", NanBatches)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a diagnosis after a sign was present for 10 steps, so that a test takes a second."""
    for name in ("FLAT_STEPS", "NO_GRADIENT_STEPS"):
        monkeypatch.setattr(health, name, 10)


def zero_d(run: Run) -> None:
    """Set D and its Adam moments to 0 at step 10 of the first attempt."""
    if run.state.step == 10 and not run.state.health.rewinds:
        for name, tensor in run.state.tensors().items():
            if name.startswith(("discriminator.", "d_adam.")) and not name.endswith(".step"):
                tensor.zero_()


def train(
    path: Path,
    policy: str | None = None,
    harm: Callable[[Run], None] = lambda run: None,
    stop_at: tuple[int, int] | None = None,
    data: Dataset = DATA,
    **fields: object,
) -> Run:
    """Train a run to its end, or to a step of an attempt (from 0). `harm` may change the state at each snapshot."""
    config = TrainConfig(**{**FIELDS, "on_collapse": policy, **fields})
    with open_run(path, config, data, resume=True) as run:
        harm(run)
        for _ in run.train(lambda: (len(run.state.health.rewinds), run.state.step) == stop_at):
            harm(run)
    return run


def chosen(indices: np.ndarray) -> Dataset:
    """Return a data set with these training images of REAL."""
    return replace(REAL, train_images=REAL.train_images[indices], train_labels=REAL.train_labels[indices])


def events(path: Path) -> list[HealthEvent]:
    return RunDir(path).read_events()


def steps(path: Path) -> list[int]:
    return [line.step for line in RunDir(path).read_metrics()]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("policy", "to_step"), [("rollback", 10), ("restart", 0)])
def test_a_zeroed_discriminator_is_rolled_back(tmp_path: Path, policy: str, to_step: int) -> None:
    run = train(tmp_path, policy, zero_d)
    (event,) = events(tmp_path)
    assert (event.event, event.step, event.since, event.to_step) == ("dead_discriminator", 30, 11, to_step)
    assert event.vitals and event.vitals.spread == 0 and event.vitals.stuck_steps == 20
    assert run.finished and run.state.health.events == (event,) and run.state.health.rewinds == (to_step,)
    assert np.ptp(run.state.d_losses[-10:]) > 1e-3
    assert steps(tmp_path) == [10, 20, 30]


@pytest.mark.usefixtures("impatient")
def test_on_fail_the_error_names_the_diagnosis_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    for _ in range(2):  # the same command ends in the same way
        with pytest.raises(
            TrainingCollapsedError,
            match=r"at step 30: dead discriminator: .* since step 11\. .* intact\. .*--recipe tuned",
        ):
            train(tmp_path, "fail", zero_d)
        assert [(event.step, event.action) for event in events(tmp_path)] == [(30, "failed")]
    newest = checkpoint.load_newest(tmp_path)
    assert newest and int(newest[0]["step"]) == 20


@pytest.mark.usefixtures("impatient", "full_networks")
def test_published_is_dead_from_its_first_batch_and_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(tmp_path, recipe="published", seed=2, batch_size=25)
    assert run.finished and run.config.on_collapse == "ignore"
    assert [(event.event, event.since, event.action) for event in events(tmp_path)] == [
        ("dead_discriminator", 1, "ignored")
    ]
    said = "step 20: dead discriminator: it has no gradient; g_loss 0.6931, d_loss 0.6931, since step 1"
    assert f"{said}: training continued" in caplog.text


@pytest.mark.usefixtures("full_networks")
def test_a_hundred_times_the_learning_rate_explodes(tmp_path: Path) -> None:
    with pytest.raises(TrainingCollapsedError, match=r"exploded: D errs by orders.*lower --learning-rate"):
        train(tmp_path, "fail", num_steps=500, snapshot_steps=50, batch_size=25, seed=2, learning_rate=6e-2)
    assert [event.event for event in events(tmp_path)] == ["exploded"]


@pytest.mark.parametrize("classes", [[3], [0, 1, 2, 3, 4], [*range(10)]])
def test_the_monitor_looks_for_the_classes_of_the_training_images(classes: list[int]) -> None:
    of_classes = chosen(np.flatnonzero(np.isin(REAL.train_labels, classes)))
    monitor = Monitor(run_config(num_steps=10_000), of_classes, lambda step: 0)
    assert monitor.classes == classes and monitor.classifier is not None


def test_a_rare_class_may_be_missing() -> None:
    few_zeros = chosen(np.r_[0:5, 30:300])
    assert Monitor(run_config(num_steps=10_000), few_zeros, lambda step: 0).classes == [*range(1, 10)]


def test_images_that_the_classifier_does_not_know_have_no_classes() -> None:
    inverted = replace(REAL, train_images=255 - REAL.train_images)
    assert Monitor(run_config(num_steps=10_000), inverted, lambda step: 0).classifier is None


def test_constant_data_ends_the_training_without_another_attempt(tmp_path: Path) -> None:
    alike = Dataset(np.repeat(DATA.train_images[:1], 64, 0), DATA.train_labels[:64], DATA.test_images, DATA.test_labels,
                  sha256={})  # fmt: skip
    with pytest.raises(TrainingCollapsedError, match="at step 10: constant data: .*data directory; another seed"):
        train(tmp_path, "restart", data=alike)
    assert [event.action for event in events(tmp_path)] == ["failed"]


@pytest.mark.usefixtures("nan_batch")
@pytest.mark.parametrize("policy", ["ignore", "fail"])
def test_nan_ends_a_training_that_ignores_failures(tmp_path: Path, policy: str) -> None:
    with pytest.raises(TrainingDivergedError, match=r"diverged at step 15: NaN or Inf: .*d_loss is nan"):
        train(tmp_path, policy)
    assert [(event.event, event.step, event.action) for event in events(tmp_path)] == [("not_finite", 15, "failed")]
    assert steps(tmp_path) == [10]


@pytest.mark.usefixtures("nan_batch")
def test_a_failure_in_each_attempt_ends_the_run_after_three_more(tmp_path: Path) -> None:
    """A batch is NaN in every attempt, so new latents do not help."""
    message = r"Given up after 3 more attempts(?s:.*\nBefore that, step 15.*){3}"
    with pytest.raises(TrainingDivergedError, match=message):
        train(tmp_path, "rollback")
    found = [(event.attempt, event.action, event.to_step) for event in events(tmp_path)]
    assert found == [(1, "rolled_back", 10), (2, "rolled_back", 10), (3, "rolled_back", 10), (4, "failed", None)]


@pytest.mark.usefixtures("nan_batch")
def test_each_rollback_has_latents_of_its_own(tmp_path: Path) -> None:
    states = []
    with pytest.raises(TrainingDivergedError):
        train(tmp_path, "rollback", lambda run: states.append(run.state.rng.get_state()))
    with open_run(tmp_path, TrainConfig(), DATA, resume=True) as run:
        assert run.state.health.rewinds == (10, 10, 10)
        assert not any(np.array_equal(run.state.rng.get_state(), before) for before in states)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run that is restarted at NaN, without interrupting it."""
    path = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "Batches", NanBatches)
        train(path, "restart")
    return path


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run that is rolled back when its discriminator is dead, without interrupting it."""
    path = tmp_path_factory.mktemp("rolled_back")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "FLAT_STEPS", 10)
        train(path, "rollback", zero_d)
    return path


def test_after_nan_another_seed_is_used(undisturbed: Path, tmp_path: Path) -> None:
    (event,) = events(undisturbed)
    assert (event.event, event.step, event.to_step) == ("not_finite", 15, 0)
    assert event.seed == derive_seed(0, "restart", 1)
    train(tmp_path, seed=event.seed)
    of_the_seed, of_the_run = (np.load(path / "losses.npz")["d_loss"] for path in (tmp_path, undisturbed))
    assert np.array_equal(of_the_seed, of_the_run)


def test_a_restarted_run_has_no_file_of_the_attempt_before(undisturbed: Path) -> None:
    files = {path.name for name in ("grids", "checkpoints") for path in (undisturbed / name).iterdir()}
    assert files == {f"step-0000{step}.png" for step in (10, 20, 30)} | {
        f"step-0000{step}.safetensors{end}" for step in (10, 20, 30) for end in ("", ".sha256")
    }
    lines = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("event", line["step"]) for line in lines] == ["not_finite", 10, 20, 30]
    log = EventAccumulator(str(undisturbed / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in log.Scalars("g_loss")] == list(range(1, 31))


@pytest.mark.usefixtures("nan_batch")
@pytest.mark.parametrize("stop_at", [(0, 10), (1, 0), (1, 23)])
def test_a_stopped_run_ends_with_the_same_bytes(tmp_path: Path, undisturbed: Path, stop_at: tuple[int, int]) -> None:
    run = train(tmp_path, "restart", stop_at=stop_at)
    assert (len(run.state.health.rewinds), run.state.step) == stop_at
    assert train(tmp_path).finished
    assert differing(tmp_path, undisturbed) == []
    assert (steps(tmp_path), events(tmp_path)) == (steps(undisturbed), events(undisturbed))


@pytest.mark.usefixtures("nan_batch")
@pytest.mark.parametrize("num_changes", [1, 5, 6])
def test_a_run_killed_during_a_restart_ends_with_the_same_bytes(
    tmp_path: Path, undisturbed: Path, num_changes: int
) -> None:
    with killed_after(num_changes), pytest.raises(Killed):
        train(tmp_path, "restart")
    assert train(tmp_path).finished
    assert differing(tmp_path, undisturbed) == []
    assert (steps(tmp_path), events(tmp_path)) == (steps(undisturbed), events(undisturbed))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stop_at", [(0, 23), (1, 13)])
def test_a_run_stopped_around_a_rollback_ends_with_the_same_bytes(
    tmp_path: Path, rolled_back: Path, stop_at: tuple[int, int]
) -> None:
    train(tmp_path, "rollback", zero_d, stop_at)
    assert differing(tmp_path, rolled_back) != []
    train(tmp_path, "rollback", zero_d)
    assert differing(tmp_path, rolled_back) == []
    assert events(tmp_path) == events(rolled_back)


def test_a_run_from_before_the_monitor_is_resumed(tmp_path: Path) -> None:
    train(tmp_path, stop_at=(0, 15))
    journal.delete(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["on_collapse"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for step in layout.checkpoint_steps_in(tmp_path):
        path = checkpoint.path_of(tmp_path, step)
        tensors, fields = checkpoint.load(path)
        del tensors["health"]
        data = safetensors.torch.save(tensors, {"gan": json.dumps({"version": 1, "config": fields})})
        path.write_bytes(data)
        checkpoint.sidecar_of(path).write_text(hashlib.sha256(data).hexdigest())
        assert checkpoint.position_of(tmp_path, step) == checkpoint.Position((), step)
    run = train(tmp_path)
    assert run.finished and run.config.on_collapse == "restart"


class killed_after:
    """Kill after this many changes on the disk, counted from the first time that checkpoints are deleted."""

    def __init__(self, num_changes: int) -> None:
        self.left: float = float("inf")
        self.num_changes = num_changes
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        discard_after = checkpoint.discard_after

        def begin(run_path: Path, step: int) -> None:
            self.left = self.num_changes
            discard_after(run_path, step)

        self.patch.setattr(checkpoint, "discard_after", begin)
        for name in ("unlink", "replace"):
            self.patch.setattr(Path, name, self._counted(getattr(Path, name)))

    def _counted(self, change: Callable[..., object]) -> Callable[..., object]:
        def counted(path: Path, *args: object, **options: object) -> object:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return change(path, *args, **options)

        return counted

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
