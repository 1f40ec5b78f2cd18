"""How is a program run on a file system that lacks something? A library in C that is loaded first answers for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """Compile the library. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to simulate a file system with")
    library = folder / "poor_file_system.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


def run_python(library: Path, lacks: str, code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python code on a file system that lacks link, flock or fsync, or several of them."""
    environment = {**os.environ, "LD_PRELOAD": str(library), "LACKS": lacks, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
