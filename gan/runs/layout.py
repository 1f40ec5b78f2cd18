"""What is each file of a run called?

Names are relative to the run directory. In a store, the key of a file is the same name below `runs/<run-id>/`.
This module imports no torch, so that commands which only read names start quickly.
"""

import re
from collections.abc import Iterable
from pathlib import Path

CONFIG = "config.json"
PROVENANCE = "provenance.json"
PROCESSES = "processes.jsonl"  # a line for each process that has trained the run
REALS = "reals.png"
INITIAL = "initial.safetensors"  # the checkpoint that the run began from, if --init-from named one
LOSSES = "losses.npz"
METRICS = "metrics.jsonl"
NEIGHBOURS = "neighbours.png"
MANIFEST = "manifest.json"
GRIDS = "grids/"
CHECKPOINTS = "checkpoints/"
TENSORBOARD = "tensorboard/"
JOURNAL = "journal/"  # of a run that has no manifest yet
REPORT_FOLDER = "report/"
REPORT = "report/index.html"
FILM = "report/training.gif"

_FILES = (CONFIG, PROVENANCE, PROCESSES, REALS, INITIAL, LOSSES, METRICS, NEIGHBOURS, MANIFEST)
_FOLDERS = (GRIDS, CHECKPOINTS, TENSORBOARD, JOURNAL, REPORT_FOLDER)
WRITTEN_ONCE = (CONFIG, PROVENANCE, REALS, INITIAL)  # before the first step; never changed

_STEP = r"step-([0-9]{6}|[1-9][0-9]{6,})"  # as f"step-{step:06d}" writes it
_GRID = re.compile(rf"grids/{_STEP}\.png")
_CHECKPOINT = re.compile(rf"checkpoints/{_STEP}\.safetensors")
_PIECE = re.compile(r"journal/([0-9]{6}|[1-9][0-9]{6,})\.jsonl")


def is_run_file(name: str) -> bool:
    """Return whether a run writes a file of this name. Another file in a run directory is somebody's own."""
    return name in _FILES or name.startswith(_FOLDERS)


def grid(step: int) -> str:
    """Return the name of a step's grid of samples."""
    return f"grids/step-{step:06d}.png"


def grid_step(name: str) -> int | None:
    """Return the step of a grid, or None for the name of another file."""
    return _number(_GRID, name)


def checkpoint(step: int) -> str:
    """Return the name of a step's checkpoint."""
    return f"checkpoints/step-{step:06d}.safetensors"


def checkpoint_step(name: str) -> int | None:
    """Return the step of a checkpoint, or None for the name of another file."""
    return _number(_CHECKPOINT, name)


def checkpoint_steps(names: Iterable[str]) -> list[int]:
    """Return the steps of the checkpoints among file names, in ascending order."""
    steps = (checkpoint_step(name) for name in names)
    return sorted(step for step in steps if step is not None)


def checkpoint_steps_in(run_path: Path) -> list[int]:
    """List the steps of the checkpoints in a run directory, the highest first."""
    return checkpoint_steps(f"{CHECKPOINTS}{path.name}" for path in (run_path / CHECKPOINTS).glob("*"))[::-1]


def journal_piece(number: int) -> str:
    """Return the name of a piece of the journal; the first one has the number 1."""
    return f"{JOURNAL}{number:06d}.jsonl"


def journal_number(name: str) -> int | None:
    """Return the number of a piece of the journal, or None for the name of another file."""
    return _number(_PIECE, name)


def sidecar(checkpoint_name: str) -> str:
    """Return the name of the file that holds a checkpoint's SHA-256."""
    return f"{checkpoint_name}.sha256"


def sidecar_content(file_name: str, sha256: str) -> bytes:
    """Return the content of a sidecar, in the format that `sha256sum --check` reads."""
    return f"{sha256}  {file_name}\n".encode()


def sha256_in(sidecar_content: bytes) -> str:
    """Return the SHA-256 that a sidecar holds; some other text where the sidecar is damaged."""
    words = sidecar_content.split()
    return words[0].decode("ascii", "backslashreplace") if words else ""


def _number(pattern: re.Pattern[str], name: str) -> int | None:
    found = pattern.fullmatch(name)
    return int(found[1]) if found else None
