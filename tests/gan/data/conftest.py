"""What do the tests of gan.data share?"""

import hashlib
import shutil
from pathlib import Path

import pytest

from gan.data import mnist
from gan.data.mnist import FILES, MnistFile
from tests.support.tiny_mnist import NAMES, TINY, raw


@pytest.fixture
def tiny_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin the tiny files in place of the real ones."""
    pins = (MnistFile(f.name, (4, *f.shape[1:]), hashlib.sha256(raw(f.name)).hexdigest()) for f in FILES)
    monkeypatch.setattr(mnist, "FILES", tuple(pins))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Give a folder with the tiny files."""
    (tmp_path / "data").mkdir()
    for name in NAMES:
        shutil.copy(TINY / f"{name}.gz", tmp_path / "data")
    return tmp_path / "data"
