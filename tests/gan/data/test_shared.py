"""Does a cluster download the MNIST files once, and then take them from its store?"""

import gzip
import hashlib
import logging
from pathlib import Path

import pytest

from gan.data import download as mnist
from gan.data import mnist as mnist_files
from gan.data import shared as mnist_store
from gan.data.mnist import MnistFile
from gan.data.shared import keep_mnist, take_mnist
from gan.storage.address import open_store
from gan.storage.base import Store
from tests.support.digits import write_mnist
from tests.support.s3_server import S3Server, free_ports, new_address
from tests.support.small_run import tree


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a small set and let it be the one that is pinned."""
    folder = write_mnist(tmp_path / "data")
    arrays = mnist.validate(folder, pinned=False)
    files = tuple(MnistFile(name, check.shape, check.sha256) for name, check in arrays.items())
    for module in (mnist, mnist_files, mnist_store):
        monkeypatch.setattr(module, "FILES", files)
    return folder


@pytest.fixture
def store(s3: S3Server) -> Store:
    return open_store(new_address())


def test_what_one_machine_has_the_next_one_takes(store: Store, data_dir: Path, tmp_path: Path) -> None:
    keep_mnist(store, data_dir)
    for info in store.list("datasets/mnist/"):
        assert info.key == f"datasets/mnist/{hashlib.sha256(store.read(info.key) or b'').hexdigest()}"
    take_mnist(store, tmp_path / "next")
    assert tree(tmp_path / "next") == {
        name.removesuffix(".gz"): gzip.decompress(content) for name, content in tree(data_dir).items()
    }
    assert len(mnist.download(tmp_path / "next", ["file:///no-such-folder"])) == 4


def test_what_is_there_is_neither_taken_nor_kept_again(store: Store, data_dir: Path) -> None:
    keep_mnist(store, data_dir)
    written = {info.key: info.modified for info in store.list("")}
    before = tree(data_dir)
    take_mnist(store, data_dir)
    keep_mnist(store, data_dir)
    assert tree(data_dir) == before
    assert {info.key: info.modified for info in store.list("")} == written


def test_a_damaged_object_is_left_to_the_mirrors(
    store: Store, data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_mnist(store, data_dir)
    key = f"datasets/mnist/{mnist_files.FILES[0].sha256}"
    store.delete(key)
    store.put_new(key, b"damaged")
    take_mnist(store, tmp_path / "next")
    assert sorted(tree(tmp_path / "next")) == sorted(file.name for file in mnist_files.FILES[1:])
    assert "train-images-idx3-ubyte is not taken from the store: datasets/mnist/" in caplog.text


def test_an_empty_store_and_one_that_is_away_are_left_to_the_mirrors(
    seaweedfs: S3Server,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seaweedfs.use(monkeypatch)
    take_mnist(open_store(new_address()), tmp_path / "next")
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    seaweedfs.use(monkeypatch, f"http://127.0.0.1:{free_ports(1)[0]}")
    away = open_store(new_address())
    with caplog.at_level(logging.WARNING):
        take_mnist(away, tmp_path / "next")
        keep_mnist(away, data_dir)
    assert caplog.text.count("the store is not asked for MNIST's files") == 2
    assert not (tmp_path / "next").exists()
