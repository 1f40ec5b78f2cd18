"""Does `gan-train` do what its options say, and end with the right code and no process left?"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import LogSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import cli
from gan.config import RunConfig, TrainConfig
from gan.data.dataset import load_dataset
from gan.recipes.resolve import resolve
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.flow_command import run_gan_train
from tests.support.killing import Command, differing
from tests.support.raising import each_exception, expected
from tests.support.tcp_proxy import proxy_to

ROOT = Path(__file__).parents[2]
GAN_TRAIN = str(Path(sys.executable).with_name("gan-train"))
CONFIG = TrainConfig(num_steps=60, snapshot_steps=10, num_threads=1)
OPTIONS = ["--num-steps", "60", "--snapshot-steps", "10", "--num-threads", "1"]


def gan_train(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GAN_TRAIN, *options], cwd=folder, capture_output=True, text=True)


def start(folder: Path, data_dir: Path, **environment: str) -> Command:
    """Start a command; it has a Prefect server of its own unless the environment names one."""
    data = ["--data-dir", str(data_dir), "--no-pinned-hash"]
    return Command([GAN_TRAIN, "--run-id", "mine", *data, *OPTIONS, "--json"], folder, **environment)


def wait_for(command: Command, text: str) -> None:
    while text not in command.log.read_text():
        assert command.process.poll() is None, command.log.read_text()
        time.sleep(0.02)


def test_help_is_quick_and_names_every_field(tmp_path: Path) -> None:
    began = time.process_time(), time.monotonic()
    done = gan_train(tmp_path, "--help")
    assert time.monotonic() - began[1] < 2
    flags = {f"--{name.replace('_', '-')}" for name in TrainConfig.model_fields}
    assert flags <= set(re.findall(r"--[a-z0-9-]+", done.stdout))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "3"], "3 is not in the range 25<=x<=10000"),
        (["--run-id", "a/b"], "'a/b' has a slash in it"),
        (["--store", "ftp://there"], "ftp://there is neither a directory nor s3://BUCKET"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_exits_2(tmp_path: Path, options: list[str], message: str) -> None:
    done = gan_train(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.no_driver
def test_a_device_that_is_not_there_is_refused_before_the_download(tmp_path: Path, api: str) -> None:
    done = run_gan_train(tmp_path, api, "--device", "cuda", "--mirror", "http://127.0.0.1:1/")
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(r"error: cuda was requested but cannot be used: .*\. Use --device cpu", done.stderr)
    assert "127.0.0.1:1" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run_id", ["-x", "$(id)", "[x](http:"])
def test_a_new_run_with_an_odd_id_is_refused_at_once(tmp_path: Path, api: str, run_id: str) -> None:
    done = run_gan_train(tmp_path, api, f"--run-id={run_id}", *OPTIONS)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: a new run cannot have the id {run_id!r}: expected at most 128 letters" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_config_and_writes_nothing(tmp_path: Path, api: str) -> None:
    done = run_gan_train(tmp_path, api, "--dry-run", "--device", "cpu", *OPTIONS)
    resolved = RunConfig.model_validate_json(done.stdout)
    assert resolved == resolve(CONFIG, seed=0, device="cpu", num_threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.prefect
def test_a_killed_run_resumes_and_equals_one_never_killed(tmp_path: Path, data_dir: Path) -> None:
    killed = start(tmp_path, data_dir)
    wait_for(killed, "step 10/60")
    killed.process.kill()
    killed.process.wait()
    assert killed.wait_until_all_are_gone() == []

    done = gan_train(tmp_path, "--run-id", "mine", "--data-dir", str(data_dir), "--no-pinned-hash", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "version": 1, "run_id": "mine", "state": "completed", "step": 60, "run_dir": "store/runs/mine",
        "address": "store/runs/mine/", "health": [], "message": None,
    }  # fmt: skip
    assert re.search(r"flow run tuned, 60 steps, .* \(mine\) was left open: the command was killed", done.stderr)
    assert "; resume with: gan-train --run-id mine" in done.stderr
    with open_run(tmp_path / "undisturbed", CONFIG, load_dataset(data_dir, pinned=False)) as undisturbed:
        list(undisturbed.train())
    assert differing(tmp_path / "store/runs/mine", tmp_path / "undisturbed") == []


def test_a_signal_to_the_group_saves_cancels_and_leaves_nothing(tmp_path: Path, data_dir: Path, api: str) -> None:
    command = start(tmp_path, data_dir, PREFECT_API_URL=api)
    wait_for(command, "step 10/60")
    os.killpg(command.process.pid, signal.SIGTERM)
    assert command.process.wait(60) == 143
    assert command.wait_until_all_are_gone() == []
    *_, outcome, message = command.log.read_text().splitlines()
    assert json.loads(outcome)["state"] == "cancelled"
    assert json.loads(outcome)["step"] > 10
    assert re.fullmatch(r"stopped by SIGTERM at step \d+ of 60; resume with: gan-train --run-id mine .*", message)


def test_an_interrupt_before_training(tmp_path: Path, data_dir: Path, api: str) -> None:
    command = start(tmp_path, data_dir, PREFECT_API_URL=api)
    wait_for(command, "run mine in store/runs/mine")
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(60) == 130
    assert command.wait_until_all_are_gone() == []
    assert "Traceback" not in command.log.read_text()


@pytest.mark.parametrize(("num_steps", "report", "code"), [("60", b'"COMPLETED"', 0), ("70", b'"FAILED"', 2)])
def test_an_end_that_prefect_was_told_twice(
    tmp_path: Path, data_dir: Path, api: str, num_steps: str, report: bytes, code: int
) -> None:
    with open_run(tmp_path / "store/runs/mine", CONFIG, load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    options = ["--run-id", "mine", "--data-dir", str(data_dir), "--no-pinned-hash", "--num-steps", num_steps, "--json"]
    with proxy_to(int(api.removesuffix("/api").rpartition(":")[2])) as proxy:
        proxy.lose_answer_to = report
        done = run_gan_train(tmp_path, f"{proxy.url}/api", *options)
        assert proxy.lose_answer_to is None
    outcome = json.loads(done.stdout)
    assert done.returncode == code, done.stderr
    assert outcome["address"] == ("store/runs/mine/" if code == 0 else None)
    assert (outcome["message"] is None) == (code == 0)


def test_what_the_referee_has_found_is_said_at_the_end(tmp_path: Path, api: str) -> None:
    data_dir = write_mnist(tmp_path / "data", all_alike=True)
    options = ["--data-dir", str(data_dir), "--no-pinned-hash", "--recipe", "published", *OPTIONS[2:], "--json"]
    done = run_gan_train(tmp_path, api, *options, "--num-steps", "10")
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)["health"]
    finding = "constant data: the real images of a batch are all alike"
    assert line == f"step 10: {finding}, since step 10: training continued"
    assert f"\nhealth: {line}\n" in done.stderr


def test_a_failure_is_one_message_and_a_code(tmp_path: Path, data_dir: Path, api: str) -> None:
    with open_run(tmp_path / "store/runs/mine", CONFIG, load_dataset(data_dir, pinned=False)):
        pass
    options = ["--run-id", "mine", "--data-dir", str(data_dir), "--no-pinned-hash", "--num-steps", "70", "--json"]
    done = run_gan_train(tmp_path, api, *options)
    assert done.returncode == 2
    message = (
        "store/runs/mine was made with another config:\n  num_steps: the run has 60, asked for 70\n"
        "Leave these options out to resume it, or start another run."
    )
    assert json.loads(done.stdout)["message"] == message
    assert done.stderr.endswith(f"error: {message}\n")
    assert "Traceback" not in done.stderr


def test_an_error_that_nobody_has_foreseen_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gan-train"])
    for error in each_exception():

        def fail(*_args: object, error: BaseException = error, **_options: object) -> None:
            raise error

        monkeypatch.setattr(cli.gan_train, "callback", fail)
        code, said = expected(error)
        assert (cli.main(), error) == (code, error)
        err = capsys.readouterr().err.strip()
        assert err.startswith(said) and len(err.splitlines()) == (1 if said else 0), err


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("data_tasks.validate_dataset", EOFError("cut by t0ken")),
        ("data_tasks.validate_dataset", StopIteration("t0ken")),
        ("gan_train.check_run", KeyError("t0ken")),
    ],
)
def test_an_unforeseen_error_in_a_flow_is_one_line_without_a_secret(
    api: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken")
    monkeypatch.setattr(f"flows.{place}", fail)
    done = run_gan_train(tmp_path, api, "--run-id", "mine", "--data-dir", data_dir, "--no-pinned-hash", "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("unexpected: ")
    assert json.loads(done.stdout)["state"] == "failed"
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:  # what Prefect keeps
        states = [client.read_flow_run_states(run.id)[-1] for run in client.read_flow_runs(limit=200)]
        logged = client.read_logs(limit=200, sort=LogSort.TIMESTAMP_DESC)
    assert "t0ken" not in "".join([done.stderr, *(str(state.message) for state in states), *map(str, logged)])


def test_a_user_without_a_home_directory_is_told_what_to_set(tmp_path: Path) -> None:
    nobody = "import os, sys; os.getuid = lambda: 4_000_000; from flows.cli import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", nobody], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: this user has no home directory, which Prefect needs. Set HOME to a folder.\n"
    assert not list(tmp_path.iterdir())
