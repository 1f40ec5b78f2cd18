"""Are known sets downloaded from a mirror that has the right files, and from no other?"""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from gan.data.dataset import load_dataset
from gan.data.download import mirrors_from_env
from gan.data.idx import encode
from gan.errors import DataError, DownloadError
from gan.sets import known_sets
from gan.sets.known_sets import KNOWN, RemoteFile, check_not_reserved, download_set
from gan.sets.loading import load_set
from tests.support.digits import digits, write_mnist
from tests.support.mirror_server import MirrorServer, body, truncated


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def pin(monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, bytes], **changes: object) -> None:
    """Let small files be those of a known set, which has no mirror of its own."""
    pinned = tuple(RemoteFile(each, md5(data), 1 << 20) for each, data in files.items())
    monkeypatch.setitem(KNOWN, name, KNOWN[name]._replace(mirrors=(), files=pinned, **changes))


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_mnist(tmp_path / "mirror")
    pin(monkeypatch, "fashion-mnist", {f"{name}.gz": (folder / f"{name}.gz").read_bytes() for name in known_sets.NAMES})
    return folder


def test_addresses_and_md5_are_those_of_torchvision() -> None:
    classes = {"fashion-mnist": datasets.FashionMNIST, "kmnist": datasets.KMNIST}
    for name, known in classes.items():
        assert [(file.name, file.md5) for file in KNOWN[name].files] == known.resources
        assert [f"{url}/" for url in KNOWN[name].mirrors] == known.mirrors
    assert list(KNOWN["fashion-mnist"].classes) == datasets.FashionMNIST.classes
    assert list(KNOWN["kmnist"].classes) == datasets.KMNIST.classes
    for split in ("letters", "balanced"):
        known = KNOWN[f"emnist-{split}"]
        [file] = known.files
        assert (f"{known.mirrors[0]}/{file.name}", file.md5) == (datasets.EMNIST.url, datasets.EMNIST.md5)
        names = [each for each in datasets.EMNIST.classes_split_dict[split] if each != "N/A"]
        assert list(known.classes) == names


def test_a_known_set_is_downloaded_once(tmp_path: Path, mirror: MirrorServer, fashion: Path) -> None:
    mirror.serve_folder(fashion)
    found = download_set(tmp_path / "sets", "fashion-mnist", [mirror.url])
    assert found.is_new and found.manifest.classes[9] == "Ankle boot" and found.manifest.facts.license == "MIT"
    data, expected = load_set(tmp_path / "sets", "fashion-mnist"), load_dataset(fashion, pinned=False)
    assert (data.train_images == expected.train_images).all() and (data.test_labels == expected.test_labels).all()
    again = download_set(tmp_path / "sets", "fashion-mnist", [mirror.url])
    assert not again.is_new and again.folder == found.folder
    assert mirror.requests == [f"{name}.gz" for name in known_sets.NAMES]


def test_another_file_is_refused_and_the_next_mirror_is_tried(
    tmp_path: Path, mirror: MirrorServer, fashion: Path
) -> None:
    other = MirrorServer().serve_folder(write_mnist(tmp_path / "other", num_train=100))
    try:
        mirror.serve_folder(fashion)
        assert download_set(tmp_path / "sets", "fashion-mnist", [other.url, mirror.url]).is_new
        assert len(other.requests) == 1  # then it is tried last
        with pytest.raises(DownloadError, match=r"bytes of MD5 [0-9a-f]{32}, expected [0-9a-f]{32}\nCheck the network"):
            download_set(tmp_path / "none", "fashion-mnist", [other.url])
    finally:
        other.close()
    assert not (tmp_path / "none").exists()


def test_a_download_that_breaks_off_writes_nothing(tmp_path: Path, mirror: MirrorServer, fashion: Path) -> None:
    mirror.serve_folder(fashion)
    name = "t10k-labels-idx1-ubyte.gz"
    mirror.answers[name] = truncated((fashion / name).read_bytes())
    with pytest.raises(DownloadError, match="broke off"):
        download_set(tmp_path / "sets", "fashion-mnist", [mirror.url])
    assert not (tmp_path / "sets").exists()


def emnist_zip(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Return an archive as EMNIST has it: letters from 1, and images whose rows are columns."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in ("train", "test"):
            for kind, array in (("images-idx3", images.transpose(0, 2, 1)), ("labels-idx1", labels)):
                data = gzip.compress(encode(np.ascontiguousarray(array)))
                archive.writestr(f"gzip/emnist-letters-{part}-{kind}-ubyte.gz", data)
    return buffer.getvalue()


def test_letters_of_emnist_stand_upright(tmp_path: Path, mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    images = digits(52)[0]
    data = emnist_zip(images, (np.arange(52) % 26 + 1).astype(np.uint8))
    pin(monkeypatch, "emnist-letters", {"gzip.zip": data})
    mirror.answers["gzip.zip"] = body(data)
    found = download_set(tmp_path / "sets", "emnist-letters", [mirror.url])
    loaded = load_set(tmp_path / "sets", "emnist-letters")
    assert "".join(found.manifest.classes) == "abcdefghijklmnopqrstuvwxyz"
    assert (loaded.train_images == images).all() and loaded.train_labels.tolist() == [*range(26)] * 2


@pytest.mark.parametrize("data", [b"no archive", emnist_zip(digits(4)[0], np.arange(4, dtype=np.uint8))[:-200]])
def test_an_archive_that_cannot_be_unpacked_is_refused(
    tmp_path: Path, mirror: MirrorServer, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    pin(monkeypatch, "emnist-letters", {"gzip.zip": data})
    mirror.answers["gzip.zip"] = body(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        download_set(tmp_path / "sets", "emnist-letters", [mirror.url])
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("name", [*KNOWN, "MNIST", "Fashion-MNIST"])
def test_known_names_are_reserved(name: str) -> None:
    with pytest.raises(DataError, match=f"reserved for what `gan data download {name.lower()}` gets"):
        check_not_reserved(name)


def test_other_names_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Known are mnist, fashion-mnist, kmnist, emnist-letters, emnist-balanced"):
        download_set(tmp_path, "imagenet")


@pytest.mark.mnist
def test_mnist_is_known_by_what_is_in_its_files(tmp_path: Path) -> None:
    found = download_set(tmp_path / "sets", "mnist", mirrors_from_env())
    assert load_set(tmp_path / "sets", "mnist").is_mnist
    assert known_sets.pinned_words(found.manifest) == "The files have MNIST's SHA-256."
