"""Which stack do the end-to-end tests talk to? One for all of them, built and started as README says."""

import shutil
from collections.abc import Iterator

from tests.support.prefect_home import HOME  # isort: skip  # before anything imports prefect

import pytest

from tests.e2e.stack import Receiver, Stack, mirror_for_containers


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
