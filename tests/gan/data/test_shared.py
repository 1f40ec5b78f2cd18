"""Does a cluster download the MNIST files once, and then copy them from its store?"""

import gzip
import hashlib
import logging
from pathlib import Path

import pytest

from gan.data import mnist
from gan.data.dataset import validate_dataset
from gan.data.download import download_dataset
from gan.data.mnist import MnistFile
from gan.data.shared import download_from_store, upload_to_store
from gan.storage.address import open_store
from gan.storage.base import Store
from tests.support.digits import write_mnist
from tests.support.s3_server import S3Server, free_ports, new_address
from tests.support.small_run import tree


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a small set and let it be the one that is pinned."""
    folder = write_mnist(tmp_path / "data")
    arrays = validate_dataset(folder, pinned=False)
    files = tuple(MnistFile(name, check.shape, check.sha256) for name, check in arrays.items())
    monkeypatch.setattr(mnist, "FILES", files)
    return folder


@pytest.fixture
def store(s3: S3Server) -> Store:
    return open_store(new_address())


def test_one_machine_uploads_and_the_next_one_downloads(store: Store, data_dir: Path, tmp_path: Path) -> None:
    upload_to_store(store, data_dir)
    for info in store.list("datasets/mnist/"):
        assert info.key == f"datasets/mnist/{hashlib.sha256(store.read(info.key) or b'').hexdigest()}"
    download_from_store(store, tmp_path / "next")
    assert tree(tmp_path / "next") == {
        name.removesuffix(".gz"): gzip.decompress(content) for name, content in tree(data_dir).items()
    }
    assert len(download_dataset(tmp_path / "next", ["file:///no-such-folder"])) == 4


def test_existing_files_are_not_copied_again(store: Store, data_dir: Path) -> None:
    upload_to_store(store, data_dir)
    written = {info.key: info.modified for info in store.list("")}
    before = tree(data_dir)
    download_from_store(store, data_dir)
    upload_to_store(store, data_dir)
    assert tree(data_dir) == before
    assert {info.key: info.modified for info in store.list("")} == written


def test_a_damaged_object_is_not_copied(
    store: Store, data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload_to_store(store, data_dir)
    key = f"datasets/mnist/{mnist.FILES[0].sha256}"
    store.delete(key)
    store.put_new(key, b"damaged")
    download_from_store(store, tmp_path / "next")
    assert sorted(tree(tmp_path / "next")) == sorted(file.name for file in mnist.FILES[1:])
    assert "train-images-idx3-ubyte is not copied from the store: datasets/mnist/" in caplog.text


def test_an_empty_or_unreachable_store_is_skipped(
    seaweedfs: S3Server,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seaweedfs.use(monkeypatch)
    download_from_store(open_store(new_address()), tmp_path / "next")
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    seaweedfs.use(monkeypatch, f"http://127.0.0.1:{free_ports(1)[0]}")
    away = open_store(new_address())
    with caplog.at_level(logging.WARNING):
        download_from_store(away, tmp_path / "next")
        upload_to_store(away, data_dir)
    assert caplog.text.count("the store cannot be searched for MNIST's files") == 2
    assert not (tmp_path / "next").exists()
