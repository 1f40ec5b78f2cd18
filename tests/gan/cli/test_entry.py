"""Does a command say what went wrong, whatever is raised in it, and show a traceback only with --debug?"""

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gan.cli.entry import run_command, run_program
from gan.cli.main import gan
from tests.support.raising import each_exception, expected

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
def test_debug_shows_the_traceback_of_an_error(run, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback ") and err.splitlines()[-1].startswith("gan.errors.StorageError: ")


@pytest.mark.parametrize("words", ["verify nothing", "champion rollback --reason --debug"])
def test_without_debug_an_error_is_one_message(run, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 1
    assert capsys.readouterr().err.startswith("error: ")


PRINT_FROM_A_CHILD = """
import subprocess, sys
from pathlib import Path
import click
from gan.cli.entry import run_command, run_program

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


# The words with which each command gets as far as its own function.
COMMANDS = {
    "download": "",
    "validate": "",
    "train": "--run-dir r",
    "sample": "r --out samples.png",
    "evaluate": "r",
    "report": "r",
    "verify": "r",
    "runs": "",
    "prune": "--keep-last 1",
    "cache": "",
    "champion show": "",
    "champion history": "",
    "champion rollback": "",
    "champion promote": "store/runs/r",
    "recipe list": "",
    "recipe check": "tuned",
    "data import": "folder --name n",
    "data list": "",
    "data show": "n",
    "data validate": "n",
    "data download": "kmnist",
    "judge train": "--data n",
    "judge show": "--data n",
}


def leaves(group: click.Group, *names: str) -> dict[str, click.Command]:
    """Return the commands of a group and of the groups in it, by their words."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= leaves(command, *names, name)
        else:
            found[" ".join([*names, name])] = command
    return found


@pytest.mark.parametrize("name", leaves(gan))
def test_an_error_that_nobody_has_foreseen_is_one_line_and_a_file(
    run, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for error in each_exception():

        def fail(*_args: object, error: BaseException = error, **_options: object) -> None:
            raise error

        monkeypatch.setattr(leaves(gan)[name], "callback", fail)
        code, said = expected(error)
        assert (run(f"{name} {COMMANDS[name]}"), error) == (code, error)
        err = capsys.readouterr().err.strip()
        assert err.startswith(said) and len(err.splitlines()) == (1 if said else 0), err
        if said:
            [path] = tmp_path.glob("gan-error-*.txt")
            assert str(path) in err and 'test_entry.py", line' in path.read_text()
            path.unlink()


@pytest.mark.parametrize("path", ["loop", "r" * 300], ids=["a loop of links", "too long"])
@pytest.mark.parametrize(
    "command",
    [
        *("verify", "report", "evaluate", "sample --out samples.png", "runs", "prune --keep-last 1", "champion show"),
        *("train --resume --run-dir", "train --num-steps 1 --run-dir", "validate --data-dir"),
    ],
)
def test_a_path_that_cannot_be_looked_at_is_a_sentence(
    run, path: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """So is, for a user other than root, a folder of another user."""
    Path("loop").symlink_to("loop")
    assert run(f"{command} {path}") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {path}") and ("Too many levels" in err or "File name too long" in err)


def test_an_unforeseen_error_shows_no_secret(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_options: object) -> None:
        raise ValueError("bad header: t0ken\nsecond line")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken")
    monkeypatch.setattr(leaves(gan)["cache"], "callback", fail)
    assert run("cache") == 1
    err = capsys.readouterr().err
    [path] = tmp_path.glob("gan-error-*.txt")
    assert err.startswith(f"unexpected: ValueError: bad header: ***. The traceback is in {path}.")
    assert "t0ken" not in err + path.read_text() and path.stat().st_mode & 0o077 == 0
    assert run("cache --debug") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback ") and err.endswith("ValueError: bad header: ***\nsecond line\n")


def test_where_no_file_can_hold_it_the_traceback_is_printed(
    run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(leaves(gan)["cache"], "callback", lambda **_options: {}["key"])
    assert run("cache") == 1
    assert re.search(r"Traceback(?s:.*)\nunexpected: KeyError: 'key'\. The traceback is above", capsys.readouterr().err)


def test_an_error_that_ends_a_thread_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call() -> int:
        thread = threading.Thread(target=lambda: {}["AKIA-s3cret"])
        thread.start()
        thread.join()
        return 0

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "AKIA-s3cret")
    assert run_program(call) == 0
    [path] = tmp_path.glob("gan-error-*.txt")
    assert capsys.readouterr().err.startswith(f"unexpected: KeyError: '***'. The traceback is in {path}.")
    assert "test_entry.py" in path.read_text() and "s3cret" not in path.read_text()
