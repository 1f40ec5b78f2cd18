"""Which files of a run are made from its losses, its metrics and its grids, and can be made again from them?"""

import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from gan.config import RunConfig
from gan.engine.state import LOSSES_SHA256, read_health, with_losses
from gan.errors import CheckpointError, RunError
from gan.files import atomic_write, sha256_bytes
from gan.runs import checkpoint, layout
from gan.runs.checkpoint import Checkpoint
from gan.runs.journal import History, Journal
from gan.runs.run_dir import MetricsLine, RunDir, SnapshotMetrics
from gan.runs.tensorboard import EventLog

DAMAGED_NPZ = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
REMEDY = "Copy it from another copy of the run (a store has one if the run was published), or train the run again."


def put_together(run_dir: RunDir, journal: Journal, history: History) -> None:
    """Enter and write metrics.jsonl and losses.npz, and TensorBoard's events where there are none.

    Also delete the checkpoints that a process left which ended before it could delete them.

    Raises:
        StorageError: the disk refuses a read, a write or a removal.
    """
    with run_dir.disk_errors():
        checkpoint.delete_orphaned_sidecars(run_dir.path)
        prune_checkpoints(run_dir, run_dir.read_config(), history.lines)
        hashes = journal.hashes()
        contents = _contents(history)
        journal.enter({name: data for name, data in contents.items() if sha256_bytes(data) not in hashes[name][-1:]})
        write_losses_and_metrics(run_dir, history)
        write_missing_events(run_dir, journal, history)


def prune_checkpoints(run_dir: RunDir, config: RunConfig, lines: Iterable[MetricsLine]) -> None:
    """Delete the checkpoints that a run no longer keeps, given its lines of metrics.jsonl."""
    best = run_dir.best_checkpoint(line for line in lines if isinstance(line, SnapshotMetrics))
    checkpoint.prune(run_dir.path, config.snapshot_steps, config.num_steps, best.step if best else None)


def write_losses_and_metrics(run_dir: RunDir, history: History) -> None:
    """Write metrics.jsonl and losses.npz where they differ from this history. Raises as `put_together` does."""
    for name, content in _contents(history).items():
        path = run_dir.path / name
        if not path.exists() or path.read_bytes() != content:
            atomic_write(path, content)


def _contents(history: History) -> dict[str, bytes]:
    return {layout.METRICS: metrics_jsonl(history.lines), layout.LOSSES: losses_npz(*history.losses.T)}


def write_missing_events(run_dir: RunDir, journal: Journal, history: History) -> None:
    """Write TensorBoard's events of a run where there is no folder of them."""
    if len(history.losses) and not run_dir.tensorboard_dir.exists():
        with EventLog(run_dir.tensorboard_dir, 0) as events:
            describe(run_dir, run_dir.read_config(), events)
            events.losses(1, *history.losses.T)
            for step, path in run_dir.grids():
                events.image(step, "samples", path.read_bytes())
            for line in history.lines:
                if isinstance(line, SnapshotMetrics):
                    events.scalars(line.step, **line.scalars())
        journal.enter(hashes=events.hashes())


def describe(run_dir: RunDir, config: RunConfig, events: EventLog) -> None:
    """Add the run's id, name and config to TensorBoard's pages, which know only the folder's name."""
    name = run_dir.read_name() if run_dir.provenance_path.exists() else ""
    events.describe(run_dir.path.resolve().name, name, config.model_dump(mode="json"))


def metrics_jsonl(lines: Sequence[MetricsLine]) -> bytes:
    """Return lines of metrics.jsonl."""
    return "".join(line.model_dump_json() + "\n" for line in lines).encode()


def losses_npz(g_losses: np.ndarray, d_losses: np.ndarray) -> bytes:
    """Return the content of losses.npz: g_loss and d_loss, float32 (N,), one value for each step.

    The same losses give the same bytes.
    """
    buffer = io.BytesIO()
    np.savez(buffer, g_loss=g_losses, d_loss=d_losses)
    return buffer.getvalue()


def read_losses(path: Path) -> np.ndarray:
    """Read losses.npz: g_loss and d_loss, float32 (N, 2). Raises RunError if it has not a finite pair for each step."""
    try:
        # Given a path, numpy would leave a file that is not a zip open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            g_losses, d_losses = arrays["g_loss"], arrays["d_loss"]
    except FileNotFoundError:
        raise RunError(f"{path}: missing. {REMEDY}") from None
    except DAMAGED_NPZ as error:
        raise RunError(f"{path}: damaged ({error}). {REMEDY}") from error
    if g_losses.ndim != 1 or g_losses.shape != d_losses.shape or not g_losses.size:
        shapes = f"g_loss {g_losses.shape} and d_loss {d_losses.shape}"
        raise RunError(f"{path}: expected two series of one length, found {shapes}. {REMEDY}")
    bad = ~(np.isfinite(g_losses) & np.isfinite(d_losses))
    if bad.any():
        raise RunError(f"{path}: the losses of step {int(bad.argmax()) + 1} are not finite. {REMEDY}")
    return np.stack([g_losses, d_losses], 1)


def whole_checkpoint(journal: Journal, found: Checkpoint) -> Checkpoint:
    """Return a checkpoint with the losses so far, from the journal; a finished run has them in losses.npz.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    if LOSSES_SHA256 not in found.tensors:  # of an older version, or no checkpoint of a run
        return Checkpoint(with_losses(found.tensors, None), found.config)
    try:
        if journal:
            losses = journal.history(read_health(found.tensors).rewinds, found.step).losses
        else:
            losses = read_losses(RunDir(journal.run_path).losses_path)
    except RunError as error:
        raise CheckpointError(str(error)) from error
    return Checkpoint(with_losses(found.tensors, losses), found.config)


def read_lines(journal: Journal, rewinds: tuple[int, ...], step: int) -> list[MetricsLine]:
    """Return the lines of metrics.jsonl up to a position. Without a journal they are those of the file.

    Raises:
        RunError: the file is damaged.
    """
    with suppress(CheckpointError):
        return journal.history(rewinds, step).lines
    return RunDir(journal.run_path).read_lines()
