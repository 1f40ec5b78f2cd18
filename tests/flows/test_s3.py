"""Is a run uploaded to a bucket, resumed from there, and trained by one process at a time?"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.tasks import publish_run
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.errors import StorageError
from gan.storage.address import open_store
from gan.sync.lease import hold
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from gan.training.runner import open_run
from tests.support.killing import Command, differing
from tests.support.publishing import files_of
from tests.support.s3_server import S3Server, new_address
from tests.support.tcp_proxy import proxy_to

BIN = Path(sys.executable).parent
CONFIG = TrainConfig(num_steps=60, snapshot_steps=10, num_threads=1)
OPTIONS = ["--num-steps", "60", "--snapshot-steps", "10", "--num-threads", "1", "--no-pinned-hash", "--run-id", "mine"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "mine"
    with open_run(path, CONFIG, load_dataset(data_dir, pinned=False)) as made:
        list(made.train())
    return path


@pytest.fixture
def address(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    seaweedfs.use(monkeypatch)
    return new_address()


def start(folder: Path, data_dir: Path, address: str, api: str = "") -> Command:
    """Start a command; without `api` it has a Prefect server of its own."""
    folder.mkdir(exist_ok=True)
    command = [BIN / "gan-train", *OPTIONS, "--data-dir", data_dir, "--store", address]
    return Command(command, folder, PREFECT_API_URL=api)


def finish(command: Command) -> str:
    command.process.wait(120)
    assert command.wait_until_all_are_gone() == []
    return command.log.read_text()


def wait_for(command: Command, text: str) -> None:
    while text not in command.log.read_text():
        assert command.process.poll() is None, command.log.read_text()
        time.sleep(0.02)


@pytest.mark.kill
def test_a_run_killed_on_two_machines_ends_on_the_third_with_the_same_bytes(
    tmp_path: Path, data_dir: Path, undisturbed: Path, address: str
) -> None:
    for machine, step in (("first", 20), ("second", 40)):
        command = start(tmp_path / machine, data_dir, address)
        wait_for(command, f"step {step}/60")
        command.process.send_signal(signal.SIGKILL)
        finish(command)
    command = start(tmp_path / "third", data_dir, address)
    log = finish(command)
    assert command.process.returncode == 0, log
    assert "downloading run mine, step" in log and log.rstrip().endswith(f"{address}/runs/mine/")
    assert differing(tmp_path / "third/store/runs/mine", undisturbed) == []
    assert verify(StoredRun.at(f"{address}/runs/mine")).problems == []


def test_a_second_process_exits_1_and_names_the_first(tmp_path: Path, data_dir: Path, address: str, api: str) -> None:
    with hold(StoredRun(open_store(address), "mine")):
        second = start(tmp_path, data_dir, address, api)
        log = finish(second)
    assert second.process.returncode == 1
    assert f"run mine is being trained by process {os.getpid()} on " in log


def test_a_stopped_run_is_uploaded_up_to_its_last_step(tmp_path: Path, data_dir: Path, address: str, api: str) -> None:
    command = start(tmp_path / "first", data_dir, address, api)
    wait_for(command, "step 10/60")
    command.process.send_signal(signal.SIGTERM)
    log = finish(command)
    assert command.process.returncode == 143, log
    [step] = [line.split("step ")[1].split()[0] for line in log.splitlines() if line.startswith("stopped and saved")]
    assert f"checkpoints/step-{int(step):06d}.safetensors" in files_of(StoredRun(open_store(address), "mine"))


def test_a_public_endpoint_is_checked_at_the_start_and_is_only_a_warning_at_the_end(
    tmp_path: Path,
    undisturbed: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(undisturbed, "store/runs/mine")
    monkeypatch.setenv("GAN_STORE", address)
    monkeypatch.setenv("GAN_RUN_ID", "mine")
    settings = Settings.from_env()
    monkeypatch.setenv("S3_PUBLIC_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(
        StorageError, match="S3_PUBLIC_ENDPOINT_URL is not an address: 'localhost:9000'. Set it to http"
    ):
        Settings.from_env()
    with hold(StoredRun(open_store(address), "mine")) as lease:
        assert publish_run.fn(settings, lease) == f"{address}/runs/mine/"
    assert "published, but there is no link to its report: S3_PUBLIC_ENDPOINT_URL is not an address" in caplog.text


@pytest.mark.kill
def test_if_the_store_is_unreachable_at_the_end_the_run_is_complete_on_disk(
    tmp_path: Path, data_dir: Path, undisturbed: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    address = new_address()
    with proxy_to(seaweedfs.port) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        (tmp_path / "store/runs").mkdir(parents=True)
        shutil.copytree(undisturbed, tmp_path / "store/runs/mine")
        command = start(tmp_path, data_dir, address, api)
        wait_for(command, "all 60 steps are trained already")
        proxy.refuse()
        log = finish(command)
        assert command.process.returncode == 1
        assert "The run is complete in store/runs/mine; publish it with: gan-train --run-id mine --store" in log
        proxy.accept()
        again = start(tmp_path, data_dir, address, api)
        assert finish(again).rstrip().endswith(f"{address}/runs/mine/") and again.process.returncode == 0
        assert verify(StoredRun(open_store(address), "mine")).problems == []
