"""Which Prefect do the flow tests talk to, and which run do they begin with?"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.prefect_home import HOME  # isort: skip  # before anything imports prefect

import pytest

from flows import server
from gan.data.dataset import load_dataset
from gan.report.page import render
from gan.runs.run_dir import RunDir
from gan.sync.publish import seal
from gan.training.runner import open_run
from tests.support.deployment import deploy
from tests.support.digits import write_mnist
from tests.support.flow_run import CONFIG
from tests.support.mirror_server import mirror as mirror
from tests.support.s3_server import minio as minio
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need a server of Prefect. Those that start one themselves have the marker in their file."""
    if "api" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.prefect)


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """Return Prefect's home, and clear it in the end."""
    yield Path(HOME)
    shutil.rmtree(HOME)


@pytest.fixture(scope="session")
def api(home: Path) -> Iterator[str]:
    """Run one server for the flows that tests run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "STARTUP_SECONDS", 180.0)  # the machine may be busy with other tests
        with server.embedded_server() as api_url:
            yield api_url


@pytest.fixture(scope="session")
def deployed(api: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deploy once; return the folder in which flows are to run."""
    work_dir = tmp_path_factory.mktemp("work")
    deploy(api, work_dir)
    return work_dir


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set of 256 digits, once."""
    return write_mnist(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def environment(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment of a run, and return the store."""
    monkeypatch.setenv("GAN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GAN_DATA_DIR", str(data_dir))
    monkeypatch.setenv("GAN_NO_PINNED_HASH", "1")
    return tmp_path / "store"


@pytest.fixture
def run_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the run, and return its directory."""
    monkeypatch.setenv("GAN_RUN_ID", "mine")
    return environment / "runs" / "mine"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Make a finished run, once, and return its directory."""
    path = tmp_path_factory.mktemp("published") / "mine"
    with open_run(path, CONFIG, load_dataset(data_dir, pinned=False)) as made:
        list(made.train())
    render(RunDir(path))
    seal(path, "mine")
    return path


@pytest.fixture
def finished(run_path: Path, published: Path) -> Path:
    """Copy the finished run to the place where the flow will find it."""
    return Path(shutil.copytree(published, run_path))
