"""How is the state of a training saved, loaded and checked?"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from gan.errors import CheckpointError
from gan.files import atomic_write, sha256_bytes
from gan.runs import layout

VERSION = 1
KEEP_LAST = 3
KEEP_EVERY = 10  # snapshots
HEAD_BYTES = 1 << 16  # more than any header of ours has

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The content of a checkpoint: the tensors of a training's state, and the config's fields."""

    tensors: dict[str, Tensor]
    config: dict[str, object]

    @property
    def step(self) -> int:
        """Return the last trained step."""
        return int(self.tensors["step"])


class Position(NamedTuple):
    """A point in the history of a run.

    A diagnosis can send a run back to an earlier step, where its next attempt begins. `rewinds` are these steps, one
    for each attempt but the first. So a checkpoint of a later attempt can have a lower step.
    """

    rewinds: tuple[int, ...] = ()
    step: int = 0

    @property
    def progress(self) -> tuple[int, int]:
        """Return what orders positions: the number of the attempt, then the step."""
        return len(self.rewinds), self.step

    def leads_to(self, rewinds: tuple[int, ...]) -> bool:
        """Return whether a run with these rewinds has passed here, and was not sent back to before here since."""
        count = len(self.rewinds)
        return self.rewinds == rewinds[:count] and all(self.step <= step for step in rewinds[count:])


def path_of(run_path: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return run_path / layout.checkpoint(step)


def sidecar_of(path: Path) -> Path:
    """Return the path of the file that holds a checkpoint's SHA-256."""
    return path.with_name(layout.sidecar(path.name))


def save(run_path: Path, tensors: dict[str, Tensor], config: dict[str, object], rewinds: tuple[int, ...] = ()) -> Path:
    """Write the checkpoint of step `tensors["step"]` and its sidecar, each whole or not at all.

    The same state gives the same bytes. `rewinds` is explained at `Position`.

    Raises:
        StorageError: the disk refuses the write; older checkpoints are unchanged.
    """
    path = path_of(run_path, int(tensors["step"]))
    # One metadata entry: safetensors writes several in an order that changes from process to process.
    metadata = {"gan": json.dumps({"version": VERSION, "config": config, "rewinds": rewinds}, sort_keys=True)}
    data = safetensors.torch.save(tensors, metadata)
    # The sidecar first: a kill between the two writes must not leave a checkpoint without its hash.
    atomic_write(sidecar_of(path), layout.sidecar_content(path.name, sha256_bytes(data)))
    atomic_write(path, data)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint after checking its SHA-256 against its sidecar.

    Raises:
        CheckpointError: it is missing, damaged, has no sidecar, or has another version.
    """
    data = _read_verified(path)
    metadata = _metadata(data)
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {metadata.get('version')}, expected {VERSION}. "
            "Use the gan-train that wrote it."
        )
    return Checkpoint(safetensors.torch.load(data), metadata["config"])


def load_newest(run_path: Path) -> Checkpoint | None:
    """Load the newest checkpoint of a run that verifies; None when the run has no checkpoints.

    A warning names each damaged one that is passed over.

    Raises:
        CheckpointError: the run has checkpoints, but none verifies.
    """
    steps = layout.checkpoint_steps_in(run_path)
    for step in steps:
        if found := _load_or_warn(run_path, step):
            return found
    if steps:
        raise CheckpointError(
            f"{run_path / layout.CHECKPOINTS}: none of the {len(steps)} checkpoints verifies. "
            "Restore one from a copy, or train the run again from the start with --from-scratch."
        )
    return None


def newest_good_snapshot(run_path: Path, before_step: int, snapshot_steps: int) -> int:
    """Return the step of the newest snapshot's checkpoint before a step that verifies; 0 when there is none.

    A checkpoint that an interruption has saved between two snapshots is passed over: an uninterrupted run does not
    have it, and both must go back to the same step.
    """
    for step in layout.checkpoint_steps_in(run_path):
        if step < before_step and step % snapshot_steps == 0 and _load_or_warn(run_path, step):
            return step
    return 0


def prune(run_path: Path, snapshot_steps: int, last_step: int, best_step: int | None = None) -> None:
    """Delete all checkpoints except the last 3, every 10th snapshot's, the best one and the final one.

    A checkpoint between two snapshots, saved by an interruption, is kept only while it is the newest one.
    """
    steps = layout.checkpoint_steps_in(run_path)
    regular = [step for step in steps if step % snapshot_steps == 0 or step == last_step]
    keep = {*steps[:1], *regular[:KEEP_LAST], best_step}
    keep |= {step for step in regular if step and step % (KEEP_EVERY * snapshot_steps) == 0}
    for step in steps:
        if step not in keep:
            delete(run_path, step)
    for sidecar in _orphaned_sidecars(run_path):
        sidecar.unlink()


def discard_after(run_path: Path, step: int) -> None:
    """Delete the checkpoints after a step, the newest first, so that at any time the rest is of one attempt."""
    for later in layout.checkpoint_steps_in(run_path):
        if later > step:
            delete(run_path, later)


def delete(run_path: Path, step: int) -> None:
    """Delete the checkpoint of a step, then its sidecar."""
    path = path_of(run_path, step)
    path.unlink()
    sidecar_of(path).unlink(missing_ok=True)


def position_of(run_path: Path, step: int) -> Position | None:
    """Return the position of a step's checkpoint, unverified; None where its header is damaged. Raises OSError."""
    with path_of(run_path, step).open("rb") as file:
        return read_position(iter(lambda: file.read(HEAD_BYTES), b""), step)


def read_position(chunks: Iterator[bytes], step: int) -> Position | None:
    """Return the position of a step's checkpoint from its first bytes; None where its header is damaged.

    The SHA-256 is not checked: that would need the whole file.
    """
    head = b""
    # The first 8 bytes of a safetensors file say how long its header is.
    while len(head) < min(HEAD_BYTES, 8 + int.from_bytes(head[:8], "little")):
        chunk = next(chunks, b"")
        if not chunk:
            break
        head += chunk
    try:
        metadata = _metadata(head)
        return Position(tuple(metadata.get("rewinds", ())), step) if metadata["version"] == VERSION else None
    except (ValueError, KeyError, AttributeError):
        return None


def _metadata(data: bytes) -> dict[str, Any]:
    """Return what `save` has written into the header of a safetensors file."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("gan", "{}"))
    return metadata


def _load_or_warn(run_path: Path, step: int) -> Checkpoint | None:
    try:
        return load(path_of(run_path, step))
    except CheckpointError as error:
        log.warning("%s Trying the checkpoint before it.", error)
        return None


def _orphaned_sidecars(run_path: Path) -> Iterator[Path]:
    for sidecar in (run_path / layout.CHECKPOINTS).glob("*.safetensors.sha256"):
        checkpoint = sidecar.with_suffix("")
        is_ours = layout.checkpoint_step(f"{layout.CHECKPOINTS}{checkpoint.name}") is not None
        if is_ours and not checkpoint.exists():
            yield sidecar


def _read_verified(path: Path) -> bytes:
    sidecar = sidecar_of(path)
    try:
        expected = layout.sha256_in(sidecar.read_bytes())
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read with its SHA-256 in {sidecar.name} ({error}). Restore both files from a copy."
        ) from error
    found = sha256_bytes(data)
    if found != expected:
        raise CheckpointError(
            f"{path}: damaged: SHA-256 expected {expected} by {sidecar.name}, found {found}. Restore it from a copy."
        )
    return data
