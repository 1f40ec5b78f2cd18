"""Which Prefect do the flow tests talk to? A server of the project's own kind, on a home of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.prefect_home import HOME  # isort: skip  # before anything imports prefect

import pytest

from flows import server
from tests.support.deployment import deploy
from tests.support.digits import write_mnist
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
