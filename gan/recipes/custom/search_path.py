"""Where may the module of a recipe come from? From installed packages and PYTHONPATH, never from the working directory.

Python puts the working directory on sys.path where a program is started by `python -m`, and for an empty entry of
PYTHONPATH. A file that lies there, because somebody sent it, must not be imported in place of an installed module.
"""

import os
import site
import sys
from contextlib import suppress
from pathlib import Path


def leave_out_working_dir() -> None:
    """Remove the working directory from sys.path, unless an absolute path of PYTHONPATH or a .pth file names it."""
    here = Path.cwd()
    if here in _named():
        sys.path[:] = [entry for entry in sys.path if Path(entry).is_absolute()]
    else:
        sys.path[:] = [entry for entry in sys.path if Path(entry).is_absolute() and Path(entry).resolve() != here]


def _named() -> set[Path]:
    """Return the folders that the user has named: by PYTHONPATH, or by installing a package in place."""
    lines = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for folder in (*site.getsitepackages(), site.getusersitepackages()):
        for file in Path(folder).glob("*.pth"):
            with suppress(OSError, UnicodeDecodeError):
                lines += file.read_text().splitlines()
    return {Path(line).resolve() for line in lines if line.startswith("/")}
