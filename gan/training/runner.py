"""How is a run started, resumed and trained to its end?"""

import logging
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan.config import RunConfig, TrainConfig
from gan.data.batches import Batches
from gan.data.data_note import DataNote
from gan.data.dataset import Dataset
from gan.device import (
    Device,
    hardware_name,
    library_versions,
    numerics,
)
from gan.engine.state import NUM_FIXED, TrainState, read_health
from gan.errors import ConfigMismatchError, RunError, TrainingDivergedError
from gan.files import atomic_write, fsync_dir, is_temporary, remove_temporary, sha256_file
from gan.health import Health, HealthEvent
from gan.images import grid_png, with_channels
from gan.runs import checkpoint, journal, layout
from gan.runs.checkpoint import Checkpoint
from gan.runs.derived import put_together, read_lines, whole_checkpoint, write_missing_events
from gan.runs.journal import History, Journal
from gan.runs.manifest import check_files, check_new_run_id
from gan.runs.processes import record_process
from gan.runs.provenance import Provenance
from gan.runs.repair import mend
from gan.runs.run_dir import RunDir, SnapshotMetrics
from gan.runs.tensorboard import EventLog
from gan.seeds import make_rng
from gan.training.initial import begin_from_copy, copy_initial
from gan.training.loop import Snapshot, train
from gan.training.monitor import Monitor, config_of_attempt, error_of
from gan.training.neighbours import write_neighbours
from gan.training.periodic import PeriodicEvaluator
from gan.training.resolving import device_of, resolve_here
from gan.training.writer import SnapshotWriter

log = logging.getLogger(__name__)


