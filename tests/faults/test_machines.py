"""Do several machines, which share the API and the bucket alone, finish all runs to the same bytes while they die?

FAULTS=long has four workers and 40 runs, and kills a machine every 75 s: its runs are found by their missing
heartbeats. The short form has two workers and three runs, kills one machine, and sets Crashed by the API.
"""

import random
import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from tests.support.prefect_home import HOME as HOME  # isort: skip  # before anything imports prefect

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Crashed

from gan.storage.address import open_store
from tests.support.fault_form import IS_LONG
from tests.support.lab import assert_published, create_runs, train_undisturbed, unfinished
from tests.support.lab import lab as lab
from tests.support.machines import Machine
from tests.support.s3_server import free_ports

NUM_MACHINES, NUM_RUNS, NUM_STEPS = (4, 40, 2000) if IS_LONG else (2, 3, 300)
SNAPSHOT_STEPS = 500 if IS_LONG else 50  # a checkpoint has 31 MB, and the bucket of the test 25 GB
KILL_SECONDS = 75.0 if IS_LONG else 25.0
DOWN_SECONDS = 5.0
LIMIT_SECONDS = 3 * 3600.0 if IS_LONG else 600.0
SEEDS = range(4)  # runs with the same seed must have the same bytes
FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a process that runs a flow


class Death(NamedTuple):
    """A machine that was killed while it trained a run."""

    flow_run: UUID
    when: datetime


def config(seed: int) -> dict[str, object]:
    lengths = {"num_steps": NUM_STEPS, "snapshot_steps": SNAPSHOT_STEPS}
    return lengths | {"seed": seed, "precision": "float32", "num_threads": 1}


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


def seconds_to(client: SyncPrefectClient, name: str, deaths: list[Death]) -> list[float]:
    """Return, in order, how long after each death its run got a state; a run that was published already got none."""
    found = []
    for death in deaths:
        states = client.read_flow_run_states(death.flow_run)
        later = [state.timestamp for state in states if state.name == name and state.timestamp > death.when]
        found += [(min(later) - death.when).total_seconds()] if later else []
    return sorted(found)


def report(num_deaths: int, waits: dict[str, list[float]]) -> None:
    print(f"{NUM_RUNS} runs on {NUM_MACHINES} machines, {num_deaths} deaths in training")  # noqa: T201
    for name, seconds in waits.items():
        p95 = seconds[round(0.95 * (len(seconds) - 1))]
        print(  # noqa: T201
            f"seconds from death to {name}: median {statistics.median(seconds):.0f}, p95 {p95:.0f}, "
            f"highest {seconds[-1]:.0f}"
        )


@pytest.mark.machines
@pytest.mark.faults
def test_machines_that_die_finish_all_runs(lab: dict[str, str], tmp_path: Path) -> None:
    ports = free_ports(NUM_MACHINES)
    with get_client(sync_client=True) as client, ExitStack() as stack:
        seeds = [SEEDS[number % len(SEEDS)] for number in range(NUM_RUNS)]
        run_ids = create_runs(client, [config(seed) for seed in seeds], at_once=NUM_MACHINES)
        runs = dict(zip(run_ids, seeds, strict=True))
        machines = [
            Machine(tmp_path, f"machine{number}", tmp_path / "work", lab | {"PREFECT_WORKER_WEBSERVER_PORT": str(port)})
            for number, port in enumerate(ports)
        ]
        for machine in machines:
            machine.start("-m", "flows.worker")
            stack.callback(machine.kill)
        deaths = work_and_die(client, machines, runs)
        waits = {name: seconds_to(client, name, deaths) for name in ("Crashed", "AwaitingRetry", "Running")}
        states = {run_id: [state.name for state in client.read_flow_run_states(run_id)] for run_id in runs}
    assert all(waits.values())
    assert [names.count("Completed") for names in states.values()] == [1] * NUM_RUNS
    report(len(deaths), waits)
    store = open_store(lab["GAN_STORE"])
    for seed in sorted(set(runs.values())):
        undisturbed = train_undisturbed(tmp_path / f"undisturbed{seed}", tmp_path / "data", config(seed))
        for run_id in (run_id for run_id, its_seed in runs.items() if its_seed == seed):
            assert_published(store, run_id, undisturbed)
