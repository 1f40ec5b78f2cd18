"""Which Prefect do the flow tests talk to? A server of the project's own kind, on a home of its own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

HOME = tempfile.mkdtemp(prefix="gan-train-tests-")
os.environ.update(  # before anything imports prefect, which reads them then
    PREFECT_HOME=HOME,
    PREFECT_LOGGING_EXTRA_LOGGERS="gan",
    PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE="false",
    DO_NOT_TRACK="1",
)

import pytest  # noqa: E402

from flows.server import embedded_server  # noqa: E402
from tests.digits import write_mnist  # noqa: E402
from tests.mirror_server import mirror as mirror  # noqa: E402
from tests.s3_server import minio as minio  # noqa: E402
from tests.s3_server import s3 as s3  # noqa: E402
from tests.s3_server import seaweedfs as seaweedfs  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """Keep Prefect's database and settings of the user out of the tests."""
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
