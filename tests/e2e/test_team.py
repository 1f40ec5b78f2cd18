"""Can a team use the stack: over TLS, with keys of their own, and with Prometheus?"""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE, PREFECT_API_URL, temporary_settings
from websockets.sync.client import connect

from tests.e2e.stack import BUCKET, ROOT, Stack, wait_for
from tests.support.s3_server import free_ports

pytestmark = pytest.mark.e2e

PORTS = ("HTTP_PORT", "PREFECT_TLS_PORT", "MINIO_TLS_PORT", "MINIO_CONSOLE_TLS_PORT", "TENSORBOARD_TLS_PORT")


class Proxy:
    """Caddy, run as docs/team.md says, with a certificate that it makes itself."""

    def __init__(self, ports: dict[str, str], certificate: Path) -> None:
        self.ports = ports
        self.certificate = certificate
        self.tls = ssl.create_default_context()
        self.tls.load_verify_locations(certificate)

    def url(self, name: str) -> str:
        return f"https://localhost:{self.ports[f'{name}_TLS_PORT']}"

    def get(self, url: str, **options: Any) -> httpx.Response:
        with httpx.Client(verify=self.tls, timeout=60) as client:
            return client.get(url, **options)


@contextmanager
def running(words: list[str], folder: Path, **environment: str) -> Iterator[None]:
    """Run a program in a folder, and end it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def proxy(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("caddy")
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    ports |= {name: str(port) for name, port in stack.ports.items()}
    made = subprocess.run(
        ["caddy", "hash-password", "--plaintext", "sesame"], check=True, capture_output=True, text=True
    )
    environment = ports | {
        "GAN_HOST": "localhost",
        "TENSORBOARD_HASH": made.stdout.strip(),
        "XDG_DATA_HOME": str(folder),
    }
    caddy = ["caddy", "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy/Caddyfile")]
    with running(caddy, folder, **environment):
        certificate = folder / "caddy/pki/authorities/local/root.crt"
        wait_for(certificate.exists, 30, "the certificate of Caddy")
        proxy = Proxy(ports, certificate)
        wait_for(lambda: proxy.get(f"{proxy.url('PREFECT')}/api/health").json() is True, 60, "Prefect over TLS")
        yield proxy


@pytest.mark.caddy
def test_prefect_is_used_over_tls(stack: Stack, proxy: Proxy) -> None:
    url = proxy.url("PREFECT")
    assert "text/html" in proxy.get(url).headers["content-type"]
    assert proxy.get(f"{url}/api/work_pools/gpu").status_code == 401
    settings: dict[Any, Any] = {
        PREFECT_API_URL: f"{url}/api",
        PREFECT_API_AUTH_STRING: stack.credentials["PREFECT_API_AUTH_STRING"],
        PREFECT_API_SSL_CERT_FILE: str(proxy.certificate),
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        assert client.read_work_pool("gpu").name == "gpu"
    with connect(f"{url}/api/events/in".replace("https", "wss"), subprotocols=["prefect"], ssl=proxy.tls) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "prefect"
    plain = httpx.get(f"http://localhost:{proxy.ports['HTTP_PORT']}/runs")
    assert (plain.status_code, plain.headers["location"]) == (308, "https://localhost/runs")


@pytest.mark.caddy
def test_a_link_to_a_file_of_the_bucket_opens_over_tls(stack: Stack, proxy: Proxy) -> None:
    stack.s3().put_object(Bucket=BUCKET, Key="team/one.txt", Body=b"one")
    link = s3(stack, proxy).generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "team/one.txt"})
    assert link.startswith(f"{proxy.url('MINIO')}/{BUCKET}/team/one.txt?")
    assert proxy.get(link).content == b"one"
    assert proxy.get(link.partition("?")[0]).status_code == 403
    assert "text/html" in proxy.get(proxy.url("MINIO_CONSOLE"), follow_redirects=True).headers["content-type"]
    stack.s3().delete_object(Bucket=BUCKET, Key="team/one.txt")


@pytest.mark.caddy
def test_tensorboard_asks_for_a_password(proxy: Proxy) -> None:
    answers = [proxy.get(proxy.url("TENSORBOARD"), auth=auth) for auth in (None, ("team", "wrong"), ("team", "sesame"))]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    assert "TensorBoard" in answers[-1].text


def test_a_person_reads_with_a_key_of_their_own(stack: Stack) -> None:
    def keys(*words: str) -> dict[str, str]:
        shown = stack.compose("run", "--rm", "--no-deps", "bucket", "python", "-m", "stack.bucket", *words)
        return dict(line.removeprefix("export ").split("=", 1) for line in shown.splitlines())

    stack.s3().put_object(Bucket=BUCKET, Key="team/two.txt", Body=b"two")
    reader = s3(stack, **keys("add", "ada"))
    assert reader.get_object(Bucket=BUCKET, Key="team/two.txt")["Body"].read() == b"two"
    for forbidden in (
        lambda: reader.put_object(Bucket=BUCKET, Key="team/three.txt", Body=b""),
        lambda: reader.delete_object(Bucket=BUCKET, Key="team/two.txt"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            forbidden()
    s3(stack, **keys("add", "ada", "--write")).delete_object(Bucket=BUCKET, Key="team/two.txt")
    keys("remove", "ada")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        reader.list_objects_v2(Bucket=BUCKET)


@pytest.mark.prometheus
def test_prometheus_reads_the_worker_prefect_and_minio(stack: Stack, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path, dirs_exist_ok=True)
    shown = stack.compose("run", "--rm", "--no-deps", "secrets", "python", "-m", "stack.credentials", "show")
    (tmp_path / "minio.token").write_text(shown.partition("bearer token ")[2].split()[0])
    (tmp_path / "prefect.password").write_text(stack.credentials["PREFECT_API_AUTH_STRING"].partition(":")[2])
    config = (tmp_path / "prometheus.yml").read_text()
    for published, name in ((9464, "METRICS_PORT"), (4200, "PREFECT_PORT"), (9000, "MINIO_PORT")):
        config = config.replace(f"127.0.0.1:{published}", f"127.0.0.1:{stack.ports[name]}")
    (tmp_path / "prometheus.yml").write_text(config.replace("15s", "1s"))
    [port] = free_ports(1)

    def value(query: str) -> list[Any]:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}).json()
        return [{**row["metric"], "value": row["value"][1]} for row in answer["data"]["result"]]

    words = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    with running([*words, "--storage.tsdb.path=data"], tmp_path):
        jobs = ("worker", "prefect", "minio")
        wait_for(lambda: {row["job"] for row in value("up == 1")} == {f"gan-train-{job}" for job in jobs}, 40, "all up")
        assert [row["value"] for row in value("gan_train_runs")] == ["0"]
        assert value("minio_cluster_capacity_usable_total_bytes")
        assert value("python_info{job='gan-train-prefect'}")


def s3(stack: Stack, proxy: Proxy | None = None, **keys: str) -> Any:
    """Return a client of the bucket, over TLS or with other keys."""
    known = stack.credentials | keys
    return boto3.client(
        "s3",
        endpoint_url=proxy.url("MINIO") if proxy else known["AWS_ENDPOINT_URL_S3"],
        verify=str(proxy.certificate) if proxy else None,
        region_name=known["AWS_DEFAULT_REGION"],
        aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
    )
