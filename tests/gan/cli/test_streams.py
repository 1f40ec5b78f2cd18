"""Does a command go on when nobody reads its output any more?"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.cli.main import main
from gan.cli.streams import dropping
from tests.support.digits import write_mnist

ROOT = Path(__file__).parents[3]
SHORT = ["--num-steps", "2", "--snapshot-steps", "1", "--num-threads", "1", "--no-pinned-hash"]
COMMAND = """
import logging, os, signal, sys
import click
from gan.cli.entry import pass_invocation, run_command
from gan.cli.signals import stop_on_signals

@click.command()
@click.option("--is-training", is_flag=True)
@click.option("--ctrl-c", is_flag=True)
@pass_invocation
def command(invocation, is_training, ctrl_c):
    invocation.prints_result = not is_training
    with stop_on_signals() as stop:
        if ctrl_c:
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3):
            click.echo("a result" * 20_000)
            click.echo("what happens", err=True)
            logging.warning("a warning")
        return stop.exit_code if ctrl_c else 0

done = int(sys.argv.pop())
code = run_command(command)
os.write(done, b"done")
sys.exit(code)
"""


def pipe_without_a_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_terminal() -> int:
    """Return a terminal whose window was closed."""
    window, terminal = os.openpty()
    os.close(window)
    return terminal


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def run(stream: int, *words: str, stderr: int | None = None) -> tuple[int, bytes]:
    """Run COMMAND with a stream as stdout, and by default as stderr; return its exit code, and whether it has ended."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, str(writer)],
        stdout=stream, stderr=stream if stderr is None else stderr, pass_fds=[writer],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as after `trap "" HUP`
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader, "rb") as done:
        return process.wait(), done.read()


@pytest.mark.parametrize("lost", [closed_terminal, full_disk])
def test_a_training_goes_on_without_a_reader(lost: Callable[[], int]) -> None:
    assert run(lost(), "--is-training") == (0, b"done")


def test_ctrl_c_exits_130_when_it_has_ended_tee_too() -> None:
    assert run(pipe_without_a_reader(), "--is-training", "--ctrl-c") == (130, b"done")


@pytest.mark.parametrize(("lost", "said"), [(pipe_without_a_reader, ""), (full_disk, "No space left on device")])
def test_a_command_whose_result_was_dropped_exits_1(tmp_path: Path, lost: Callable[[], int], said: str) -> None:
    with (tmp_path / "err").open("w") as err:
        assert run(lost(), stderr=err.fileno()) == (1, b"done")
    errors = [line for line in (tmp_path / "err").read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == bool(said) and said in "".join(errors)


def test_a_slow_reader_gets_everything() -> None:
    """Another program can have set the pipe to non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(["sh", "-c", "sleep 0.2; wc -c"], stdin=reader, stdout=subprocess.PIPE) as slow:
        os.close(reader)
        with os.fdopen(writer, "w") as stream:
            print("a result" * 50_000, file=dropping(stream), flush=True)
        assert slow.communicate()[0].strip() == b"400001"


def test_a_run_is_trained_reported_and_sealed_without_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gan", "train", "--run-dir", "run", *SHORT])
    with os.fdopen(pipe_without_a_reader(), "w") as stream:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, dropping(stream))
        assert main() == 0
    assert {"manifest.json", "report"} <= {path.name for path in (tmp_path / "run").iterdir()}
