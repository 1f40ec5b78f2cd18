"""Where does each file of a run live, and how does a snapshot become files?"""

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gan.config import TrainConfig
from gan.engine.state import TrainState
from gan.errors import RunError
from gan.evaluation.evaluator import QuickEvaluation
from gan.files import atomic_write, locked
from gan.health import HealthEvent
from gan.images import grid_png
from gan.runs.best import Best, best_of
from gan.runs.provenance import Provenance
from gan.runs.tensorboard import EventLog
from gan.training import checkpoint
from gan.training.loop import Snapshot

CONFIG_VERSION = 1


class SnapshotMetrics(BaseModel):
    """Hold one line of metrics.jsonl: a snapshot's figures. The other kind of line is a HealthEvent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    step: int
    g_loss: float  # means over the steps since the snapshot before
    d_loss: float
    steps_per_second: float  # of the loop alone
    seconds: float  # of the loop, since the run's first step, over all its resumes
    time: str  # ISO 8601, UTC
    evaluation: QuickEvaluation | None = Field(None, description="Of the samples; gan.training.periodic says when.")

    def scalars(self) -> dict[str, float]:
        """Return what TensorBoard shows of it, by tag."""
        found = {"steps_per_second": self.steps_per_second}
        if judged := self.evaluation:
            names = ("distance", "distance_floor", "histogram_distance", "classes_covered")
            found |= {f"judge/{name}": getattr(judged, name) for name in names}
        return found


MetricsLine = SnapshotMetrics | HealthEvent
LINE: TypeAdapter[MetricsLine] = TypeAdapter(MetricsLine)


class RunDir:
    """Know where each file of a run is; the one place where they are named."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.provenance_path = path / "provenance.json"
        self.losses_path = path / "losses.npz"
        self.metrics_path = path / "metrics.jsonl"
        self.reals_path = path / "reals.png"
        self.neighbours_path = path / "neighbours.png"
        self.grids_dir = path / "grids"
        self.checkpoints_dir = path / "checkpoints"
        self.tensorboard_dir = path / "tensorboard"
        self.film_path = path / "report" / "training.gif"
        self.report_path = path / "report" / "index.html"
        self.manifest_path = path / "manifest.json"

    def grid_path(self, step: int) -> Path:
        """Return where the grid of a step lives."""
        return self.grids_dir / f"step-{step:06d}.png"

    def grids(self) -> list[tuple[int, Path]]:
        """List the grids as (step, path), the first step first."""
        return sorted((checkpoint.step_of(path), path) for path in self.grids_dir.glob("step-[0-9]*[0-9].png"))

    def read_config(self) -> TrainConfig:
        """Read the run's resolved config. Raises RunError when there is none, or it is damaged."""
        try:
            fields = json.loads(self.config_path.read_bytes())
            if fields.pop("version") != CONFIG_VERSION:
                raise RunError(f"{self.config_path}: not a config of version {CONFIG_VERSION}")
            return TrainConfig.model_validate(fields)
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a run directory: it has no config.json") from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise RunError(f"{self.config_path}: cannot be read ({error})") from error

    def write_config(self, config: TrainConfig) -> None:
        """Write the resolved config, which makes the folder a run directory."""
        fields = {"version": CONFIG_VERSION, **config.model_dump(mode="json")}
        atomic_write(self.config_path, _json(fields))

    def read_provenance(self) -> Provenance:
        """Read what the run was made with. Raises RunError when it is missing or damaged."""
        try:
            return Provenance.model_validate_json(self.provenance_path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RunError(f"{self.provenance_path}: cannot be read ({error})") from error

    def write_provenance(self, provenance: Provenance) -> None:
        """Write what the run is made with."""
        atomic_write(self.provenance_path, _json(provenance.model_dump(mode="json")))

    def read_metrics(self) -> list[SnapshotMetrics]:
        """Read the snapshots' lines of metrics.jsonl; a last line that a kill cut short is left out."""
        return [line for line in self.read_lines() if isinstance(line, SnapshotMetrics)]

    def read_events(self) -> list[HealthEvent]:
        """Read the referee's lines of metrics.jsonl."""
        return [line for line in self.read_lines() if isinstance(line, HealthEvent)]

    def read_lines(self) -> list[MetricsLine]:
        """Read metrics.jsonl. Raises RunError when it is damaged."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(errors="replace").splitlines(keepends=True)
        try:
            return [LINE.validate_json(line) for line in lines if line.endswith("\n")]
        except ValidationError as error:
            raise RunError(f"{self.metrics_path}: damaged ({error})") from error

    def best_checkpoint(self, metrics: Iterable[SnapshotMetrics]) -> Best | None:
        """Return the best of the checkpoints that are here, by the distances among `metrics`."""
        steps = {checkpoint.step_of(path) for path in checkpoint.newest_first(self.checkpoints_dir)}
        judged = ((each.step, each.evaluation) for each in metrics if each.step in steps)
        return best_of(Best(step=step, distance=found.distance) for step, found in judged if found)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the run for the length of the block.

        Raises:
            RunError: another process trains the run.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, wait=False))
            except BlockingIOError:
                raise RunError(f"{self.path}: another process is training this run; wait for it or stop it") from None
            yield


class SnapshotWriter:
    """Turn a training's snapshots into the files of its run."""

    def __init__(self, run_dir: RunDir, config: TrainConfig, events: EventLog, state: TrainState) -> None:
        """Go on after `state.step`: what was written of later steps is dropped."""
        self.run_dir = run_dir
        self.config = config
        self.events = events
        events_so_far, step = state.health.events, state.step
        self.lines = [
            line
            for line in run_dir.read_lines()
            if (line in events_so_far if isinstance(line, HealthEvent) else line.step <= step)
        ]
        self.seconds = max((line.seconds for line in self.lines if isinstance(line, SnapshotMetrics)), default=0.0)
        self.logged_step = state.step
        for step, path in run_dir.grids():
            if step > state.step:
                path.unlink()
        if state.step == 0:
            events.hparams(config.model_dump(mode="json"))

    def write(
        self, snapshot: Snapshot, state: TrainState, evaluation: QuickEvaluation | None = None
    ) -> SnapshotMetrics:
        """Write a snapshot's grid, losses, metrics and events, then the checkpoint that vouches for them."""
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
        self.events.image(snapshot.step, "samples", png, *PNG_SIZE)
        self.events.scalars(snapshot.step, **metrics.scalars())
        self.save(state)
        return metrics

    def write_lines(self, state: TrainState, *lines: MetricsLine) -> None:
        """Write metrics.jsonl with what is new: the events that the state has, then these lines."""
        self.lines += [event for event in state.health.events if event not in self.lines]
        self.lines += lines
        text = "".join(line.model_dump_json() + "\n" for line in self.lines)
        atomic_write(self.run_dir.metrics_path, text.encode())

    def save(self, state: TrainState) -> None:
        """Write the losses up to this step, then a checkpoint; drop the checkpoints that are no longer kept."""
        run_dir, first = self.run_dir, self.logged_step
        self.events.losses(first + 1, state.g_losses[first:], state.d_losses[first:])
        self.events.flush()
        self.logged_step = state.step
        atomic_write(run_dir.losses_path, losses_npz(state.g_losses, state.d_losses))
        config = self.config.model_dump(mode="json")
        checkpoint.save(run_dir.checkpoints_dir, state.tensors(), config, state.health.rewinds)
        assert self.config.num_steps is not None
        best = run_dir.best_checkpoint(line for line in self.lines if isinstance(line, SnapshotMetrics))
        checkpoint.prune(
            run_dir.checkpoints_dir, self.config.snapshot_steps, self.config.num_steps, best.step if best else None
        )


PNG_SIZE = (152, 152)  # 5 x 28 pixels and 6 gaps of 2


def losses_npz(g_losses: np.ndarray, d_losses: np.ndarray) -> bytes:
    """Return losses.npz: g_loss and d_loss, float32, one a step. The same losses give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, g_loss=g_losses, d_loss=d_losses)
    return buffer.getvalue()


def _json(fields: dict[str, object]) -> bytes:
    return (json.dumps(fields, indent=2) + "\n").encode()
