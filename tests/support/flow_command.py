"""How does a test run `gan-train` in its own process, without the seconds that importing Prefect takes?

Tests of start-up, signals and kills start the installed command instead.
"""

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import main
from flows.logs import LOGGERS
from flows.prefect_compat import send_pending


def run_gan_train(cwd: Path, api: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `gan-train` with these arguments in a folder, against a Prefect API."""
    words = ["gan-train", *map(str, args)]
    out, err = io.StringIO(), io.StringIO()
    with (
        _process_restored(),
        pytest.MonkeyPatch.context() as patch,
        temporary_settings({PREFECT_API_URL: api}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words)
        try:
            code = main()
        finally:
            send_pending(timeout_seconds=5)  # or Prefect would send it to this API during later tests
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@contextmanager
def _process_restored() -> Iterator[None]:
    """Undo what a command changes in its process: environment, signal handler, log handlers, threads."""
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    handlers = {name: list(logging.getLogger(name).handlers) for name in LOGGERS}
    num_threads = torch.get_num_threads()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, handler)
        for name in LOGGERS:
            logging.getLogger(name).handlers = handlers[name]
        torch.set_num_threads(num_threads)
