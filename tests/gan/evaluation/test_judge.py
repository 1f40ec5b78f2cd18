"""Is the judge of another data set made, frozen and loaded, and refused where it knows too little?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.data.dataset import Dataset
from gan.errors import ChecksumError, DataError
from gan.evaluation import judge_training
from gan.evaluation.classifier import Classifier
from gan.evaluation.evaluator import Evaluator
from gan.evaluation.judge import CARD, load_judge
from gan.evaluation.judge_training import train_judge
from gan.evaluation.results import RANDOM_FEATURES
from gan.images import with_channels
from tests.support.digits import mnist, without_labels
from tests.support.small_run import flip_bit


@pytest.fixture(scope="module")
def data() -> Dataset:
    return mnist(num_train=1500, num_test=1000)


@pytest.fixture(scope="module")
def unlabelled() -> Dataset:
    return without_labels(mnist(num_train=600, num_test=300))


@pytest.fixture(scope="module")
def folder(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("set") / "judge"
    train_judge(data, path, num_epochs=3)
    return path


def test_it_measures_samples_of_its_data_set(data: Dataset, folder: Path) -> None:
    judge = load_judge(folder)
    evaluator = Evaluator(data, judge=judge)
    assert list(evaluator.reference.floors) == [1500]  # frozen, so that none has to be computed
    real = evaluator.evaluate_quick(with_channels(data.test_images))
    noise = evaluator.evaluate_quick(torch.randint(0, 256, (1000, 1, 28, 28), dtype=torch.uint8))
    assert (real.judge, real.classes_covered) == (judge.sha256, 10)
    assert real.distance < 1e-6 < noise.distance


def test_the_same_data_give_the_same_judge(data: Dataset, folder: Path, tmp_path: Path) -> None:
    card = train_judge(data, tmp_path / "judge", num_epochs=3)
    assert card.model_dump_json(indent=2) == (folder / CARD).read_text()
    assert card.accuracy > 0.95 and card.num_test == 1000


@pytest.mark.parametrize("name", ["classifier.safetensors", "reference.safetensors"])
def test_a_damaged_file_is_refused(folder: Path, name: str) -> None:
    flip_bit(folder / name)
    with pytest.raises(ChecksumError, match=f"{name}: SHA-256 is .*Remove its folder, and train the judge again"):
        load_judge(folder)
    flip_bit(folder / name)


def test_a_missing_or_newer_judge_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"judge\.json is missing: this data set has no judge yet. Train it by `gan "):
        load_judge(tmp_path)
    (tmp_path / CARD).write_text((folder / CARD).read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match=r"judge\.json cannot be read, or is of another version"):
        load_judge(tmp_path)


def test_labels_that_cannot_be_learnt_are_refused(data: Dataset, tmp_path: Path) -> None:
    shuffled = replace(data, train_labels=np.roll(data.train_labels, 1))
    with pytest.raises(DataError, match=r"the classifier knows .* of the test images, and a judge must know 80%"):
        train_judge(shuffled, tmp_path / "judge", num_epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_too_few_test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 300 test images, and \d+ of its rarest class. A judge needs 1,000"):
        train_judge(mnist(num_test=300), tmp_path / "judge")


def test_without_labels_a_random_network_judges_and_there_are_no_classes(unlabelled: Dataset, tmp_path: Path) -> None:
    card = train_judge(unlabelled, tmp_path / "judge")
    assert (card.features, card.num_classes, card.accuracy, card.floor_counts) == ("random", 0, None, [600])
    assert str(card).startswith(RANDOM_FEATURES)
    assert train_judge(unlabelled, tmp_path / "again") == card
    evaluator = Evaluator(unlabelled, judge=load_judge(tmp_path / "judge"))
    noise = torch.randint(0, 256, (1000, 1, 28, 28), dtype=torch.uint8)
    found, real = evaluator.evaluate(noise), evaluator.evaluate(with_channels(unlabelled.train_images))
    assert list(evaluator.reference.floors) == [600]  # of all training images; frozen, so that none has to be computed
    assert real.distance.value == pytest.approx(real.distance.floor)
    assert real.distance.value < found.distance.value / 10
    without = {"score", "histogram_distance", "classes_covered", "class_shares"}
    assert found.features == "random" and not without & found.model_dump().keys()
    assert "classes" not in str(found) and str(found).endswith(RANDOM_FEATURES)


def test_without_labels_a_few_hundred_images_are_needed(unlabelled: Dataset, tmp_path: Path) -> None:
    few = replace(unlabelled, test_images=unlabelled.test_images[:255])
    with pytest.raises(DataError, match="has 600 training and 255 test images. Without labels, a judge needs 256"):
        train_judge(few, tmp_path / "judge")


def test_nothing_is_left_where_the_disk_refuses(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("no")

    monkeypatch.setattr(judge_training, "load_judge", refuse)
    monkeypatch.setattr(judge_training, "train", lambda *_: None)
    monkeypatch.setattr(judge_training, "LEAST_ACCURACY", 0.0)
    with pytest.raises(DataError):
        train_judge(data, tmp_path / "judge")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_images_of_any_side_and_colour_are_classified(side: int, channels: int) -> None:
    network = Classifier(side, channels, num_classes=26).eval()
    images = torch.zeros(2, channels, side, side)
    assert (network.features(images).shape, network(images).shape) == ((2, 128), (2, 26))
