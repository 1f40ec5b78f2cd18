"""How does a test start the stack, look into it, and hurt it?"""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.support.s3_server import free_ports

ROOT = Path(__file__).parents[2]
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # each process of the tests has a stack
PROJECT = f"gan-train-e2e-{NUMBER}"
SERVICES = ("postgres", "prefect-server", "minio", "worker", "tensorboard")
BUCKET = "gan"
START_SECONDS = 300
FINAL = ("COMPLETED", "FAILED", "CANCELLED")  # a Crashed run goes on


class Stack:
    """The stack under a project name and on ports of its own, so that one that is in use is left alone."""

    def __init__(self, mirror: str, notify_url: str) -> None:
        names = ("PREFECT_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT", "TENSORBOARD_PORT", "METRICS_PORT")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        cores = sorted(os.sched_getaffinity(0))
        self.environment = os.environ | {name: str(port) for name, port in self.ports.items()} | {
            "COMPOSE_PROJECT_NAME": PROJECT, "GAN_MNIST_MIRRORS": mirror, "GAN_NOTIFY_URL": notify_url,
            "GAN_NOTIFY_LATE_SECONDS": "10", "COMPOSE_FILE": "docker-compose.yml:tests/e2e/quick.yml",
            "WORKER_CORE": str(cores[NUMBER % len(cores)]),
        }  # fmt: skip
        self._credentials: dict[str, str] = {}

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['PREFECT_PORT']}"

    @property
    def minio_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['MINIO_PORT']}"

    @property
    def tensorboard_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['TENSORBOARD_PORT']}"

    @property
    def credentials(self) -> dict[str, str]:
        """Return what `make credentials` exports."""
        if not self._credentials:
            shown = self.compose("run", "--rm", "--no-deps", "secrets", "python", "-m", "stack.credentials", "show")
            exports = [line.removeprefix("export ") for line in shown.splitlines() if line.startswith("export ")]
            self._credentials = dict(line.split("=", 1) for line in exports)
        return self._credentials

    def secrets(self) -> dict[str, str]:
        """Return every secret of the stack by its name."""
        program = "print(open('/run/secrets/all/credentials.json').read())"
        found: dict[str, str] = json.loads(
            self.compose("run", "--rm", "--no-deps", "secrets", "python", "-c", program).strip()
        )
        return found

    def compose(self, *words: str, check: bool = True) -> str:
        """Run docker compose and return what it prints on standard output."""
        done = subprocess.run(
            ["docker", "compose", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, f"docker compose {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self) -> None:
        """Do what README says."""
        self.compose("up", "-d", "--wait")

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return docker("inspect", "--format", "{{.Id}}", name_of(service)).strip()

    def kill(self, service: str) -> None:
        """Kill a service's container as a crash would: no restart policy brings it back."""
        docker("kill", name_of(service))

    def start(self, service: str) -> None:
        """Start a killed container again."""
        docker("start", name_of(service))

    @contextmanager
    def away(self, service: str, seconds: float) -> Iterator[None]:
        """Kill a service, and start it after so long."""
        self.kill(service)
        try:
            yield
            time.sleep(seconds)
        finally:
            self.start(service)

    def exec(self, service: str, *words: str) -> str:
        """Run a command in a service's container, by docker itself: compose takes a second of a core to start."""
        return docker("exec", name_of(service), *words)

    @contextmanager
    def prefect(self) -> Iterator[SyncPrefectClient]:
        """Talk to the server as a client on the host does."""
        known = self.credentials
        settings: dict[Any, Any] = {
            PREFECT_API_URL: known["PREFECT_API_URL"],
            PREFECT_API_AUTH_STRING: known["PREFECT_API_AUTH_STRING"],
        }
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client

    def run(self, deployment: str = "default", **config: Any) -> FlowRun:
        """Ask for a run, as `prefect deployment run` does."""
        with self.prefect() as client:
            found = client.read_deployment_by_name(f"gan-train/{deployment}")
            return client.create_flow_run_from_deployment(found.id, parameters={"config": config})

    def states(self, run: FlowRun) -> list[str]:
        """Return the names of a run's states, in order."""
        with self.prefect() as client:
            return [state.name or "" for state in client.read_flow_run_states(run.id)]

    def wait_for_state(self, run: FlowRun, *types: str, seconds: float = 300) -> FlowRun:
        """Wait until a run is in one of these states."""
        with self.prefect() as client:  # one client for all looks
            return wait_for(lambda: _in_state(client.read_flow_run(run.id), types), seconds, f"{run.name} in {types}")

    def finish(self, run: FlowRun, seconds: float = 600) -> FlowRun:
        """Wait until a run is Completed."""
        found = self.wait_for_state(run, *FINAL, seconds=seconds)
        assert found.state is not None
        assert found.state.type.value == "COMPLETED", f"{found.state}\n{self.logs('worker')}"
        return found

    def steps(self, run: FlowRun) -> int:
        """Return the step of a run's last snapshot; 0 where it has none."""
        metrics = f"/work/store/runs/{run.id}/metrics.jsonl"
        last = self.exec("worker", "sh", "-c", f"if [ -e {metrics} ]; then tail -n 1 {metrics}; fi")
        return int(json.loads(last)["step"]) if last else 0

    def wait_for_step(self, run: FlowRun, step: int, seconds: float = 300) -> None:
        """Wait until a run has a snapshot of this step."""
        self.wait_for_state(run, "RUNNING", seconds=seconds)
        wait_for(lambda: self.steps(run) >= step, seconds, f"step {step}")

    def logs(self, service: str) -> str:
        """Return what a service has printed."""
        return self.compose("logs", "--no-color", "--no-log-prefix", service)

    def gan(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `gan` on the host, with the app's credentials."""
        command = [sys.executable, "-m", "gan", *words]
        return subprocess.run(command, env=os.environ | self.credentials, capture_output=True, text=True, check=False)

    def manifest(self, run: FlowRun) -> dict[str, str]:
        """Return the SHA-256 of each file that a published run promises to the byte."""
        done = self.gan("verify", self.address(run))
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(self.s3().get_object(Bucket=BUCKET, Key=f"runs/{run.id}/manifest.json")["Body"].read())
        promised = ("checkpoints/", "grids/", "losses.npz", "config.json", "reals.png")
        return {name: entry["sha256"] for name, entry in found["files"].items() if name.startswith(promised)}

    def s3(self) -> Any:
        """Return a client with the app's credentials."""
        known = self.credentials
        return boto3.client(
            "s3",
            endpoint_url=known["AWS_ENDPOINT_URL_S3"],
            region_name=known["AWS_DEFAULT_REGION"],
            aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
        )

    def address(self, run: FlowRun) -> str:
        """Return where a run is kept."""
        return f"s3://{BUCKET}/runs/{run.id}"

    def trainers(self) -> int:
        """Return how many processes in the worker run a flow."""
        commands = self.exec("worker", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        return commands.count("-m prefect.engine")


def name_of(service: str) -> str:
    """Return how compose calls a service's container."""
    return f"{PROJECT}-{service}-1"


def docker(*words: str) -> str:
    """Run docker and return what it prints on standard output."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_in_layers(image: str, secrets: list[bytes]) -> bool:
    """Tell whether any of an image's layers, files that a later one deletes included, has one of these secrets."""
    longest, before = max(map(len, secrets)), b""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        while block := saving.stdout.read(1 << 24):
            if any(secret in before + block for secret in secrets):
                return True
            before = block[-longest:]
    assert saving.returncode == 0
    return False


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until something is true, and return it; a stack in trouble may answer with errors meanwhile."""
    deadline, trouble = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except (httpx.HTTPError, AssertionError) as error:
            trouble = repr(error)
        time.sleep(1)
    raise AssertionError(f"not after {seconds} s: {what} {trouble}")


def bridge_address() -> str:
    """Return the address by which containers reach this machine."""
    (config, *_) = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"]
    return config.get("Gateway") or str(next(ip_network(config["Subnet"]).hosts()))  # left out where it is the first


@contextmanager
def mirror_for_containers() -> Iterator[str]:
    """Yield mirrors that containers reach; a directory on this machine is served on Docker's bridge."""
    mirrors = os.environ.get("GAN_MNIST_MIRRORS", "")  # none: the public ones
    if not mirrors.startswith("file://"):
        yield mirrors
        return
    handler = partial(_Quiet, directory=urlsplit(mirrors).path)
    with http.server.ThreadingHTTPServer((bridge_address(), 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{server.server_address[0]!s}:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


class Receiver:
    """Takes what is posted to it, as a chat's webhook does; containers reach it."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(_Quiet):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer((bridge_address(), 0), Handler)
        self.url = f"http://{self._server.server_address[0]!s}:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


def _in_state(run: FlowRun, types: tuple[str, ...]) -> FlowRun | None:
    return run if run.state and run.state.type.value in types else None
