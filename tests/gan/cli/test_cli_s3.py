"""Do the commands read, and prune, runs that are in a bucket?"""

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.report.page import render
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.training.runner import open_run
from tests.support.command import run_gan
from tests.support.digits import mnist
from tests.support.publishing import publish
from tests.support.s3_server import READER, S3Server, new_address

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "mine"
    with open_run(path, TrainConfig(num_steps=4, snapshot_steps=2, num_threads=1), mnist()) as run:
        list(run.train())
    render(run.run_dir)
    return path


@pytest.fixture
def store(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, run_path: Path) -> str:
    """Publish a run, then use credentials that may only read."""
    seaweedfs.use(monkeypatch)
    address = new_address()
    publish(run_path, StoredRun(open_store(address), "mine"))
    seaweedfs.use(monkeypatch, keys=READER)
    return address


def gan(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_gan(folder, *options, XDG_CACHE_HOME=str(folder / "cache"), **environment)


def test_a_reader_verifies_and_lists(tmp_path: Path, store: str) -> None:
    verified = gan(tmp_path, "verify", f"{store}/runs/mine")
    assert verified.returncode == 0 and "every byte is as it was published" in verified.stdout
    assert list(tmp_path.iterdir()) == []
    assert gan(tmp_path, "runs", store).stdout.startswith("mine  published  tuned, 4 steps, seed 0, 20")
    missing = gan(tmp_path, "verify", f"{store}/runs/yours")
    assert missing.returncode == 1 and "there is no such run, or it is unfinished" in missing.stderr


def test_a_reader_samples_and_opens_the_report(tmp_path: Path, store: str) -> None:
    for run in ("mine", "mine/checkpoints/step-000002.safetensors"):
        done = gan(tmp_path, "sample", f"{store}/runs/{run}", "--out", "digits.png")
        assert done.stdout == f"digits.png: 25 samples of step {4 if run == 'mine' else 2}\n", done.stderr
    report = gan(tmp_path, "report", f"{store}/runs/mine").stdout.strip()
    assert Path(report).is_relative_to(tmp_path / "cache") and Path(report).read_text().startswith("<!doctype html>")
    assert gan(tmp_path, "cache").stdout == f"{tmp_path}/cache/gan-train: {size(tmp_path) / 1e6:.1f} MB\n"
    assert gan(tmp_path, "cache", "--clear").stdout.endswith("MB deleted\n")
    assert size(tmp_path) == 0


def test_a_link_opens_the_report_without_credentials(tmp_path: Path, store: str, seaweedfs: S3Server) -> None:
    public = f"http://localhost:{seaweedfs.port}"
    made = gan(tmp_path, "report", "--link", f"{store}/runs/mine", S3_PUBLIC_ENDPOINT_URL=public)
    assert made.stdout.startswith(public) and "X-Amz-Expires=604800" in made.stdout, made.stderr
    assert made.stderr == ""  # nothing of where boto3 finds credentials
    with urllib.request.urlopen(made.stdout.strip()) as page:
        assert page.headers["Content-Type"] == "text/html"
        assert page.read().startswith(b"<!doctype html>")
    missing = gan(tmp_path, "report", "--link", f"{store}/runs/yours")
    assert missing.returncode == 1 and "yours/report/index.html" in missing.stderr
    local = gan(tmp_path, "report", "--link", "store/runs/mine")
    assert (
        local.returncode == 1
        and "is not a bucket: open the file store/runs/mine/report/index.html instead" in local.stderr
    )


@pytest.mark.parametrize(
    ("public", "fault"),
    [
        ("localhost:9000", "is not an address: 'localhost:9000'"),
        ("http://", "is not an address: 'http://'"),
        ("http://h:port", "is not an address: 'http://h:port'"),
        ("http://h\r", "ends with a line end"),
        ("http://me:canary@h", "has a user or a password in it, which each link would show"),
    ],
)
def test_a_public_endpoint_that_is_no_address_is_one_sentence(
    tmp_path: Path, store: str, public: str, fault: str
) -> None:
    made = gan(tmp_path, "report", "--link", f"{store}/runs/mine", S3_PUBLIC_ENDPOINT_URL=public)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr == f"error: S3_PUBLIC_ENDPOINT_URL {fault}. Set it to http(s)://HOST[:PORT].\n"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())


def test_pruning_is_a_dry_run_without_yes(tmp_path: Path, store: str, seaweedfs: S3Server) -> None:
    admin = seaweedfs.environment()
    for options in ((), ("--dry-run",), ("--dry-run", "--yes")):
        dry = gan(tmp_path, "prune", store, "--keep-last", "0", *options, **admin)
        assert dry.stdout.startswith("mine  would be deleted: not among the last") and "--yes deletes" in dry.stderr
    assert "mine  stays: among the last" in gan(tmp_path, "prune", store, "--keep-last", "1", "--yes", **admin).stdout
    old = gan(tmp_path, "prune", store, "--keep-last", "0", "--older-than", "1d", "--yes", "--json", **admin)
    assert [(decision["prune"], decision["reason"]) for decision in json.loads(old.stdout)] == [(False, "0.0 days old")]
    denied = gan(tmp_path, "prune", store, "--keep-last", "0", "--yes")
    assert denied.returncode == 1 and "access is denied" in denied.stderr
    assert len(list(open_store(store).list("runs/"))) > 10
    assert "mine  deleted: not among" in gan(tmp_path, "prune", store, "--keep-last", "0", "--yes", **admin).stdout
    assert list(open_store(store).list("")) == []


def test_an_invalid_age_exits_2(tmp_path: Path) -> None:
    wrong = gan(tmp_path, "prune", "--keep-last", "1", "--older-than", "30")
    assert wrong.returncode == 2 and "expected a number with h, d or w" in wrong.stderr
