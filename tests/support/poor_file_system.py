"""How is a program run on a file system that lacks something? A library in C that is loaded first answers for it."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """Compile the library. A test that needs it has the marker `compiler`."""
    library = folder / "poor_file_system.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


def run_python(library: Path, lacks: str, code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python code on a file system that lacks link, flock or fsync, or several of them."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "LACKS": lacks, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
