"""How is the state of a training saved, loaded and checked?"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from gan.config import RunConfig
from gan.errors import CheckpointError
from gan.files import atomic_write, fsync_dir, sha256_bytes
from gan.recipes.resolve import stored_config
from gan.runs import layout
from gan.runs.config_file import faults_in

VERSION = 1
KEEP_LAST = 3
KEEP_EVERY = 10  # snapshots
HEAD_BYTES = 1 << 16  # more than any header of ours has
# What reading a header can raise. safetensors and torch name no errors of their own for some damaged headers.
DAMAGED = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)

Used = TypeVar("Used")

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The content of a checkpoint: the tensors of a training's state, and the config's fields."""

    tensors: dict[str, Tensor]
    config: dict[str, object]

    @property
    def step(self) -> int:
        """Return the last trained step."""
        return int(self.tensors["step"])


class Metadata(BaseModel):
    """What `save` writes into the header of a checkpoint."""

    model_config = ConfigDict(strict=True)

    version: int
    config: dict[str, object]
    rewinds: list[NonNegativeInt] = []


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
    return write(run_path, encode(tensors, config, rewinds), int(tensors["step"]))


def encode(tensors: dict[str, Tensor], config: dict[str, object], rewinds: tuple[int, ...] = ()) -> bytes:
    """Return the content of a checkpoint. The same state gives the same bytes."""
    # One metadata entry: safetensors writes several in an order that changes from process to process.
    metadata = {"gan": json.dumps({"version": VERSION, "config": config, "rewinds": rewinds}, sort_keys=True)}
    return safetensors.torch.save(tensors, metadata)


def write(run_path: Path, data: bytes, step: int) -> Path:
    """Write the encoded checkpoint of a step and its sidecar; return its path. Raises as `save` does."""
    path = path_of(run_path, step)
    # The sidecar first: a kill between the two writes must not leave a checkpoint without its hash.
    atomic_write(sidecar_of(path), layout.sidecar_content(path.name, sha256_bytes(data)))
    atomic_write(path, data)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint after checking its SHA-256 against its sidecar.

    Raises:
        CheckpointError: it is missing, damaged, has no sidecar, has another version, or is another kind of file.
    """
    return decode(read_verified(path), path)


def read_verified(path: Path) -> bytes:
    """Return the content of a checkpoint's file. Raises CheckpointError unless it has the SHA-256 in its sidecar."""
    sidecar = sidecar_of(path)
    try:
        expected = layout.sha256_in(sidecar.read_bytes())
        data = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.exists() and not sidecar.exists():
            raise CheckpointError(f"{path}: there is no such run or checkpoint. Check the path.") from error
        raise CheckpointError(
            f"{path}: cannot be read with its SHA-256 in {sidecar.name} ({error}). Restore both files from a copy."
        ) from error
    found = sha256_bytes(data)
    if found != expected:
        raise CheckpointError(
            f"{path}: damaged: SHA-256 expected {expected} by {sidecar.name}, found {found}. Restore it from a copy."
        )
    return data


def decode(data: bytes, path: Path) -> Checkpoint:
    """Return what the content of a checkpoint says; `path` is where it was read. Raises CheckpointError as `load`."""
    try:
        metadata = _metadata(data)
        tensors = safetensors.torch.load(data) if metadata.version == VERSION else {}
    except DAMAGED as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of gan-train, although its SHA-256 is right ({_first_line(error)}). "
            "Restore it from a copy."
        ) from error
    if metadata.version != VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {metadata.version}, expected {VERSION}. Use the gan-train that wrote it."
        )
    if not _is_count(tensors.get("step")):
        raise CheckpointError(f"{path}: its tensor `step` is not the number of a step. Restore it from a copy.")
    return Checkpoint(tensors, metadata.config)


def use(path: Path, use_as: Callable[[Checkpoint], Used]) -> Used:
    """Return what `use_as` makes of a checkpoint. Its CheckpointError says what is wrong; here the path is added.

    Raises:
        CheckpointError: as `load` and `use_as` do.
    """
    found = load(path)
    try:
        return use_as(found)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_newest(run_path: Path) -> Checkpoint | None:
    """Load the newest checkpoint of a run that verifies. Returns and raises as `use_newest` does."""
    return use_newest(run_path, lambda found: found)