class Run:
    """A run that is open for training: its directory, its config and its state.

    A run has one attempt, unless the monitor's diagnosis sends it back to an earlier step: there the next one begins.
    """

    def __init__(self, run_dir: RunDir, config: RunConfig, device: Device, data: Dataset) -> None:
        """Load the newest good checkpoint of a run directory. Raises CheckpointError."""
        self.run_dir = run_dir
        self.config = config
        self.device = device
        self.num_steps = config.num_steps
        self.data = data
        self.metrics: SnapshotMetrics | None = None  # of the last snapshot since the run was opened
        self.last_evaluated: SnapshotMetrics | None = None  # of the last one with an evaluation
        self.periodic_evaluator = PeriodicEvaluator(config, data)
        self.journal = Journal(run_dir.path)
        # No method of this run: the cycle of references would keep data and state in memory after training.
        newest_good = partial(
            checkpoint.newest_good_snapshot,
            run_dir.path,
            snapshot_steps=config.snapshot_steps,
            use_as=partial(_check_usable, config, self.journal),
        )
        self.monitor = Monitor(config, data, newest_good)
        if checkpoint.use_newest(run_dir.path, self._continue) is None:
            self._begin_attempt({}, 0)

    @property
    def finished(self) -> bool:
        """Return whether every step is trained."""
        return self.state.step >= self.num_steps

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Snapshot]:
        """Train to the end; yield each Snapshot when it is on disk. When `should_stop`, save the last step and end.

        Raises:
            TrainingDivergedError: NaN or Inf; the last checkpoint is unchanged.
            TrainingCollapsedError: the config says that training ends at this diagnosis; likewise.
            StorageError: the disk refuses a write; the last checkpoint is unchanged.
        """
        if self.finished:
            log.info("all %d steps are trained already", self.num_steps)
        else:
            with self.run_dir.disk_errors():
                hardware = hardware_name(self.device.kind)
                record_process(self.journal, self.state.step, hardware, library_versions(self.device.kind))
                event = yield from self._train_attempt(should_stop)
                while event is not None:
                    self._go_back(event)
                    event = yield from self._train_attempt(should_stop, is_next=True)
        # A manifest lists what is there; nothing is added to a published run.
        if self.state.step and not self.run_dir.manifest_path.exists():
            put_together(self.run_dir, self.journal, self._history())
            if self.finished and not self.data.is_private:
                write_neighbours(self.journal, self.num_steps, self.data.train_images)

    def _history(self) -> History:
        losses = np.stack([self.state.g_losses, self.state.d_losses], 1)
        return History(losses, read_lines(self.journal, self.state.health.rewinds, self.state.step))

    def _train_attempt(
        self, should_stop: Callable[[], bool], *, is_next: bool = False
    ) -> Generator[Snapshot, None, HealthEvent | None]:
        """Train until the end, a stop or a diagnosis; return the event that sends the run back, or None.

        Raises TrainingDivergedError or TrainingCollapsedError when the diagnosis ends the training.
        """
        log.info("training steps %d to %d on %s", self.state.step + 1, self.num_steps, self.device.reason)
        if not self.state.step:
            shutil.rmtree(self.run_dir.tensorboard_dir, ignore_errors=True)  # of an earlier attempt or a killed process
        write_missing_events(self.run_dir, self.journal, self._history())
        with EventLog(self.run_dir.tensorboard_dir, self.state.step) as events:
            writer = SnapshotWriter(self.run_dir, self.journal, self.config, events, self.state)
            if is_next:  # after a kill from here on, the run resumes this attempt
                writer.save(self.state)
            event = None
            try:
                for snapshot in train(self.state, self.attempt_config, self.batches, should_stop):
                    event = self.monitor.examine(self.state, self.batches, snapshot)
                    if event:
                        self._record(event)
                        if event.action != "ignored":
                            break  # before a checkpoint has the state that was diagnosed
                    self._write(writer, snapshot)
                    yield snapshot
            except TrainingDivergedError as error:
                event = self.monitor.diverged(self.state, error)
                self._record(event)
            if event and event.action == "failed":
                writer.write_lines(self.state)
                raise error_of(event, self.state.health.events[:-1])
            if event and event.to_step is not None:
                return event
            if writer.saved_step < self.state.step:
                writer.save(self.state)
                log.info("stopped and saved at step %d", self.state.step)
        return None

    def _write(self, writer: SnapshotWriter, snapshot: Snapshot) -> None:
        self.metrics = writer.write(snapshot, self.state, self.periodic_evaluator.evaluate(self.state))
        if self.metrics.evaluation:
            self.last_evaluated = self.metrics

    def _record(self, event: HealthEvent) -> None:
        log.warning("%s", event)
        self.state.health = self.state.health.with_event(event)

    def _go_back(self, event: HealthEvent) -> None:
        """Put the state back to a snapshot's, or to the beginning, for the next attempt.

        Later checkpoints are deleted first, so that the disk never holds two attempts. After a kill in between, the
        run resumes from an earlier state of the old attempt and comes to the same diagnosis again.
        """
        assert event.to_step is not None
        health = self.state.health
        path = checkpoint.path_of(self.run_dir.path, event.to_step)
        tensors = whole_checkpoint(self.journal, checkpoint.load(path)).tensors if event.to_step else {}
        self.metrics = self.last_evaluated = None
        checkpoint.discard_after(self.run_dir.path, event.to_step)
        rewinds = (*health.rewinds, event.to_step)
        self._begin_attempt(tensors, len(rewinds))
        if event.action == "rolled_back":  # the same seed, but other latents than those that led to the diagnosis
            self.state.rng = make_rng(self.attempt_config.seed, "steps", len(rewinds), self.state.device)
        self.state.health = Health(rewinds=rewinds, signs=self.state.health.signs, events=health.events)

    def _continue(self, found: Checkpoint) -> Checkpoint:
        """Take the state from a checkpoint. Raises CheckpointError where it is not one of this run."""
        checkpoint.check_config(found, self.config)
        tensors = whole_checkpoint(self.journal, found).tensors
        self._begin_attempt(tensors, len(read_health(tensors).rewinds))
        self._warn_of_missing_classes()
        return found

    def _warn_of_missing_classes(self) -> None:
        """Say so where the generator is asked for classes without a training image, as older versions did."""
        asked = self.state.generator.class_counts.cpu().numpy() > 0
        missing = np.flatnonzero(asked & (self.data.class_counts == 0)).tolist()
        if missing and self.config.conditional:
            log.warning("the training images have no %s, and this run of an older version draws %s: these samples "
                        "are noise. Start another run.", ", ".join(map(str, missing)),
                        "it" if len(missing) == 1 else "them")  # fmt: skip

    def _begin_attempt(self, tensors: dict[str, Tensor], num_rewinds: int) -> None:
        """Take an attempt's state from the tensors of a checkpoint; from none, begin at step 0."""
        self.attempt_config = config_of_attempt(self.config, num_rewinds)
        images, labels = self.data.train_images, self.data.train_labels
        self.batches = Batches(images, labels, self.config.batch_size, self.attempt_config.seed, self.config.device)
        self.state = TrainState(self.attempt_config, class_counts=torch.from_numpy(self.data.class_counts))
        if tensors:
            self.state.load(tensors)
        else:
            begin_from_copy(self.state, self.config, self.run_dir.path)


def _check_usable(config: RunConfig, journal: Journal, found: Checkpoint) -> None:
    """Raise CheckpointError where a run with this config cannot continue from a checkpoint."""
    checkpoint.check_config(found, config)
    TrainState(config).load(whole_checkpoint(journal, found).tensors)


@contextmanager
def open_run(
    path: Path,
    asked: TrainConfig,
    data: Dataset,
    *,
    resume: bool = False,
    from_scratch: bool = False,
    default_seed: int = 0,
    is_held: bool = False,
    init_path: Path | None = None,
) -> Iterator[Run]:
    """Open a run for training, and keep other processes out of it for the length of the block.

    With `is_held`, the caller does that, by `RunDir.held`. `init_path` is a copy of what `asked.init_from` names, where
    that is in a bucket.

    A new run that cannot be opened leaves nothing behind.

    A new run gets its directory and a config that is resolved once, with `default_seed` where it names no seed. With
    `resume` an existing run continues. `from_scratch` discards all that it has trained, and keeps its config.

    Raises:
        RunError: the run exists and `resume` is not set; it is in use or published; the path is not a run directory;
            its name cannot be the id of a new run; or it has a file that no manifest can list.
        ConfigMismatchError: the run has another config than the one asked for, or other data.
        CheckpointError: it has checkpoints, but none verifies.
        DeviceError: the device cannot be used.
        StorageError: the disk refuses a read or a write.
    """
    run_dir = RunDir(path)
    with nullcontext() if is_held else run_dir.held():
        with run_dir.disk_errors():
            run = _open(run_dir, asked, data, resume or from_scratch, from_scratch, default_seed, init_path)
        yield run


