"""Do several machines, which share the API and the bucket alone, finish all runs to the same bytes while they die?

FAULTS=long has four workers and 40 runs, and kills a machine every 75 s: its runs are found by their missing
heartbeats. The short form has two workers and three runs, kills one machine, and sets Crashed by the API.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from tests.support.prefect_home import HOME as HOME  # isort: skip  # before anything imports prefect

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from flows.worker import POOL
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.fault_form import IS_LONG
from tests.support.killing import promised_bytes
from tests.support.machines import ROOT, Machine
from tests.support.s3_server import free_ports, new_address, run_server

NUM_MACHINES, NUM_RUNS, NUM_STEPS = (4, 40, 800) if IS_LONG else (2, 3, 300)
KILL_SECONDS = 75.0 if IS_LONG else 25.0
DOWN_SECONDS = 5.0
LIMIT_SECONDS = 3 * 3600.0 if IS_LONG else 600.0
SEEDS = range(4)  # runs with the same seed must have the same bytes
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a process that runs a flow


class Death(NamedTuple):
    """A machine that was killed while it trained a run."""

    flow_run: UUID
    when: datetime


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
            patient = {PREFECT_API_URL: shared["PREFECT_API_URL"], PREFECT_API_REQUEST_TIMEOUT: 600}
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


def create_runs(client: SyncPrefectClient) -> dict[UUID, int]:
    """Schedule all runs; return their seeds."""
    client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=NUM_MACHINES))
    deployment = client.read_deployment_by_name("gan-train/default")
    seeds = [SEEDS[number % len(SEEDS)] for number in range(NUM_RUNS)]
    return {
        client.create_flow_run_from_deployment(deployment.id, parameters={"config": config(seed)}).id: seed
        for seed in seeds
    }


def config(seed: int) -> dict[str, object]:
    return {"seed": seed, "num_steps": NUM_STEPS, "snapshot_steps": 50, "precision": "float32", "num_threads": 1}


def unfinished(client: SyncPrefectClient, runs: dict[UUID, int]) -> list[UUID]:
    states = {run_id: client.read_flow_run(run_id).state for run_id in runs}
    bad = {run_id: state for run_id, state in states.items() if state and state.name in ("Failed", "Cancelled")}
    assert not bad, bad
    return [run_id for run_id, state in states.items() if state is None or not state.is_completed()]


def kill(machine: Machine) -> Death | None:
    """Kill a machine; return the run that it trained."""
    trained = {found[FLOW_RUN] for found in machine.environments() if FLOW_RUN in found}
    machine.kill()
    when = datetime.now(UTC)
    return Death(UUID(trained.pop()), when) if trained else None


def work_and_die(client: SyncPrefectClient, machines: list[Machine], runs: dict[UUID, int]) -> list[Death]:
    """Let the machines work until all runs are completed, and kill one of them again and again."""
    chance, deaths = random.Random(0), []
    deadline, next_kill = time.monotonic() + LIMIT_SECONDS, time.monotonic() + KILL_SECONDS
    while unfinished(client, runs):
        assert time.monotonic() < deadline, "\n".join(machine.log.read_text()[-2000:] for machine in machines)
        time.sleep(2)
        if time.monotonic() < next_kill or (deaths and not IS_LONG):
            continue
        machine = chance.choice(machines)
        if death := kill(machine):
            deaths.append(death)
            if not IS_LONG:  # in place of the automation, which would wait for three heartbeats
                client.set_flow_run_state(death.flow_run, Crashed(message="killed by the test"), force=True)
        time.sleep(DOWN_SECONDS)
        machine.start("-m", "flows.worker")
        next_kill = time.monotonic() + KILL_SECONDS
    return deaths


def seconds_to_training(client: SyncPrefectClient, death: Death) -> float | None:
    """Return how long after a death its run was in training again; None if it was published already."""
    states = client.read_flow_run_states(death.flow_run)
    again = sorted(state.timestamp for state in states if state.name == "Running" and state.timestamp > death.when)
    return (again[0] - death.when).total_seconds() if again else None


def report(deaths: list[Death], waits: list[float]) -> None:
    waits = sorted(waits)
    p95 = waits[round(0.95 * (len(waits) - 1))]
    print(  # noqa: T201
        f"{NUM_RUNS} runs on {NUM_MACHINES} machines, {len(deaths)} deaths in training; seconds from death to training "
        f"again: median {statistics.median(waits):.0f}, p95 {p95:.0f}, highest {waits[-1]:.0f}"
    )


def bytes_of(store: Store, run_id: str, names: set[str]) -> dict[str, bytes]:
    run = StoredRun(store, run_id)
    return {name: b"".join(run.get(name)) for name in names}


@pytest.mark.machines
@pytest.mark.faults
def test_machines_that_die_finish_all_runs(lab: dict[str, str], tmp_path: Path) -> None:
    ports = free_ports(NUM_MACHINES)
    with get_client(sync_client=True) as client, ExitStack() as stack:
        runs = create_runs(client)
        machines = [
            Machine(tmp_path, f"machine{number}", tmp_path / "work", lab | {"PREFECT_WORKER_WEBSERVER_PORT": str(port)})
            for number, port in enumerate(ports)
        ]
        for machine in machines:
            machine.start("-m", "flows.worker")
            stack.callback(machine.kill)
        deaths = work_and_die(client, machines, runs)
        waits = [seconds for death in deaths if (seconds := seconds_to_training(client, death)) is not None]
        states = {run_id: [state.name for state in client.read_flow_run_states(run_id)] for run_id in runs}
    assert deaths and waits
    assert [names.count("Completed") for names in states.values()] == [1] * NUM_RUNS
    report(deaths, waits)
    store = open_store(lab["GAN_STORE"])
    for seed in sorted(set(runs.values())):
        undisturbed = train_undisturbed(tmp_path, seed)
        for run_id in (str(run_id) for run_id, its_seed in runs.items() if its_seed == seed):
            assert verify(StoredRun(store, run_id)).problems == []
            assert bytes_of(store, run_id, set(undisturbed)) == undisturbed


def train_undisturbed(tmp_path: Path, seed: int) -> dict[str, bytes]:
    path = tmp_path / f"undisturbed{seed}"
    with open_run(path, TrainConfig.model_validate(config(seed)), load_dataset(tmp_path / "data", pinned=False)) as run:
        list(run.train())
    return promised_bytes(path)
