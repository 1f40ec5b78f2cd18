"""Are runs Completed without a person when the store, the API or both are away until after the end of the training?

Each machine reaches the two through proxies. These refuse all connections once each run has begun, until each training
has ended and AWAY_SECONDS have passed. To the API, which goes on, some of the runs look killed.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.prefect_home import HOME as HOME  # isort: skip  # before anything imports prefect

from prefect.client.orchestration import get_client

from gan.storage.address import open_store
from gan.sync.stored_run import ATTEMPTS
from tests.support.fault_form import num
from tests.support.lab import assert_published, create_runs, train_undisturbed, unfinished
from tests.support.lab import lab as lab
from tests.support.machines import Machine
from tests.support.s3_server import free_ports
from tests.support.tcp_proxy import TcpProxy, proxy_to

pytestmark = [pytest.mark.faults, pytest.mark.machines]
CONFIG: dict[str, object] = {"num_steps": 1500, "snapshot_steps": 500, "precision": "float32", "num_threads": 1}
AWAY = ("store", "api", "both")
NUM_EACH = num(1, 3)  # machines, each with one run
NUM_RUNS = NUM_EACH * len(AWAY)
NUM_ROUNDS = num(1, 4)
AWAY_SECONDS = 75  # after the last training has ended: longer than a lease lasts, and than a publication is tried again
LIMIT_SECONDS = 900


class Workers:
    """Machines with a worker each, some of which reach the store, the API or both through proxies."""

    def __init__(self, folder: Path, lab: dict[str, str], api: TcpProxy, store: TcpProxy) -> None:
        to_store, to_api = {"AWS_ENDPOINT_URL_S3": store.url}, {"PREFECT_API_URL": f"{api.url}/api"}
        ways = {"store": to_store, "api": to_api, "both": to_store | to_api}
        self.proxies = [api, store]
        self.machines = [
            Machine(folder, f"{what}{number}", folder / "work", lab | ways[what] | _own_port())
            for what in AWAY
            for number in range(NUM_EACH)
        ]
        self.deadline = time.monotonic() + LIMIT_SECONDS

    def check_time(self) -> None:
        assert time.monotonic() < self.deadline, "\n".join(each.log.read_text()[-2000:] for each in self.machines)

    def runs_with(self, file: str) -> dict[UUID, str]:
        """Return the machine of each run that has such a file."""
        found = {}
        for each in self.machines:
            runs = each.disk / "work/store/runs"
            found |= {UUID(path.relative_to(runs).parts[0]): each.name for path in runs.glob(f"*/{file}")}
        return found

    def wait_for_each_run(self, file: str) -> dict[UUID, str]:
        """Wait until each run has such a file; return their machines."""
        while len(found := self.runs_with(file)) < NUM_RUNS:
            self.check_time()
            time.sleep(0.5)
        return found

    def outlast_training(self) -> dict[UUID, str]:
        """Take the store and the API away until after the end of all trainings; return the machine of each."""
        machines = self.wait_for_each_run("checkpoints/*.safetensors")
        for proxy in self.proxies:
            proxy.refuse()
        assert self.runs_with("losses.npz") == {}, "a training has ended before"
        self.wait_for_each_run("losses.npz")
        time.sleep(AWAY_SECONDS)
        for proxy in self.proxies:
            proxy.accept()
        return machines


def _own_port() -> dict[str, str]:
    return {"PREFECT_WORKER_WEBSERVER_PORT": str(free_ports(1)[0])}


@contextmanager
def run_workers(folder: Path, lab: dict[str, str]) -> Iterator[Workers]:
    api_port = int(lab["PREFECT_API_URL"].removesuffix("/api").rpartition(":")[2])
    store_port = int(lab["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
    with proxy_to(api_port) as api, proxy_to(store_port) as store, ExitStack() as stack:
        workers = Workers(folder, lab, api, store)
        for machine in workers.machines:
            machine.start("-m", "flows.worker")
            stack.callback(machine.kill)
        yield workers


@pytest.mark.parametrize("round_number", range(NUM_ROUNDS))
def test_runs_are_completed_although_something_is_away(lab: dict[str, str], tmp_path: Path, round_number: int) -> None:
    with get_client(sync_client=True) as client, run_workers(tmp_path, lab) as workers:
        runs = create_runs(client, [CONFIG] * NUM_RUNS, at_once=NUM_RUNS)
        machines = workers.outlast_training()
        while unfinished(client, runs):
            workers.check_time()
            time.sleep(2)
        states = {run_id: client.read_flow_run_states(run_id) for run_id in runs}
    for run_id, found in states.items():
        times = [f"{each.name} {(each.timestamp - found[0].timestamp).total_seconds():.0f} s" for each in found]
        print(f"{machines[run_id]} away: {', '.join(times)}")  # noqa: T201
    assert [[each.name for each in found].count("Completed") for found in states.values()] == [1] * NUM_RUNS
    bucket, promised = open_store(lab["GAN_STORE"]), train_undisturbed(tmp_path / "quiet", tmp_path / "data", CONFIG)
    for run_id in runs:
        assert_published(bucket, run_id, promised)
    assert list(bucket.list(ATTEMPTS)) == []
