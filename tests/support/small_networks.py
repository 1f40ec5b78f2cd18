"""How does a test train networks of linear layers a hundred times as small, where their size is not what it asks about?

They have the published number of layers, and a checkpoint of 0.6 MB instead of 36 MB.
"""

from collections.abc import Iterator

import pytest

from gan.recipes import mlp_networks

FULL = {"HIDDEN_G": mlp_networks.HIDDEN_G, "HIDDEN_D": mlp_networks.HIDDEN_D}
SMALL = {"HIDDEN_G": (8, 16, 32, 64), "HIDDEN_D": (32, 16, 8)}


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """Make the hidden layers of `published` and `tuned` small, in this process, for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, widths in SMALL.items():
            patch.setattr(mlp_networks, name, widths)
        yield


@pytest.fixture
def full_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one test of such a module train the networks as they are: what it shows depends on their size."""
    for name, widths in FULL.items():
        monkeypatch.setattr(mlp_networks, name, widths)
