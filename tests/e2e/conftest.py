"""Which stack do the end-to-end tests talk to? One for all of them, built and started as README says."""

import os
import shutil
import tempfile
from collections.abc import Iterator

HOME = tempfile.mkdtemp(prefix="gan-train-e2e-")
os.environ.setdefault("PREFECT_HOME", HOME)  # before anything imports prefect, which reads the user's settings then

import pytest  # noqa: E402

from tests.e2e.stack import Receiver, Stack, mirror_for_containers  # noqa: E402


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Listen for what the stack has to tell."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def stack(receiver: Receiver) -> Iterator[Stack]:
    """Build and start the stack; in the end clear it, volumes too."""
    with mirror_for_containers() as mirror:
        stack = Stack(mirror, receiver.url)
        stack.compose("build")
        try:
            stack.up()
            yield stack
        finally:
            stack.compose("down", "--volumes", "--timeout", "20")
            shutil.rmtree(HOME, ignore_errors=True)
