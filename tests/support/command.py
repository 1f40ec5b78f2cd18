"""How does a test run `gan` in its own process, without the seconds that importing torch takes?

Tests of start-up, signals and imports start the installed command instead.
"""

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from gan.cli.main import main


def run_gan(cwd: Path, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `gan` with these arguments in a folder. Afterwards the state of the process is restored."""
    words = ["gan", *map(str, args)]
    out, err = io.StringIO(), io.StringIO()
    num_threads, logger, shown = torch.get_num_threads(), logging.getLogger("gan"), logging.StreamHandler(err)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words)
        for name, value in environment.items():
            patch.setitem(os.environ, name, value)
        logger.addHandler(shown)  # pytest's own handlers keep logging.basicConfig from doing so
        try:
            code = main()
        finally:
            logger.removeHandler(shown)
            torch.set_num_threads(num_threads)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
