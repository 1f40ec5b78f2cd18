"""Does a command say what went wrong, and show a traceback only with --debug?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gan.cli.entry import run_command
from gan.cli.main import gan
from gan.errors import GanError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs `gan` with some words, in an empty folder, and returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def with_words(words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["gan", *words.split()])
        return run_command(gan)

    return with_words


@pytest.mark.parametrize(
    "words",
    [
        "--debug verify nothing",
        "verify --debug nothing",
        "--debug champion show nothing",
        "champion --debug show nothing",
        "champion show --debug nothing",
    ],
)
def test_debug_shows_the_traceback_of_an_error(run, words: str) -> None:
    with pytest.raises(GanError):
        run(words)


@pytest.mark.parametrize("words", ["verify nothing", "champion rollback --reason --debug"])
def test_without_debug_an_error_is_one_message(run, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 1
    assert capsys.readouterr().err.startswith("error: ")


PRINT_FROM_A_CHILD = """
import subprocess, sys
from pathlib import Path
import click
from gan.cli.entry import run_command

@click.command()
def command():
    with Path("file").open("w") as file:
        click.echo("said", err=True)
        subprocess.run(["sh", "-c", "cat; echo out; echo err >&2"], check=True)
        file.write(f"descriptor {file.fileno()}")

sys.exit(run_command(command))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_file_of_ours(tmp_path: Path, closed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PRINT_FROM_A_CHILD]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    assert int((tmp_path / "file").read_text().removeprefix("descriptor ")) > 2


def test_debug_is_listed_once() -> None:
    assert "--debug" in CliRunner().invoke(gan, ["--help"]).stdout
    assert "--debug" not in CliRunner().invoke(gan, ["verify", "--help"]).stdout
