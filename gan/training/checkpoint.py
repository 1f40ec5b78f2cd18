"""How is a training's state kept on disk, and which checkpoint is good?"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor

from gan.errors import CheckpointError
from gan.files import atomic_write, sha256_bytes

VERSION = 1
KEEP_LAST = 3
KEEP_EVERY = 10  # snapshots
HEAD_BYTES = 1 << 16  # enough for any header of ours

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Say where in a run's history a state is: how often it was sent back before, to which steps, and its step."""

    rewinds: tuple[int, ...] = ()
    step: int = 0

    @property
    def progress(self) -> tuple[int, int]:
        """What says which of two places is further: the try, then the step."""
        return len(self.rewinds), self.step

    def is_before(self, rewinds: tuple[int, ...]) -> bool:
        """Tell whether a history with these rewinds goes through here; what it was sent back over is of another try."""
        count = len(self.rewinds)
        return self.rewinds == rewinds[:count] and all(self.step <= step for step in rewinds[count:])


def path_of(directory: Path, step: int) -> Path:
    """Return where the checkpoint of a step lives."""
    return directory / f"step-{step:06d}.safetensors"


def sidecar_of(path: Path) -> Path:
    """Return the file that holds a checkpoint's SHA-256, in the form that `sha256sum --check` reads."""
    return path.with_name(path.name + ".sha256")


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's or grid's file name."""
    return int(path.name.split(".")[0].removeprefix("step-"))


def save(directory: Path, tensors: dict[str, Tensor], config: dict[str, object], rewinds: tuple[int, ...] = ()) -> Path:
    """Write a checkpoint of `tensors["step"]` and its sidecar, each whole or not at all.

    `rewinds` are the steps that training was sent back to before, see `Place`. The same state gives the same bytes.
    Raises StorageError when the disk refuses; older checkpoints stay.
    """
    path = path_of(directory, int(tensors["step"]))
    # One metadata entry: safetensors writes several in an order that changes from run to run.
    metadata = {"gan": json.dumps({"version": VERSION, "config": config, "rewinds": rewinds}, sort_keys=True)}
    data = safetensors.torch.save(tensors, metadata)
    # The sidecar first: killed between the two, there is no checkpoint rather than one without its hash.
    atomic_write(sidecar_of(path), f"{sha256_bytes(data)}  {path.name}\n".encode())
    atomic_write(path, data)
    return path


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a checkpoint whose SHA-256 is that of its sidecar; return its tensors and its config.

    Raises:
        CheckpointError: it is missing, damaged, has no sidecar, or is of another version.
    """
    data = _verified(path)
    about = _about(data)
    if about.get("version") != VERSION:
        raise CheckpointError(f"{path}: checkpoint version {about.get('version')}, this gan reads {VERSION}")
    return safetensors.torch.load(data), about["config"]


def load_newest(directory: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """Return tensors and config of the newest checkpoint that verifies; None when there is no checkpoint at all.

    A damaged one is named in a warning and the one before it is taken.

    Raises:
        CheckpointError: there are checkpoints, and none verifies.
    """
    paths = newest_first(directory)
    for path in paths:
        try:
            return load(path)
        except CheckpointError as error:
            log.warning("%s; trying the one before it", error)
    if paths:
        raise CheckpointError(
            f"{directory}: none of the {len(paths)} checkpoints verifies. "
            "Restore one from a copy, or train the run anew with --from-scratch."
        )
    return None


def newest_first(directory: Path) -> list[Path]:
    """List the checkpoints of a folder, the highest step first; empty when there is no such folder."""
    return sorted(directory.glob("step-[0-9]*[0-9].safetensors"), key=step_of, reverse=True)


def prune(directory: Path, snapshot_steps: int, last_step: int, best_step: int | None = None) -> None:
    """Delete all checkpoints but the last 3, every 10th snapshot's, the best and the final one.

    A checkpoint between snapshots, left by an interruption, goes as soon as a newer one is there.
    """
    paths = newest_first(directory)
    regular = [path for path in paths if step_of(path) % snapshot_steps == 0 or step_of(path) == last_step]
    keep = {*paths[:1], *regular[:KEEP_LAST]}
    keep |= {path for path in regular if step_of(path) and step_of(path) % (KEEP_EVERY * snapshot_steps) == 0}
    for path in paths:
        if path not in keep and step_of(path) != best_step:
            path.unlink()
            sidecar_of(path).unlink(missing_ok=True)
    for orphan in _orphans(directory):
        orphan.unlink()


def drop_after(directory: Path, step: int) -> None:
    """Delete the checkpoints beyond a step, the newest first: what is left at any time is one try's."""
    for path in newest_first(directory):
        if step_of(path) > step:
            path.unlink()
            sidecar_of(path).unlink(missing_ok=True)


def place_of(path: Path) -> Place | None:
    """Return the place of a checkpoint, as `read_place` does."""
    with path.open("rb") as file:
        return read_place(iter(lambda: file.read(HEAD_BYTES), b""), step_of(path))


def read_place(chunks: Iterator[bytes], step: int) -> Place | None:
    """Return the place of a step's checkpoint from its first bytes, unverified; None where they are damaged."""
    head = b""
    while len(head) < min(HEAD_BYTES, 8 + int.from_bytes(head[:8], "little")) and (chunk := next(chunks, b"")):
        head += chunk
    try:
        about = _about(head)
        return Place(tuple(about.get("rewinds", ())), step) if about["version"] == VERSION else None
    except (ValueError, KeyError, AttributeError):
        return None


def _about(data: bytes) -> dict[str, Any]:
    """Return what a checkpoint's header says of it."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("gan", "{}"))
    return about


def _orphans(directory: Path) -> Iterator[Path]:
    for sidecar in directory.glob("*.safetensors.sha256"):
        if not sidecar.with_suffix("").exists():
            yield sidecar


def _verified(path: Path) -> bytes:
    sidecar = sidecar_of(path)
    try:
        expected = sidecar.read_text().split()[0]
        data = path.read_bytes()
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not to be read with its SHA-256 in {sidecar.name} ({error})") from error
    found = sha256_bytes(data)
    if found != expected:
        raise CheckpointError(f"{path}: damaged: SHA-256 is {found}, {sidecar.name} says {expected}")
    return data
