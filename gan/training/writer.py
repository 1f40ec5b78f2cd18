"""Which files does a snapshot become, and in which order are they written?"""

import io
from datetime import UTC, datetime

import numpy as np

from gan.config import RunConfig
from gan.engine.state import TrainState
from gan.evaluation.results import QuickEvaluation
from gan.files import atomic_write
from gan.health import HealthEvent
from gan.images import grid_png
from gan.runs import checkpoint
from gan.runs.run_dir import MetricsLine, RunDir, SnapshotMetrics
from gan.runs.tensorboard import EventLog
from gan.training.loop import Snapshot

GRID_PIXELS = (152, 152)  # width and height: 5 images of 28 pixels and 6 gaps of 2


class SnapshotWriter:
    """Write the snapshots of a training into its run directory.

    A checkpoint is written after the grid, the metrics and the losses of its step. So all these files exist for the
    step that a run resumes from.
    """

    def __init__(self, run_dir: RunDir, config: RunConfig, events: EventLog, state: TrainState) -> None:
        """Continue after `state.step`: discard the grids and the metrics of later steps."""
        self.run_dir = run_dir
        self.config = config
        self.events = events
        self.lines = _lines_up_to(state, run_dir.read_lines())
        self.seconds = max((line.seconds for line in self.lines if isinstance(line, SnapshotMetrics)), default=0.0)
        self.saved_step = state.step  # the losses up to here are in TensorBoard's files and in losses.npz
        for step, path in run_dir.grids():
            if step > state.step:
                path.unlink()
        if state.step == 0:
            describe(run_dir, config, events)

    def write(
        self, snapshot: Snapshot, state: TrainState, evaluation: QuickEvaluation | None = None
    ) -> SnapshotMetrics:
        """Write a snapshot's grid, metrics and TensorBoard events, then its losses and its checkpoint."""
        png = grid_png(snapshot.images)
        atomic_write(self.run_dir.grid_path(snapshot.step), png)
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
        self.write_lines(state, metrics)
        self.events.image(snapshot.step, "samples", png, *GRID_PIXELS)
        self.events.scalars(snapshot.step, **metrics.scalars())
        self.save(state)
        return metrics

    def write_lines(self, state: TrainState, *lines: MetricsLine) -> None:
        """Write metrics.jsonl with the new events of the state, then these lines."""
        self.lines += [event for event in state.health.events if event not in self.lines]
        self.lines += lines
        text = "".join(line.model_dump_json() + "\n" for line in self.lines)
        atomic_write(self.run_dir.metrics_path, text.encode())

    def save(self, state: TrainState) -> None:
        """Write the losses up to this step, then a checkpoint; delete the checkpoints that are no longer kept."""
        first = self.saved_step
        self.events.losses(first + 1, state.g_losses[first:], state.d_losses[first:])
        self.events.flush()
        self.saved_step = state.step
        atomic_write(self.run_dir.losses_path, losses_npz(state.g_losses, state.d_losses))
        config = self.config.model_dump(mode="json")
        checkpoint.save(self.run_dir.path, state.tensors(), config, state.health.rewinds)
        best = self.run_dir.best_checkpoint(line for line in self.lines if isinstance(line, SnapshotMetrics))
        checkpoint.prune(
            self.run_dir.path, self.config.snapshot_steps, self.config.num_steps, best.step if best else None
        )


def describe(run_dir: RunDir, config: RunConfig, events: EventLog) -> None:
    """Add the run's id, name and config to TensorBoard's pages, which know only the folder's name."""
    name = run_dir.read_name() if run_dir.provenance_path.exists() else ""
    events.describe(run_dir.path.resolve().name, name, config.model_dump(mode="json"))


def losses_npz(g_losses: np.ndarray, d_losses: np.ndarray) -> bytes:
    """Return the content of losses.npz: g_loss and d_loss, float32 (N,), one value for each step.

    The same losses give the same bytes.
    """
    buffer = io.BytesIO()
    np.savez(buffer, g_loss=g_losses, d_loss=d_losses)
    return buffer.getvalue()


def _lines_up_to(state: TrainState, lines: list[MetricsLine]) -> list[MetricsLine]:
    """Return the events that the state has, and the snapshots up to its step."""
    kept: list[MetricsLine] = []
    for line in lines:
        belongs = line in state.health.events if isinstance(line, HealthEvent) else line.step <= state.step
        if belongs:
            kept.append(line)
    return kept
