"""Which files does a small finished run have?"""

import hashlib
from pathlib import Path

FILES = {
    "config.json": b'{"version": 1, "recipe": "tuned", "num_steps": 2000}\n',
    "losses.npz": b"PK\x03\x04 losses",
    "metrics.jsonl": b'{"version": 1, "step": 2000}\n',
    "grids/step-001000.png": b"\x89PNG one",
    "grids/step-002000.png": b"\x89PNG two",
    "checkpoints/step-001000.safetensors": b"weights after 1000 steps",
    "checkpoints/step-002000.safetensors": b"weights after 2000 steps" * 100_000,
    "report/index.html": b"<!doctype html><title>run</title>",
    "tensorboard/events.out.tfevents.1": b"",
}
CHECKPOINTS = [name for name in FILES if name.endswith(".safetensors")]
NAMES = sorted([*FILES, *(name + ".sha256" for name in CHECKPOINTS)])


def write_run(path: Path) -> Path:
    """Write the files of a run of 2000 steps, as training leaves them, and return its directory."""
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    for name in CHECKPOINTS:
        digest = hashlib.sha256(FILES[name]).hexdigest()
        (path / f"{name}.sha256").write_text(f"{digest}  {Path(name).name}\n")
    return path


def tree(path: Path) -> dict[str, bytes]:
    """Return every file below a folder, temporary ones too, with its content."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def flip_bit(path: Path, bit: int = 3) -> None:
    """Flip one bit in the middle of a file. An empty file gets one byte."""
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)
