"""How does a test get a bucket and a Prefect server for machines that share nothing else, and runs for them?"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_RETRY_EXTRA_CODES,
    temporary_settings,
)

from flows.worker import POOL
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.storage.base import Store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.killing import promised_bytes
from tests.support.machines import ROOT
from tests.support.s3_server import free_ports, new_address, run_server


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run a bucket and a Prefect server; return the environment that leads the machines to them."""
    (tmp_path / "s3").mkdir()
    with run_server("seaweedfs", tmp_path / "s3") as s3:
        (port,) = free_ports(1)
        shared = s3.environment() | {
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "2", "GAN_STORE": new_address(), "GAN_NO_PINNED_HASH": "1",
            "GAN_DATA_DIR": str(write_mnist(tmp_path / "data")), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }  # fmt: skip
        with _server(tmp_path, port, shared), pytest.MonkeyPatch.context() as patch:
            for name, value in shared.items():
                patch.setenv(name, value)
            # A server with SQLite answers 500 while many machines keep its database locked.
            patient = {
                PREFECT_API_URL: shared["PREFECT_API_URL"],
                PREFECT_API_REQUEST_TIMEOUT: 600,
                PREFECT_CLIENT_RETRY_EXTRA_CODES: {500},
            }
            with temporary_settings(patient):
                yield shared


@contextmanager
def _server(folder: Path, port: int, shared: dict[str, str]) -> Iterator[None]:
    """Run Prefect's server, with the services that find missing heartbeats."""
    environment = os.environ | shared | {"PREFECT_HOME": str(folder / "server"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            deploy = [sys.executable, "-m", "flows.deploy"]  # it waits for the server
            (folder / "work").mkdir()
            subprocess.run(deploy, check=True, env=environment | {"GAN_WORK_DIR": str(folder / "work")}, cwd=folder)
            yield
        finally:
            process.terminate()
            process.wait(30)


def create_runs(client: SyncPrefectClient, configs: list[dict[str, object]], at_once: int) -> list[UUID]:
    """Schedule a run of each config, of which so many may be trained at the same time; return their ids."""
    client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=at_once))
    deployment = client.read_deployment_by_name("gan-train/default")
    return [
        client.create_flow_run_from_deployment(deployment.id, parameters={"config": config}).id for config in configs
    ]


def unfinished(client: SyncPrefectClient, runs: Iterable[UUID]) -> list[UUID]:
    """Return which runs are not Completed yet. No run may have failed."""
    states = {run_id: client.read_flow_run(run_id).state for run_id in runs}
    bad = {run_id: state for run_id, state in states.items() if state and state.name in ("Failed", "Cancelled")}
    assert not bad, bad
    return [run_id for run_id, state in states.items() if state is None or not state.is_completed()]


def train_undisturbed(path: Path, data_dir: Path, config: dict[str, object]) -> dict[str, bytes]:
    """Train a run that nothing disturbs; return the files whose bytes are promised."""
    with open_run(path, TrainConfig.model_validate(config), load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    return promised_bytes(path)


def assert_published(store: Store, run_id: UUID, promised: dict[str, bytes]) -> None:
    """Check that a run is published, that its manifest is right, and that it has the bytes of an undisturbed run."""
    run = StoredRun(store, str(run_id))
    assert verify(run).problems == []
    assert {name: b"".join(run.get(name)) for name in promised} == promised
