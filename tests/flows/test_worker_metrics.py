"""Can Prometheus read what the run of a worker does?"""

import os
import re
import socket
import struct
import subprocess
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from flows import run_metrics
from flows.run_metrics import write_metrics
from flows.worker_metrics import FOLDER, HELP, metrics_server
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.errors import SettingError
from gan.training.runner import open_run
from tests.support.s3_server import free_ports

CONFIG = TrainConfig(num_steps=2, snapshot_steps=1, num_threads=1, batch_size=32)


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def get(address: str, path: str) -> HTTPResponse:
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


def read(address: str) -> dict[str, float]:
    """Return each figure by its name and labels."""
    answer = get(address, "/metrics")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_the_figures_of_a_run_are_shown_while_it_trains(
    tmp_path: Path, data_dir: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_metrics, "UPDATE_SECONDS", 0.01)
    with (
        metrics_server(address) as environment,
        open_run(tmp_path / "one", CONFIG, load_dataset(data_dir, pinned=False)) as run,
    ):
        monkeypatch.setenv(FOLDER, environment[FOLDER])
        assert read(address) == {"gan_train_runs": 0}
        with write_metrics(run, None):
            list(run.train())
            while (found := read(address)).get('gan_train_steps{run="one"}') != 2:
                pass
        assert found.keys() == {"gan_train_runs", *(f'gan_train_{name}{{run="one"}}' for name in HELP)}
        assert found["gan_train_runs"] == 1
        assert found['gan_train_steps_planned{run="one"}'] == 2
        assert found['gan_train_steps_per_second{run="one"}'] > 0
        assert 0 <= found['gan_train_checkpoint_age_seconds{run="one"}'] < 60
        assert found['gan_train_upload_backlog_files{run="one"}'] == 0
        assert read(address) == {"gan_train_runs": 0}


def test_a_killed_run_is_not_shown(address: str) -> None:
    with metrics_server(address) as environment:
        ended = subprocess.Popen(["true"])
        ended.wait()
        left = Path(environment[FOLDER]) / f"{ended.pid}.json"
        left.write_text('{"run": "one", "steps": 5}')
        (left.parent / f"{os.getpid()}.json").write_text('{"run": "two", "steps": 7}')
        assert read(address) == {"gan_train_runs": 1, 'gan_train_steps{run="two"}': 7}
        assert not left.exists()


def test_other_pages_are_not_there(address: str) -> None:
    with metrics_server(address):
        answers = [get(address, path) for path in ("/", "/api", "/metrics?x=1")]
        assert [(answer.status, answer.read().startswith(b"# HELP")) for answer in answers] == [
            (404, False), (404, False), (200, True)
        ]  # fmt: skip


def test_nothing_listens_and_nothing_is_written_unless_an_address_is_set(tmp_path: Path) -> None:
    with metrics_server(None) as environment, write_metrics(None, None):  # type: ignore[arg-type]
        assert environment == {}


@pytest.mark.parametrize("address", ["9464", ":9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "192.0.2.1:0"])
def test_a_wrong_address_is_refused_by_the_name_of_its_variable(address: str) -> None:
    with pytest.raises(SettingError, match=f"^GAN_METRICS_ADDRESS is '?{re.escape(address)}"), metrics_server(address):
        pass


def test_a_taken_address_names_the_variable(address: str) -> None:
    with (
        metrics_server(address),
        pytest.raises(SettingError, match="Address already in use. Set it to a free HOST:PORT"),
    ):
        metrics_server(address).__enter__()


def test_a_reader_that_goes_away_is_no_traceback(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with metrics_server(address):
        for _ in range(3):
            reader = socket.create_connection(address.split(":"))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
            reader.sendall(b"GET /metrics HTTP/1.1\r\n")
            reader.close()
        assert read(address) == {"gan_train_runs": 0}
    assert capsys.readouterr().err == ""
