"""Is a data set read completely, and is everything else refused?"""

import gzip
import hashlib
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gan.data import idx
from gan.data.dataset import load_dataset, validate_dataset
from gan.data.download import download_dataset
from gan.data.mnist import FILES
from gan.errors import ChecksumError, DataError, IdxFormatError
from tests.support.tiny_mnist import NAMES, TINY, raw

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = NAMES
HTML = b"<!DOCTYPE html><title>Sign in</title>"


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def test_load_gives_the_four_arrays() -> None:
    data = load_dataset(TINY, pinned=False)
    assert data.train_images.shape == data.test_images.shape == (4, 28, 28)
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([5, 0, 4, 1], [7, 2, 1, 0])
    assert (data.train_images[0].sum(), data.test_images[0].sum()) == (27525, 18454)
    assert data.sha256 == {name: hashlib.sha256(raw(name)).hexdigest() for name in NAMES}


def test_only_mnist_itself_is_mnist() -> None:
    data = load_dataset(TINY, pinned=False)
    sha256 = {file.name: file.sha256 for file in FILES}
    assert replace(data, sha256=sha256).is_mnist
    assert not replace(data, sha256={**sha256, TEST_IMAGES: "0" * 64}).is_mnist and not data.is_mnist


@pytest.mark.usefixtures("tiny_is_mnist")
def test_validate_says_what_the_files_are(data_dir: Path) -> None:
    (data_dir / f"{LABELS}.gz").unlink()
    (data_dir / LABELS).write_bytes(raw(LABELS))
    checks = validate_dataset(data_dir)
    assert list(checks) == list(NAMES)
    assert checks[LABELS] == (data_dir / LABELS, 12, (4,), hashlib.sha256(raw(LABELS)).hexdigest())
    assert checks[IMAGES].path == data_dir / f"{IMAGES}.gz" and checks[IMAGES].num_bytes == 736


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            IMAGES,
            HTML,
            r"begins with b'<!DO' \(an HTML or XML page.*\. Put a good copy there, or name a mirror that has it: "
            r"`gan download --data-dir \S+ --no-pinned-hash --mirror URL`\.$",
        ),
        (IMAGES, gz(raw(IMAGES)) * 2, "found 736 bytes after the gzip member"),
        (IMAGES, raw(IMAGES)[:-1], "is truncated: found 3,151 bytes, expected 3,152"),
        (IMAGES, idx.encode(np.zeros((4, 32, 32), np.uint8)), r"found items of shape \(32, 32\), expected \(28, 28\)"),
        (LABELS, idx.encode(np.array([0, 9], np.uint8)), "found 2 items, expected 4"),
        (TEST_LABELS, idx.encode(np.zeros(5, np.uint8)), "found a header of 5 items, expected 1 to 4"),
    ],
)
def test_validate_refuses(data_dir: Path, name: str, content: bytes, message: str) -> None:
    path = data_dir / f"{name}.gz"
    path.write_bytes(content)
    with pytest.raises(IdxFormatError, match=f"^{path}: {message}"):
        validate_dataset(data_dir, pinned=False)
    assert path.read_bytes() == content


def test_validate_refuses_a_file_that_is_too_large_without_reading_it(data_dir: Path) -> None:
    with (data_dir / f"{IMAGES}.gz").open("r+b") as file:
        file.truncate(1 << 40)  # a hole, that takes no room
    with pytest.raises(IdxFormatError, match="found 1,099,511,627,776 bytes, expected at most 392,393,040"):
        validate_dataset(data_dir, pinned=False)


def test_validate_refuses_a_pipe_without_waiting_for_it(data_dir: Path) -> None:
    (data_dir / f"{IMAGES}.gz").unlink()
    os.mkfifo(data_dir / f"{IMAGES}.gz")
    with pytest.raises(DataError, match=f"{IMAGES}.gz is no regular file. Remove it, or put a good copy"):
        validate_dataset(data_dir, pinned=False)


def qmnist_labels(num_items: int) -> bytes:
    """Return labels as QMNIST has them: eight int32 for each image."""
    return struct.pack(">HBB2I", 0, 0x0C, 2, num_items, 8) + bytes(32 * num_items)


@pytest.mark.parametrize("is_gzipped", [True, False])
@pytest.mark.parametrize("num_items", [4, 60_000])
def test_labels_of_another_type_are_refused_for_their_type(data_dir: Path, num_items: int, is_gzipped: bool) -> None:
    labels = qmnist_labels(num_items)
    (data_dir / f"{LABELS}.gz").write_bytes(gzip.compress(labels, 0) if is_gzipped else labels)
    with pytest.raises(IdxFormatError, match=r"\(idx, int32, 2 dimensions\), expected .* \(idx, uint8, 1 dimensions\)"):
        validate_dataset(data_dir, pinned=False)


def test_a_large_file_that_is_not_gzip_is_damaged(data_dir: Path) -> None:
    (data_dir / f"{LABELS}.gz").write_bytes(idx.GZIP_MAGIC + bytes(10_000))
    with pytest.raises(IdxFormatError, match="damaged gzip"):
        validate_dataset(data_dir, pinned=False)


def test_labels_of_more_classes_are_not_downloaded_again(data_dir: Path) -> None:
    """EMNIST's letters have the labels 1 to 26. Another copy has them, too."""
    (data_dir / f"{LABELS}.gz").write_bytes(gz(idx.encode(np.array([0, 9, 26, 1], np.uint8))))
    for read in (load_dataset, validate_dataset, download_dataset):
        with pytest.raises(DataError, match="found label 26 at index 2, expected 0 to 9") as caught:
            read(data_dir, pinned=False)
        assert "has more than ten classes and cannot be used" in str(caught.value)
        assert "gan download" not in str(caught.value)
    assert sorted(path.name for path in data_dir.iterdir()) == sorted(f"{name}.gz" for name in NAMES)


@pytest.mark.usefixtures("tiny_is_mnist")
def test_the_advice_is_a_command_that_can_be_run(data_dir: Path) -> None:
    folder = data_dir.rename(data_dir.with_name("my data"))
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"`gan download --data-dir '{folder}'` downloads it"):
        validate_dataset(folder)
    with pytest.raises(DataError, match=f"`gan download --data-dir '{folder}' --no-pinned-hash --mirror URL`"):
        validate_dataset(folder, pinned=False)


@pytest.mark.usefixtures("tiny_is_mnist")
def test_another_set_is_accepted_only_unpinned(data_dir: Path) -> None:
    shutil.copy(data_dir / f"{TEST_IMAGES}.gz", data_dir / f"{IMAGES}.gz")
    with pytest.raises(ChecksumError, match="found content of SHA-256 e26030.*, expected fba50f.*--no-pinned-hash"):
        load_dataset(data_dir)
    assert load_dataset(data_dir, pinned=False).train_images[0].sum() == 18454
