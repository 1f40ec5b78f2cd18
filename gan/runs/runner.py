"""How is a run begun, gone on with, and trained to its end?"""

import logging
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.data.dataset import Dataset
from gan.device import Device, choose_device, choose_num_threads, choose_precision
from gan.engine.state import NUM_FIXED, TrainState, read_health
from gan.errors import ConfigMismatchError, RunError, TrainingDivergedError
from gan.evaluation.evaluator import QuickEvaluation
from gan.files import atomic_write, is_temporary, storage_error
from gan.health import Health, HealthEvent
from gan.images import grid_png
from gan.runs.neighbours import write_neighbours
from gan.runs.provenance import Provenance
from gan.runs.run_dir import RunDir, SnapshotMetrics, SnapshotWriter
from gan.runs.tensorboard import EventLog
from gan.seeds import make_rng
from gan.training import checkpoint
from gan.training.loop import Snapshot, train
from gan.training.monitor import Monitor, config_of_attempt, error_of
from gan.training.periodic import PeriodicEvaluator

log = logging.getLogger(__name__)


class Run:
    """Hold a run that is open for training: its directory, taken for this process, its config and its state."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, device: Device, data: Dataset) -> None:
        """Take the run directory and load its newest good checkpoint. Raises RunError, CheckpointError."""
        assert config.seed is not None and config.num_steps is not None
        self.run_dir = run_dir
        self.config = config
        self.device = device
        self.num_steps = config.num_steps
        self.data = data
        self.metrics: SnapshotMetrics | None = None  # the last snapshot's
        self.evaluated: tuple[int, QuickEvaluation] | None = None  # the last step that was, since the run was opened
        self.periodic_evaluator = PeriodicEvaluator(config, data)
        self.monitor = Monitor(config, data, run_dir.checkpoints_dir)
        newest = checkpoint.load_newest(run_dir.checkpoints_dir)
        tensors = newest[0] if newest else {}
        self._begin(tensors, len(read_health(tensors).rewinds))

    @property
    def finished(self) -> bool:
        """Tell whether every step is trained."""
        return self.state.step >= self.num_steps

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Snapshot]:
        """Train to the end, yielding each Snapshot when it is on disk; when stopped, save the step in hand.

        Raises:
            TrainingDivergedError: NaN or Inf; the last checkpoint stays as it is.
            TrainingCollapsedError: it is dead or has collapsed, and is not to go on; likewise.
            StorageError: the disk refuses; the last checkpoint stays as it is.
        """
        if self.finished:
            log.info("all %d steps are trained already", self.num_steps)
            self._end()
            return
        try:
            sent_back = False
            while sent_back := (yield from self._train_on(should_stop, sent_back)):
                pass
        except OSError as error:  # of TensorBoard's writer; our own files have their own messages
            raise storage_error(self.run_dir.tensorboard_dir, 0, error) from error
        if self.finished:
            self._end()

    def _end(self) -> None:
        """Write what is made of a whole training, unless a manifest vouches for it already."""
        if not self.run_dir.manifest_path.exists():
            write_neighbours(self.run_dir, self.num_steps, self.data.train_images)

    def _train_on(self, should_stop: Callable[[], bool], sent_back: bool) -> Generator[Snapshot, None, bool]:
        """Train to the end, a stop or an illness; return whether the run was sent back and is to go on from there."""
        log.info("training steps %d to %d on %s", self.state.step + 1, self.num_steps, self.device.reason)
        if not self.state.step:
            shutil.rmtree(self.run_dir.tensorboard_dir, ignore_errors=True)  # of another try, or one that was killed
        with EventLog(self.run_dir.tensorboard_dir, self.state.step) as events:
            writer = SnapshotWriter(self.run_dir, self.config, events, self.state)
            if sent_back:
                writer.save(self.state)
                writer.write_lines(self.state)
            try:
                for snapshot in train(self.state, self.tried, self.batches, should_stop):
                    event = self.monitor.examine(self.state, self.batches, snapshot)
                    if event and self._obey(event, writer):
                        return True
                    self.metrics = writer.write(snapshot, self.state, self.periodic_evaluator.evaluate(self.state))
                    if self.metrics.evaluation:
                        self.evaluated = self.metrics.step, self.metrics.evaluation
                    yield snapshot
            except TrainingDivergedError as error:
                return self._obey(self.monitor.diverged(self.state, error), writer)
            if writer.logged_step < self.state.step:
                writer.save(self.state)
                log.info("stopped and saved at step %d", self.state.step)
        return False

    def _obey(self, event: HealthEvent, writer: SnapshotWriter) -> bool:
        """Do what is to be done about an illness, before a checkpoint can have it; tell whether the run was sent back.

        Raises TrainingDivergedError or TrainingCollapsedError when training is to end.
        """
        log.warning("%s", event)
        before = self.state.health.events
        self.state.health = self.state.health.with_event(event)
        if event.action == "failed":
            writer.write_lines(self.state)
            raise error_of(event, before)
        if event.to_step is not None:
            self._go_back(event.to_step, fresh_latents=event.action == "rolled_back")
        return event.to_step is not None

    def _go_back(self, step: int, fresh_latents: bool) -> None:
        """Put the state back to a snapshot's, or to the beginning, for another try.

        What is later goes from the disk first, so that it never holds two tries. A kill on the way leaves an earlier
        state of the old one, which comes to the same decision again.
        """
        sick = self.state.health
        path = checkpoint.path_of(self.run_dir.checkpoints_dir, step)
        tensors = checkpoint.load(path)[0] if step else {}
        self.metrics = self.evaluated = None
        checkpoint.drop_after(self.run_dir.checkpoints_dir, step)
        rewinds = (*sick.rewinds, step)
        self._begin(tensors, len(rewinds))
        if fresh_latents:
            assert self.tried.seed is not None
            self.state.rng = make_rng(self.tried.seed, "steps", len(rewinds), self.state.device)
        self.state.health = Health(rewinds=rewinds, signs=self.state.health.signs, events=sick.events)

    def _begin(self, tensors: dict[str, Tensor], num_rewinds: int) -> None:
        """Take the state from a checkpoint's tensors, or from none, as that of a try."""
        self.tried = config_of_attempt(self.config, num_rewinds)
        assert self.tried.seed is not None
        images, labels = self.data.train_images, self.data.train_labels
        self.batches = Batches(images, labels, self.config.batch_size, self.tried.seed, self.config.device)
        self.state = TrainState(self.tried)
        if tensors:
            self.state.load(tensors)


