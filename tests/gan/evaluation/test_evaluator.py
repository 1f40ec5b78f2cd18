"""Does an evaluation distinguish real digits from noise, a collapse and copies?"""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan.data.dataset import load_dataset
from gan.data.download import download_dataset, mirrors_from_env
from gan.errors import DataError
from gan.evaluation.evaluator import NUM_QUICK, NUM_SAMPLES, Evaluator
from gan.evaluation.judge import WEIGHTS_SHA256
from tests.support.real_digits import real_digits

DATA = real_digits()
TEST, TRAIN = torch.from_numpy(DATA.test_images).unsqueeze(1), torch.from_numpy(DATA.train_images).unsqueeze(1)
MEASURE_TWICE = """
from resource import RUSAGE_SELF, getrusage

import torch

from gan.evaluation.classifier import classify
from gan.evaluation.judge import WEIGHTS_SHA256, load_classifier
from gan.evaluation import metrics

frozen, images = load_classifier(), torch.zeros(4000, 1, 28, 28, dtype=torch.uint8)
classify(frozen, images[:400])
before = getrusage(RUSAGE_SELF).ru_maxrss
for _ in range(2):
    features = classify(frozen, images).features.float().repeat(2, 1)
    metrics.precision_recall(features, features)
print(getrusage(RUSAGE_SELF).ru_maxrss - before)
"""
NOISE = torch.randint(0, 256, TEST.shape, dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(DATA)


def test_real_images_are_as_good_as_their_floor(evaluator: Evaluator) -> None:
    found = evaluator.evaluate(TRAIN)
    for metric in (found.distance, found.score, found.precision, found.recall):
        assert metric.value == pytest.approx(metric.floor)
    assert found.classes_covered == 10 and found.class_shares == pytest.approx([0.1] * 10, abs=0.01)
    assert found.histogram_distance.value < 0.02
    assert 0 < found.distance.error < found.distance.value
    assert (found.judge, found.num_samples, found.version) == (WEIGHTS_SHA256, 300, 1)


def test_noise_is_far_from_the_real_images(evaluator: Evaluator) -> None:
    found = evaluator.evaluate(NOISE)
    assert found.distance.value > 20 * found.distance.floor
    assert found.precision.value < 0.05 and found.recall.value < 0.05
    assert found.neighbour_ratio.value > 1.5 and found.memorised.value == 0


def test_a_collapse_loses_classes(evaluator: Evaluator) -> None:
    ones = TRAIN[30:60].repeat(10, 1, 1, 1)  # sorted by class
    found = evaluator.evaluate_quick(ones)
    assert (found.classes_covered, found.class_shares[1]) == (1, 1)
    assert found.histogram_distance == pytest.approx(0.9, abs=0.01)
    assert found.distance > 5 * found.distance_floor


@pytest.mark.parametrize(("images", "share"), [(TRAIN, 1.0), (TEST, 0.01)])
def test_copies_of_training_images_are_found(evaluator: Evaluator, images: Tensor, share: float) -> None:
    assert evaluator.evaluate(images).memorised.value == pytest.approx(share, abs=0.003)


def test_the_same_samples_get_the_same_numbers(evaluator: Evaluator) -> None:
    mixed = torch.cat([TEST[:100], NOISE[:50]])
    assert evaluator.evaluate(mixed) == Evaluator(DATA).evaluate(mixed)
    assert evaluator.evaluate_quick(mixed).distance == evaluator.evaluate(mixed).distance.value


def test_a_data_set_that_the_classifier_does_not_know_is_refused() -> None:
    with pytest.raises(DataError, match=r"classifies [0-9.]+% of these test images correctly"):
        Evaluator(replace(DATA, test_images=255 - DATA.test_images))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_few_test_images_are_too_few(count: int) -> None:
    few = replace(DATA, test_images=DATA.test_images[:count], test_labels=DATA.test_labels[:count])
    if count < 4:
        with pytest.raises(DataError, match=f"it needs 4 test images or more, and has {count}"):
            Evaluator(few)
    else:
        assert np.isfinite(Evaluator(few).evaluate(TEST[:50]).distance.value)


def test_reference_values_are_computed_once() -> None:
    """Results left between the large blocks of the parts took up to 400 MB more in some runs, and none in others."""
    grown_kb = subprocess.run([sys.executable, "-c", MEASURE_TWICE], capture_output=True, check=True).stdout
    assert int(grown_kb) < 100_000


@pytest.mark.mnist
def test_on_all_of_mnist_it_is_accurate_and_fast(tmp_path: Path) -> None:
    download_dataset(tmp_path, mirrors_from_env())
    data = load_dataset(tmp_path)
    began = time.process_time()  # of all threads: other work on the machine does not count
    evaluator = Evaluator(data)
    others = np.random.default_rng(1).permutation(len(data.train_images))[:NUM_SAMPLES]  # their order is not random
    found = evaluator.evaluate(torch.from_numpy(data.train_images[others]).unsqueeze(1))
    assert time.process_time() - began < 40  # 12 s on 2 cores
    assert np.mean(evaluator.test.probabilities.argmax(1).numpy() == data.test_labels) >= 0.993
    assert found.distance.value == pytest.approx(found.distance.floor, rel=0.3)
    assert found.precision.value > 0.8 and found.recall.value > 0.8 and found.classes_covered == 10
    began = time.process_time()
    evaluator.evaluate_quick(torch.from_numpy(data.train_images[:NUM_QUICK]).unsqueeze(1))
    assert time.process_time() - began < 10
