"""Is the stored reference what the classifier gives for MNIST?"""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gan.data.dataset import load_dataset
from gan.data.download import download_dataset, mirrors_from_env
from gan.evaluation.evaluator import NUM_QUICK, NUM_SAMPLES, Evaluator
from gan.evaluation.judge import load_reference


def test_an_encoded_reference_is_loaded_unchanged() -> None:
    frozen = load_reference()
    found = safetensors.torch.load(frozen.encode())
    assert torch.equal(found["covariance"], frozen.features.covariance) and found["mean"].shape == (128,)
    assert found["class_shares"].sum() == pytest.approx(1)
    assert list(frozen.floors) == [NUM_QUICK, NUM_SAMPLES] and list(frozen.precision_recall_floors) == [NUM_SAMPLES]
    assert [tuple(figures) for figures in found["floors"].tolist()] == [*frozen.floors.values()]


@pytest.mark.mnist
def test_it_equals_the_computed_reference(tmp_path: Path) -> None:
    download_dataset(tmp_path, mirrors_from_env())
    data = load_dataset(tmp_path)
    frozen, seen = Evaluator(data), Evaluator(replace(data, sha256={}))
    assert torch.allclose(frozen.reference.features.mean, seen.reference.features.mean, atol=1e-4)
    assert torch.allclose(frozen.reference.features.covariance, seen.reference.features.covariance, atol=1e-3)
    assert torch.equal(frozen.reference.class_shares, seen.reference.class_shares)
    for count in (NUM_QUICK, NUM_SAMPLES):
        assert frozen.floor(count) == pytest.approx(seen.floor(count), rel=1e-4)
    near, expected = (each.precision_recall_floor(NUM_SAMPLES) for each in (frozen, seen))
    assert near == pytest.approx(expected, abs=2e-4)
    assert frozen.nearest == pytest.approx(seen.nearest, rel=1e-5)