@contextmanager
def open_run(
    path: Path,
    config: TrainConfig,
    data: Dataset,
    *,
    resume: bool = False,
    from_scratch: bool = False,
    default_seed: int = 0,
) -> Iterator[Run]:
    """Open a run for training, new or resumed, and keep other processes out of it for the length of the block.

    A new run gets its directory, with the config resolved once, on `default_seed` where it names no seed. With
    `resume` an existing run is gone on with; `from_scratch` throws away all that it has trained, and keeps its config.

    Raises:
        RunError: the run exists and `resume` is not asked for; it is in use, published, or no run directory.
        ConfigMismatchError: the run has another config than the one asked for, or other data.
        CheckpointError: it has checkpoints and none verifies.
        DeviceError: the device cannot be used.
    """
    run_dir = RunDir(path)
    with ExitStack() as stack:
        try:
            _prepare(run_dir, resume or from_scratch)
            stack.enter_context(run_dir.locked())
        except OSError as error:
            raise RunError(
                f"{path} cannot hold a run: {error.filename}: {error.strerror}. "
                "Check the path, its permissions and its mount."
            ) from error
        yield _open(run_dir, config, data, from_scratch, default_seed)


def _prepare(run_dir: RunDir, existing: bool) -> None:
    """Make a run's directory. Raise RunError where one exists, unless it is a run's and `existing` allows that."""
    path = run_dir.path
    # A killed process may have left only temporary files, before it wrote a config.
    if path.exists() and not all(is_temporary(file.name) for file in path.iterdir()):
        if not existing:
            raise RunError(f"{path} exists already: give --resume to go on with it, or another directory")
        run_dir.read_config()  # a folder that is no run is not touched
    path.mkdir(parents=True, exist_ok=True)


def resolve(config: TrainConfig, default_seed: int = 0) -> tuple[TrainConfig, Device]:
    """Fill what a config leaves open, on this machine. Raises DeviceError when its device cannot be used."""
    device = choose_device(config.device)
    num_threads, precision = choose_num_threads(), choose_precision(device.kind)
    return config.resolved(seed=default_seed, device=device.kind, num_threads=num_threads, precision=precision), device


def _open(run_dir: RunDir, config: TrainConfig, data: Dataset, from_scratch: bool, default_seed: int) -> Run:
    for leftover in run_dir.path.rglob(".*.tmp"):
        leftover.unlink()
    if run_dir.config_path.exists():
        made = run_dir.read_config()
        config.check_resumes(made, run_dir.path)
        device = choose_device(made.device)
        config = made.completed()
        if from_scratch:
            _clear(run_dir)
    else:
        config, device = resolve(config, default_seed)
        run_dir.write_config(config)
    _describe(run_dir, device, data)
    return Run(run_dir, config, device, data)


def _describe(run_dir: RunDir, device: Device, data: Dataset) -> None:
    """Write what the run is made with, unless it is there; refuse other data than the run began with."""
    if not run_dir.provenance_path.exists():
        run_dir.write_provenance(Provenance.now(run_dir.path.resolve().name, device.reason, data.sha256))
    made_from = run_dir.read_provenance().data
    for name, found in data.sha256.items():
        if made_from.get(name) != found:
            raise ConfigMismatchError(
                f"{run_dir.path} was made from other data: {name} has SHA-256 {found}, "
                f"the run began with {made_from.get(name)}. Give its own --data-dir, or start another run."
            )
    if not run_dir.reals_path.exists():
        reals = torch.from_numpy(data.test_images[:NUM_FIXED]).unsqueeze(1)  # (25, 1, 28, 28)
        atomic_write(run_dir.reals_path, grid_png(reals))


def _clear(run_dir: RunDir) -> None:
    if run_dir.manifest_path.exists():
        raise RunError(f"{run_dir.path} is finished and published: start another run instead of --from-scratch")
    for folder in (run_dir.checkpoints_dir, run_dir.grids_dir, run_dir.tensorboard_dir, run_dir.report_path.parent):
        shutil.rmtree(folder, ignore_errors=True)
    run_dir.metrics_path.unlink(missing_ok=True)
    run_dir.losses_path.unlink(missing_ok=True)
    run_dir.neighbours_path.unlink(missing_ok=True)
