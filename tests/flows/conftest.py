"""Which Prefect do the flow tests talk to? A server of the project's own kind, on a home of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.support.prefect_home import HOME  # isort: skip  # before anything imports prefect

import pytest

from flows.server import embedded_server
from tests.support.digits import write_mnist
from tests.support.mirror_server import mirror as mirror
from tests.support.s3_server import minio as minio
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """Return Prefect's home, and clear it in the end."""
    yield Path(HOME)
    shutil.rmtree(HOME)


@pytest.fixture(scope="session")
def api(home: Path) -> Iterator[str]:
    """Run one server for the flows that tests run in this process."""
    with embedded_server() as api_url:
        yield api_url


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set of 256 digits, once."""
    return write_mnist(tmp_path_factory.mktemp("digits"))
