"""Which fixtures do the tests of faults share, and which of them come first?"""

import pytest

from tests.support.s3_server import minio as minio
from tests.support.s3_server import one_loader as one_loader
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs
from tests.support.small_networks import small_networks as small_networks

WAITING = ("test_away.py", "test_machines.py", "test_freeze.py")  # most of their time passes without work


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that wait first, so that one process waits while the other one computes."""
    items.sort(key=lambda item: item.path.name not in WAITING)
