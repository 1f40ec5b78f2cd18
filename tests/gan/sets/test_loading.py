"""Is a set loaded as training expects it, and refused where memory is too small?"""

from pathlib import Path

import numpy as np
import pytest

from gan.config import TrainConfig
from gan.control_groups import free_memory
from gan.data import mnist
from gan.data.dataset import Dataset, load_dataset, validate_dataset
from gan.data.mnist import MnistFile
from gan.errors import DataError
from gan.sets.loading import check_memory, load_set
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.pictures import imported, noise, write_folder


def test_a_set_of_few_classes_trains_as_a_folder_of_idx_files_does(tmp_path: Path) -> None:
    imported(write_folder(tmp_path / "in", {"a": 80, "b": 40}), tmp_path / "sets")
    data = load_set(tmp_path / "sets", "mine")
    assert data.class_counts.tolist() == [72, 36, *[0] * 8] and data.main_classes == [0, 1]
    assert data.train_labels.dtype == np.uint8 and not data.is_mnist
    config = TrainConfig(num_steps=2, snapshot_steps=2, batch_size=25, num_threads=1)
    with open_run(tmp_path / "run", config, data) as run:
        list(run.train())
        assert run.state.step == 2


def test_more_classes_are_counted(tmp_path: Path) -> None:
    imported(write_folder(tmp_path / "in", {str(number): 6 for number in range(12)}), tmp_path / "sets")
    data = load_set(tmp_path / "sets", "mine")
    assert data.class_counts.tolist() == [5] * 12 and len(data.classes) == 12


def test_more_than_256_classes_have_labels_of_16_bits(tmp_path: Path) -> None:
    labels = np.concatenate([np.arange(300), np.zeros(10, int)])
    np.savez(tmp_path / "a.npz", images=noise(310, 2), labels=labels)
    imported(tmp_path / "a.npz", tmp_path / "sets")
    data = load_set(tmp_path / "sets", "mine")
    assert data.train_labels.dtype == np.uint16 and data.train_labels.max() == 299


def test_mnist_as_a_set_is_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist(tmp_path / "data")
    checks = validate_dataset(folder, pinned=False)
    pins = tuple(MnistFile(name, check.shape, check.sha256) for name, check in checks.items())
    monkeypatch.setattr(mnist, "FILES", pins)  # a small set is MNIST here
    for name in ("mnist", "other"):
        imported(folder, tmp_path / "sets", name)
    data = load_set(tmp_path / "sets", "mnist")
    assert data.is_mnist and data.sha256 == load_dataset(folder).sha256
    assert not load_set(tmp_path / "sets", "other").is_mnist


def test_a_set_that_is_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets")
    assert free_memory() > 100 << 20
    check_memory(found.manifest, 200 << 20)
    monkeypatch.setattr("gan.sets.loading.free_memory", lambda: 1 << 20)
    with pytest.raises(DataError, match="10 images of 784 bytes need 128,007,840 bytes of memory, and 1,048,576 are"):
        load_set(tmp_path / "sets", "mine")


def test_a_damaged_set_is_not_loaded(tmp_path: Path) -> None:
    shard = imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets").folder / "test-images-000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="SHA-256 expected"):
        load_set(tmp_path / "sets", "mine")


@pytest.mark.parametrize("num_classes", [10, 26, 62, 1000])
def test_samples_must_have_each_of_many_classes_but_none_that_is_rare(num_classes: int) -> None:
    labels = np.repeat(np.arange(num_classes), 9).astype(np.int64)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    names = tuple(map(str, range(num_classes)))
    data = Dataset(images, labels[:-6], images, labels, {}, classes=names)  # the last class has a third as many
    assert data.main_classes == list(range(num_classes - 1))
