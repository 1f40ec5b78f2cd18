"""Which files does a snapshot become, and in which order are they written?"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from gan.config import RunConfig
from gan.engine.state import TrainState, without_losses
from gan.evaluation.results import QuickEvaluation
from gan.files import atomic_write, sha256_bytes, storage_error
from gan.health import HealthEvent
from gan.images import grid_png
from gan.runs import checkpoint, layout
from gan.runs.derived import describe, metrics_jsonl, prune_checkpoints, read_lines
from gan.runs.journal import Interval, Journal
from gan.runs.run_dir import MetricsLine, RunDir, SnapshotMetrics
from gan.runs.tensorboard import EventLog
from gan.training.loop import Snapshot


class SnapshotWriter:
    """Write the snapshots of a training into its run directory.

    A piece of the journal comes first, and enters the other files. The checkpoint comes last. So all the files of a
    step exist when a run resumes from it.
    """

    def __init__(
        self, run_dir: RunDir, journal: Journal, config: RunConfig, events: EventLog, state: TrainState
    ) -> None:
        """Continue after `state.step`: discard the grids and the metrics of later steps, and losses.npz."""
        self.run_dir = run_dir
        self.journal = journal
        self.config = config
        self.events = events
        known = journal.newest()
        before = known.lines if known else []
        self.lines = _lines_up_to(state, read_lines(journal, state.health.rewinds, state.step))
        self._evaluated = _evaluated(self.lines)
        self.seconds = max((line.seconds for line in self.lines if isinstance(line, SnapshotMetrics)), default=0.0)
        self.saved_step = state.step  # the losses up to here are in TensorBoard's files and in a checkpoint
        # What the journal has of this state: nothing after a resume from a checkpoint of an older version.
        self._lines_entered = _num_equal(before, self.lines)
        is_known = known is not None and np.array_equal(known.losses[: state.step], _losses(state))
        self._step_entered = state.step if is_known else 0
        for step, path in run_dir.grids():
            if step > state.step:
                path.unlink()
        run_dir.losses_path.unlink(missing_ok=True)
        checkpoint.delete_orphaned_sidecars(run_dir.path)
        self._rewrite_metrics()
        if state.step == 0:
            describe(run_dir, config, events)

    def write(
        self, snapshot: Snapshot, state: TrainState, evaluation: QuickEvaluation | None = None
    ) -> SnapshotMetrics:
        """Write a snapshot's grid, metrics, losses and TensorBoard events, then its checkpoint."""
        png = grid_png(snapshot.images)
        metrics = SnapshotMetrics(
            step=snapshot.step,
            g_loss=snapshot.g_loss,
            d_loss=snapshot.d_loss,
            steps_per_second=round(snapshot.num_steps / snapshot.seconds, 2),
            seconds=round(self.seconds + snapshot.seconds, 3),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            evaluation=evaluation,
        )
        self.seconds = metrics.seconds
        self.events.image(snapshot.step, "samples", png)
        self.events.scalars(snapshot.step, **metrics.scalars())
        self.save(state, {layout.grid(snapshot.step): png}, metrics)
        return metrics

    def save(self, state: TrainState, grids: Mapping[str, bytes] = {}, *lines: MetricsLine) -> None:
        """Write grids, lines and the losses up to this step, then a checkpoint; delete those no longer kept."""
        first = self.saved_step
        self.events.losses(first + 1, state.g_losses[first:], state.d_losses[first:])
        self.events.flush()
        self.saved_step = state.step
        config = self.config.model_dump(mode="json")
        data = checkpoint.encode(without_losses(state.tensors()), config, state.health.rewinds)
        name, sha256 = layout.checkpoint(state.step), sha256_bytes(data)
        sidecar = layout.sidecar_content(checkpoint.path_of(self.run_dir.path, state.step).name, sha256)
        contents = {**grids, layout.sidecar(name): sidecar}
        self.write_lines(state, *lines, contents=contents, hashes={name: sha256, **self.events.hashes()})
        for grid, png in grids.items():
            atomic_write(self.run_dir.path / grid, png)
        checkpoint.write(self.run_dir.path, data, state.step)
        prune_checkpoints(self.run_dir, self.config, self._evaluated)

    def write_lines(
        self,
        state: TrainState,
        *lines: MetricsLine,
        contents: Mapping[str, bytes] = {},
        hashes: Mapping[str, str] = {},
    ) -> None:
        """Add the new events of the state, then these lines: to the journal, which enters these files, and on disk."""
        added = [*(event for event in state.health.events if event not in self.lines), *lines]
        num_kept = self._lines_entered
        entered = [*self.lines[num_kept:], *added]
        interval = Interval.of(
            _losses(state)[self._step_entered : self.saved_step],
            rewinds=state.health.rewinds,
            after_step=self._step_entered,
            step=self.saved_step,
            lines_kept=num_kept,
            lines=entered,
        )
        self.journal.enter(contents, hashes=hashes, interval=interval)
        self.lines += added
        self._evaluated += _evaluated(added)
        self._step_entered, self._lines_entered = self.saved_step, len(self.lines)
        self._append_metrics(added)

    def _append_metrics(self, lines: list[MetricsLine]) -> None:
        path = self.run_dir.metrics_path
        if not path.exists():
            self._rewrite_metrics()
            return
        content = metrics_jsonl(lines)
        try:
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(path, len(content), error) from error

    def _rewrite_metrics(self) -> None:
        """Write metrics.jsonl anew where it has other lines than the state."""
        path, content = self.run_dir.metrics_path, metrics_jsonl(self.lines)
        if (path.read_bytes() if path.exists() else b"") != content:
            atomic_write(path, content)


def _evaluated(lines: list[MetricsLine]) -> list[SnapshotMetrics]:
    return [line for line in lines if isinstance(line, SnapshotMetrics) and line.evaluation]


def _losses(state: TrainState) -> np.ndarray:
    return np.stack([state.g_losses, state.d_losses], 1)


def _num_equal(before: list[MetricsLine], lines: list[MetricsLine]) -> int:
    """Return with how many equal lines two lists begin."""
    pairs = enumerate(zip(before, lines, strict=False))
    return next((number for number, (old, new) in pairs if old != new), min(len(before), len(lines)))


def _lines_up_to(state: TrainState, lines: list[MetricsLine]) -> list[MetricsLine]:
    """Return the events that the state has, and the snapshots up to its step."""
    kept: list[MetricsLine] = []
    for line in lines:
        belongs = line in state.health.events if isinstance(line, HealthEvent) else line.step <= state.step
        if belongs:
            kept.append(line)
    return kept
