"""How is a run begun, gone on with, and trained to its end?"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gan import checkpoint
from gan.batches import Batches
from gan.config import TrainConfig
from gan.device import Device, choose_device, choose_num_threads, choose_precision
from gan.errors import ConfigMismatchError, RunError
from gan.evaluation import QuickEvaluation
from gan.events import EventLog
from gan.files import atomic_write, storage_error
from gan.images import grid_png
from gan.mnist import Mnist
from gan.neighbours import write_neighbours
from gan.provenance import Provenance
from gan.quick import QuickJudge
from gan.run_dir import RunDir, SnapshotMetrics, SnapshotWriter
from gan.state import NUM_FIXED, TrainState
from gan.training import Snapshot, train

log = logging.getLogger(__name__)


class Run:
    """Hold a run that is open for training: its directory, taken for this process, its config and its state."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, device: Device, data: Mnist) -> None:
        """Take the run directory and load its newest good checkpoint. Raises RunError, CheckpointError."""
        assert config.seed is not None and config.num_steps is not None
        self.run_dir = run_dir
        self.config = config
        self.device = device
        self.num_steps = config.num_steps
        self.metrics: SnapshotMetrics | None = None  # the last snapshot's
        self.evaluated: tuple[int, QuickEvaluation] | None = None  # the last step that was, since the run was opened
        self.quick_judge = QuickJudge(config, data)
        self.train_images = data.train_images
        self.batches = Batches(data.train_images, config.batch_size, config.seed, config.device)
        self.state = TrainState(config)
        if newest := checkpoint.load_newest(run_dir.checkpoints_dir):
            self.state.load(newest[0])

    @property
    def finished(self) -> bool:
        """Tell whether every step is trained."""
        return self.state.step >= self.num_steps

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Snapshot]:
        """Train to the end, yielding each Snapshot when it is on disk; when stopped, save the step in hand.

        Raises:
            TrainingDivergedError: NaN or Inf; the last checkpoint stays as it is.
            StorageError: the disk refuses; the last checkpoint stays as it is.
        """
        if self.finished:
            log.info("all %d steps are trained already", self.num_steps)
            self._end()
            return
        log.info("training steps %d to %d on %s", self.state.step + 1, self.num_steps, self.device.reason)
        began_at = self.state.step
        try:
            with EventLog(self.run_dir.tensorboard_dir, began_at) as events:
                writer = SnapshotWriter(self.run_dir, self.config, events, self.state)
                for snapshot in train(self.state, self.config, self.batches, should_stop):
                    self.metrics = writer.write(snapshot, self.state, self.quick_judge.evaluate(self.state))
                    if self.metrics.evaluation:
                        self.evaluated = self.metrics.step, self.metrics.evaluation
                    yield snapshot
                if writer.logged_step < self.state.step:
                    writer.save(self.state)
                    log.info("stopped and saved at step %d", self.state.step)
        except OSError as error:  # of TensorBoard's writer; our own files have their own messages
            raise storage_error(self.run_dir.tensorboard_dir, 0, error) from error
        if self.finished:
            self._end()

    def _end(self) -> None:
        """Write what is made of a whole training, unless a manifest vouches for it already."""
        if not self.run_dir.manifest_path.exists():
            write_neighbours(self.run_dir, self.num_steps, self.train_images)


@contextmanager
def open_run(
    path: Path,
    config: TrainConfig,
    data: Mnist,
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
    try:
        handle = _take(run_dir, resume or from_scratch)
    except OSError as error:
        raise RunError(
            f"{path} cannot hold a run: {error.filename}: {error.strerror}. "
            "Check the path, its permissions and its mount."
        ) from error
    try:
        yield _open(run_dir, config, data, from_scratch, default_seed)
    finally:
        os.close(handle)


def _take(run_dir: RunDir, existing: bool) -> int:
    """Lock a run's directory, an existing run's only if that is asked for; return the descriptor to close."""
    path = run_dir.path
    # A write that a kill cut short leaves a temporary file, maybe before there is a config.
    if path.exists() and any(not (file.name.startswith(".") and file.suffix == ".tmp") for file in path.iterdir()):
        if not existing:
            raise RunError(f"{path} exists already: give --resume to go on with it, or another directory")
        run_dir.read_config()  # a folder that is no run is not touched
    path.mkdir(parents=True, exist_ok=True)
    return run_dir.lock()


def resolve(config: TrainConfig, default_seed: int = 0) -> tuple[TrainConfig, Device]:
    """Fill what a config leaves open, on this machine. Raises DeviceError when its device cannot be used."""
    device = choose_device(config.device)
    num_threads, precision = choose_num_threads(), choose_precision(device.kind)
    return config.resolved(seed=default_seed, device=device.kind, num_threads=num_threads, precision=precision), device


def _open(run_dir: RunDir, config: TrainConfig, data: Mnist, from_scratch: bool, default_seed: int) -> Run:
    for leftover in run_dir.path.rglob(".*.tmp"):
        leftover.unlink()
    if run_dir.config_path.exists():
        made = run_dir.read_config()
        config.check_resumes(made, run_dir.path)
        device = choose_device(made.device)
        config = made
        if from_scratch:
            _clear(run_dir)
    else:
        config, device = resolve(config, default_seed)
        run_dir.write_config(config)
    _describe(run_dir, device, data)
    return Run(run_dir, config, device, data)


def _describe(run_dir: RunDir, device: Device, data: Mnist) -> None:
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