def _open(
    run_dir: RunDir,
    asked: TrainConfig,
    data: Dataset,
    resume: bool,
    from_scratch: bool,
    seed: int,
    init_path: Path | None,
) -> Run:
    """Return the run of a directory that this process holds; `open_run` says how."""
    with ExitStack() as undo:
        path = run_dir.path
        mend(path, from_scratch=from_scratch)
        _prepare(run_dir, resume)
        _remove_temporary_files(path)
        if run_dir.config_path.exists():
            config = run_dir.read_config()
            asked.check_resumes(config, path)
            device = device_of(config, path)
            check_files(path)
            if from_scratch:
                _discard_training(run_dir)
        else:
            config, device = resolve_here(asked, seed, data.shape)
            for name in layout.WRITTEN_ONCE:
                undo.callback((path / name).unlink, missing_ok=True)
            config = copy_initial(init_path, config, path)
            run_dir.write_config(config)
        _write_description(run_dir, device, data)
        run = Run(run_dir, config, device, data)
        undo.pop_all()  # from here on, all stays
    _begin_journal(run)
    return run


def _prepare(run_dir: RunDir, existing: bool) -> None:
    """Raise RunError where a directory has files, unless they are a run's and `existing` allows that."""
    path = run_dir.path
    # A killed process may have left only temporary files and initial weights, before it wrote a config.
    if not all(is_temporary(file.name) or file.name == layout.INITIAL for file in path.iterdir()):
        if not existing:
            raise RunError(f"{path} exists already. Use --resume to continue it, or choose another directory.")
        run_dir.read_config()  # raises where the folder is not a run's
    else:
        check_new_run_id(path.resolve().name)
    for folder in (path, path.parent):  # a killed process may have made them
        fsync_dir(folder)


def _remove_temporary_files(path: Path) -> None:
    for file in path.rglob(".*"):
        if is_temporary(file.name) and not file.is_dir():
            remove_temporary(file)


def _write_description(run_dir: RunDir, device: Device, data: Dataset) -> None:
    """Write provenance.json and reals.png where they are missing. Raise ConfigMismatchError for other data."""
    if not run_dir.provenance_path.exists():
        run_id = run_dir.path.resolve().name
        libraries, on_gpu = library_versions(device.kind), numerics() if device.kind == "cuda" else None
        note = DataNote.of(data)
        run_dir.write_provenance(Provenance.now(run_id, device.reason, libraries, data.sha256, on_gpu, note))
    expected = run_dir.read_provenance().data
    for name, found in data.sha256.items():
        if expected.get(name) != found:
            raise ConfigMismatchError(
                f"{run_dir.path} was made from other data: {name} has SHA-256 {found}, the run began with "
                f"{expected.get(name)}. Use --data-dir with the run's data, or start another run."
            )
    if not run_dir.reals_path.exists():
        reals = with_channels(data.test_images[:NUM_FIXED])
        atomic_write(run_dir.reals_path, grid_png(torch.zeros_like(reals) if data.is_private else reals))


def _begin_journal(run: Run) -> None:
    """Enter what is in the directory of a new run, or of one that an older version has begun."""
    run_dir = run.run_dir
    if run.journal or run_dir.manifest_path.exists():
        return
    described = (run_dir.config_path, run_dir.provenance_path)
    files = [
        run_dir.reals_path,
        run_dir.initial_path,
        *(path for _, path in run_dir.grids()),
        *run_dir.checkpoints_dir.glob("*"),
    ]
    run.journal.begin(
        {path.name: path.read_bytes() for path in described},
        {path.relative_to(run_dir.path).as_posix(): sha256_file(path) for path in files if path.is_file()},
    )


def _discard_training(run_dir: RunDir) -> None:
    """Delete all that a run has trained."""
    if run_dir.manifest_path.exists():
        raise RunError(f"{run_dir.path} is finished and published. Start another run instead of using --from-scratch.")
    for folder in (layout.CHECKPOINTS, layout.GRIDS, layout.TENSORBOARD, layout.REPORT_FOLDER):
        shutil.rmtree(run_dir.path / folder, ignore_errors=True)
    for name in (layout.METRICS, layout.LOSSES, layout.NEIGHBOURS, layout.PROCESSES):
        (run_dir.path / name).unlink(missing_ok=True)
    journal.delete(run_dir.path)  # last: a checkpoint without its losses could not be resumed from
