"""Is the frozen reference what the judge sees in MNIST?"""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gan.data import download as mnist
from gan.evaluation.evaluator import NUM_QUICK, NUM_SAMPLES, Evaluator
from gan.evaluation.reference import is_mnist, load_reference
from tests.support.real_digits import real_digits


def test_what_is_encoded_is_loaded() -> None:
    frozen = load_reference()
    found = safetensors.torch.load(frozen.encode())
    assert torch.equal(found["covariance"], frozen.features.covariance) and found["mean"].shape == (128,)
    assert found["class_shares"].sum() == pytest.approx(1)
    assert list(frozen.floors) == [NUM_QUICK, NUM_SAMPLES] and list(frozen.precision_recall_floors) == [NUM_SAMPLES]
    assert [tuple(figures) for figures in found["floors"].tolist()] == [*frozen.floors.values()]


def test_only_mnist_itself_is_mnist() -> None:
    sha256 = {file.name: file.sha256 for file in mnist.FILES}
    data = real_digits()
    assert is_mnist(replace(data, sha256=sha256))
    assert not is_mnist(replace(data, sha256={**sha256, "t10k-images-idx3-ubyte": "0" * 64})) and not is_mnist(data)


@pytest.mark.mnist
def test_it_is_what_the_judge_sees(tmp_path: Path) -> None:
    mnist.download(tmp_path, mnist.mirrors_from_env())
    data = mnist.load(tmp_path)
    frozen, seen = Evaluator(data), Evaluator(replace(data, sha256={}))
    assert torch.allclose(frozen.reference.features.mean, seen.reference.features.mean, atol=1e-4)
    assert torch.allclose(frozen.reference.features.covariance, seen.reference.features.covariance, atol=1e-3)
    assert torch.equal(frozen.reference.class_shares, seen.reference.class_shares)
    for count in (NUM_QUICK, NUM_SAMPLES):
        assert frozen.floor(count) == pytest.approx(seen.floor(count), rel=1e-4)
    near, expected = (each.precision_recall_floor(NUM_SAMPLES) for each in (frozen, seen))
    assert near == pytest.approx(expected, abs=2e-4)
    assert frozen.nearest == pytest.approx(seen.nearest, rel=1e-5)
