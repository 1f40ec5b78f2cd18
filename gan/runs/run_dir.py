"""What does a run directory say about its run?"""

import errno
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gan.config import RunConfig
from gan.errors import RunError, RunInUseError, StorageError
from gan.evaluation.results import QuickEvaluation
from gan.files import atomic_write, make_folder, storage_error
from gan.health import HealthEvent
from gan.locks import locked
from gan.runs import layout
from gan.runs.config_file import config_bytes, faults_in, parse_config
from gan.runs.manifest import Best, best_of
from gan.runs.provenance import Provenance, run_name


class SnapshotMetrics(BaseModel):
    """One line of metrics.jsonl: the figures of a snapshot. The other kind of line is a HealthEvent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    step: int
    g_loss: float  # means over the steps since the snapshot before
    d_loss: float
    steps_per_second: float  # of the training loop alone
    seconds: float  # in the training loop since the run's first step, without interruptions
    time: str  # ISO 8601, UTC
    evaluation: QuickEvaluation | None = Field(None, description="Of the samples; gan.training.periodic says when.")

    def minutes_for(self, num_steps: int) -> float:
        """Return how long some more steps take. A speed that is rounded to 0, as after a pause, counts as 0.01."""
        return num_steps / max(self.steps_per_second, 0.01) / 60

    def scalars(self) -> dict[str, float]:
        """Return what TensorBoard shows of a snapshot, by tag."""
        found = {"steps_per_second": self.steps_per_second}
        if self.evaluation:
            names = ("distance", "distance_floor", "histogram_distance", "classes_covered")
            values = {f"judge/{name}": getattr(self.evaluation, name) for name in names}
            found |= {tag: value for tag, value in values.items() if value is not None}  # without labels no classes
        return found


MetricsLine = SnapshotMetrics | HealthEvent
LINE: TypeAdapter[MetricsLine] = TypeAdapter(MetricsLine)


class RunDir:
    """Read the files of a run directory, and write those that are written once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / layout.CONFIG
        self.provenance_path = path / layout.PROVENANCE
        self.processes_path = path / layout.PROCESSES
        self.initial_path = path / layout.INITIAL
        self.losses_path = path / layout.LOSSES
        self.metrics_path = path / layout.METRICS
        self.reals_path = path / layout.REALS
        self.neighbours_path = path / layout.NEIGHBOURS
        self.grids_dir = path / layout.GRIDS
        self.checkpoints_dir = path / layout.CHECKPOINTS
        self.tensorboard_dir = path / layout.TENSORBOARD
        self.film_path = path / layout.FILM
        self.report_path = path / layout.REPORT
        self.manifest_path = path / layout.MANIFEST

    def grid_path(self, step: int) -> Path:
        """Return the path of a step's grid."""
        return self.path / layout.grid(step)

    def grids(self) -> list[tuple[int, Path]]:
        """List the grids as (step, path), in order of their steps."""
        steps = (layout.grid_step(f"{layout.GRIDS}{path.name}") for path in self.grids_dir.glob("*"))
        return [(step, self.grid_path(step)) for step in sorted(step for step in steps if step is not None)]

    def read_config(self) -> RunConfig:
        """Read the run's resolved config. Raises RunError when it is missing or damaged."""
        try:
            return parse_config(self.config_path.read_bytes(), str(self.config_path))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.path} is not a run directory: it has no {layout.CONFIG}. Check the path.") from None
        except OSError as error:
            raise RunError(f"{self.config_path}: cannot be read ({error}). Check its permissions.") from error

    def write_config(self, config: RunConfig) -> None:
        """Write the resolved config. This makes the folder a run directory."""
        atomic_write(self.config_path, config_bytes(config))

    def read_provenance(self) -> Provenance:
        """Read what the run was made with. Raises RunError when it is missing or damaged."""
        try:
            return Provenance.model_validate_json(self.provenance_path.read_bytes())
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else faults_in(error)
            raise RunError(f"{self.provenance_path}: cannot be read ({why}). Restore it from a copy.") from error

    def write_provenance(self, provenance: Provenance) -> None:
        """Write what the run is made with."""
        fields = provenance.model_dump(mode="json")
        for name in ("numerics", "data_set"):
            if fields[name] is None:
                del fields[name]  # older versions do not know it
        content = json.dumps(fields, indent=2) + "\n"
        atomic_write(self.provenance_path, content.encode())

    def read_name(self) -> str:
        """Return what people call the run. Raises RunError when its config or provenance is missing or damaged."""
        config = self.read_config()
        return run_name(config.recipe, config.num_steps, config.seed, self.read_provenance().created)

    def read_metrics(self) -> list[SnapshotMetrics]:
        """Read the snapshots' lines of metrics.jsonl. Raises RunError when it is damaged."""
        return [line for line in self.read_lines() if isinstance(line, SnapshotMetrics)]

    def read_events(self) -> list[HealthEvent]:
        """Read the monitor's lines of metrics.jsonl. Raises RunError when it is damaged."""
        return [line for line in self.read_lines() if isinstance(line, HealthEvent)]

    def read_lines(self) -> list[MetricsLine]:
        """Read metrics.jsonl; skip a last line that a kill cut short. Raises RunError when it is damaged."""
        if not self.metrics_path.exists():
            return []
        try:
            lines = self.metrics_path.read_text(errors="replace").splitlines(keepends=True)
            return [LINE.validate_json(line) for line in lines if line.endswith("\n")]
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else faults_in(error)
            raise RunError(f"{self.metrics_path}: damaged ({why}). Restore it from a copy.") from error

    def best_checkpoint(self, metrics: Iterable[SnapshotMetrics]) -> Best | None:
        """Return the best of the checkpoints on disk, by the distances in `metrics`; None without any."""
        steps = set(layout.checkpoint_steps_in(self.path))
        measured = []
        for each in metrics:
            if each.step in steps and each.evaluation:
                measured.append(Best(step=each.step, distance=each.evaluation.distance))
        return best_of(measured)

    @contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Turn an OSError of the block, as from a read, a removal or a library, into a StorageError."""
        try:
            yield
        except OSError as error:
            path = Path(error.filename) if isinstance(error.filename, str) else self.path
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise storage_error(path, 0, error) from error
            raise StorageError(
                f"{path}: cannot be read or written ({error.strerror}). Check its disk, its permissions and its mount."
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory where there is none, and lock it as `locked` does. An empty one is removed at the end.

        Raises:
            RunInUseError: another process trains the run.
            RunError: the path cannot be a run's directory.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with ExitStack() as stack:
            for folder in reversed(made):
                stack.callback(_remove_empty, folder)
            try:
                make_folder(self.path)
                stack.enter_context(self.locked())
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot hold a run: {error.filename}: {error.strerror}. "
                    "Check the path, its permissions and its mount."
                ) from error
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the run for the length of the block.

        Raises:
            RunInUseError: another process trains the run.
            RunError: another process has deleted it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, wait=False))
            except FileNotFoundError:
                raise RunError(f"{self.path}: there is no such run, or another process has just deleted it.") from None
            except BlockingIOError:
                raise RunInUseError(
                    f"{self.path}: another process is training this run. Wait for it to finish, or stop it."
                ) from None
            yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it has files, or another process uses it
        folder.rmdir()
