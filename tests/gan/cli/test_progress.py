"""Does a terminal show a live line, and everything else plain lines?"""

import os
import pty
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

import pytest

from gan.cli.progress import show_download, show_progress
from gan.runs.run_dir import SnapshotMetrics

METRICS = SnapshotMetrics(
    step=10, g_loss=0.7, d_loss=1.4, steps_per_second=5.0, seconds=2.0, time="2026-11-28T12:00:00Z"
)
RUN = SimpleNamespace(num_steps=20, state=SimpleNamespace(step=10), metrics=METRICS, last_evaluated=None)
PLAIN = "step 10/20  g_loss 0.7000  d_loss 1.4000  5.0 steps/s  0.0 min left\n"


def shown_on(stream: TextIO) -> None:
    """Download a file and train ten steps, with the progress on a stream."""
    with redirect_stderr(stream):
        with show_download() as progress:
            progress("train-images-idx3-ubyte", 500, 1000)
        with show_progress(RUN) as snapshot_done:  # type: ignore[arg-type]
            snapshot_done()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch of an environment that says nothing about the terminal."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def test_a_pause_in_which_hardly_a_step_was_taken_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    paused = METRICS.model_copy(update={"steps_per_second": 0.0})  # as rounded, after minutes of SIGSTOP
    with show_progress(SimpleNamespace(**{**vars(RUN), "metrics": paused})) as snapshot_done:  # type: ignore[arg-type]
        snapshot_done()
    assert "0.0 steps/s  16.7 min left" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_log_file_has_no_control_codes(environment: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    environment.setenv(name, "1")
    with (tmp_path / "log").open("w") as log:
        shown_on(log)
    assert (tmp_path / "log").read_text() == PLAIN


@pytest.mark.parametrize(("term", "is_live"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_that_cannot_redraw_shows_plain_lines(
    environment: pytest.MonkeyPatch, term: str, is_live: bool
) -> None:
    environment.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        shown_on(terminal)
        said = screen.read(100_000).decode().replace("\r\n", "\n")
    assert ("\x1b[" in said) == is_live
    assert (said == PLAIN) != is_live