def use_newest(run_path: Path, use_as: Callable[[Checkpoint], Used]) -> Used | None:
    """Return what `use_as` makes of the newest good checkpoint of a run; None when the run has no checkpoints.

    A checkpoint that does not verify, or for which `use_as` raises CheckpointError, is passed over with a warning.

    Raises:
        CheckpointError: the run has checkpoints, but none is good.
    """
    steps = layout.checkpoint_steps_in(run_path)
    for step in steps:
        try:
            return _use_step(run_path, step, use_as)
        except CheckpointError as error:
            _warn(error)
    if steps:
        raise CheckpointError(
            f"{run_path / layout.CHECKPOINTS}: none of the {len(steps)} checkpoints verifies. "
            "Restore one from a copy, or train the run again from the start with --from-scratch."
        )
    return None


def config_in(found: Checkpoint) -> RunConfig:
    """Return the config of a checkpoint's run. Raises CheckpointError where it is none of this version."""
    try:
        return stored_config(found.config)
    except ValueError as error:
        raise CheckpointError(
            f"no run can have its config ({faults_in(error)}). Use the gan-train that wrote it."
        ) from error


def check_config(found: Checkpoint, run: RunConfig) -> None:
    """Raise CheckpointError, with the fields that differ, where a checkpoint is of a run of another config."""
    config = config_in(found)
    differing = [name for name in RunConfig.model_fields if getattr(config, name) != getattr(run, name)]
    if differing:
        raise CheckpointError(f"its config is of another run: it differs in {', '.join(differing)}. Remove the file.")


def newest_good_snapshot(
    run_path: Path, before_step: int, snapshot_steps: int, use_as: Callable[[Checkpoint], object] = lambda found: found
) -> int:
    """Return the step of the newest snapshot's good checkpoint before a step; 0 when there is none.

    Good is what `use_newest` takes.

    A checkpoint that an interruption has saved between two snapshots is passed over: an uninterrupted run does not
    have it, and both must go back to the same step.
    """
    for step in layout.checkpoint_steps_in(run_path):
        if step < before_step and step % snapshot_steps == 0 and _is_good(run_path, step, use_as):
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
    discarded = [step for step in steps if step not in keep]
    for step in discarded:
        delete(run_path, step)
    if discarded:  # else a power cut brings back files that the manifest does not list
        fsync_dir(run_path / layout.CHECKPOINTS)


def delete_orphaned_sidecars(run_path: Path) -> None:
    """Delete the sidecars that a killed process has left without their checkpoints."""
    for sidecar in (run_path / layout.CHECKPOINTS).glob("*.safetensors.sha256"):
        checkpoint = sidecar.with_suffix("")
        is_ours = layout.checkpoint_step(f"{layout.CHECKPOINTS}{checkpoint.name}") is not None
        if is_ours and not checkpoint.exists():
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
    except DAMAGED:
        return None
    return Position(tuple(metadata.rewinds), step) if metadata.version == VERSION else None


def _metadata(data: bytes) -> Metadata:
    """Return what `save` has written into the header of a safetensors file. Raises one of DAMAGED."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # RecursionError is a RuntimeError
    return Metadata.model_validate(json.loads(header["__metadata__"]["gan"]))


def _is_count(tensor: Tensor | None) -> bool:
    return tensor is not None and (tensor.dtype, tensor.shape) == (torch.int64, ()) and int(tensor) >= 0


def _use_step(run_path: Path, step: int, use_as: Callable[[Checkpoint], Used]) -> Used:
    """Return what `use_as` makes of the checkpoint of a step. Raises CheckpointError where it is of another step."""

    def use_as_named(found: Checkpoint) -> Used:
        if found.step != step:
            raise CheckpointError(f"it holds step {found.step}. Restore it from a copy, or remove it.")
        return use_as(found)

    return use(path_of(run_path, step), use_as_named)


def _is_good(run_path: Path, step: int, use_as: Callable[[Checkpoint], object]) -> bool:
    try:
        _use_step(run_path, step, use_as)
    except CheckpointError as error:
        _warn(error)
        return False
    return True


def _warn(error: CheckpointError) -> None:
    log.warning("%s Trying the checkpoint before it.", error)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return faults_in(error)
    return next(iter(str(error).splitlines()), type(error).__name__)
