"""Is the classifier the pinned one, and does it classify digits?"""

from pathlib import Path

import pytest
import torch

from gan.errors import ChecksumError
from gan.evaluation import judge
from gan.evaluation.classifier import NUM_CLASSES, NUM_FEATURES, classify
from gan.evaluation.judge import WEIGHTS_SHA256, load_classifier
from tests.support.real_digits import real_digits
from tests.support.small_run import flip_bit


def test_it_classifies_real_digits_with_certainty() -> None:
    data = real_digits()
    outputs = classify(load_classifier(), torch.from_numpy(data.test_images).unsqueeze(1))
    assert (outputs.features.shape, outputs.probabilities.shape) == ((300, NUM_FEATURES), (300, NUM_CLASSES))
    assert (outputs.probabilities.argmax(1).numpy() == data.test_labels).mean() >= 0.99
    assert outputs.probabilities.max(1).values.median() > 0.99


def test_an_images_features_do_not_depend_on_the_other_images() -> None:
    images = torch.from_numpy(real_digits().test_images).unsqueeze(1)
    frozen = load_classifier()
    alone, together = classify(frozen, images[:1]), classify(frozen, images)
    assert torch.allclose(alone.features[0], together.features[0], atol=1e-5)


def test_it_is_small() -> None:
    assert judge.WEIGHTS.stat().st_size < 2_000_000


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "classifier.safetensors"
    copy.write_bytes(judge.WEIGHTS.read_bytes())
    flip_bit(copy)
    monkeypatch.setattr(judge, "WEIGHTS", copy)
    with pytest.raises(ChecksumError, match=f"classifier.safetensors: SHA-256 is .* expected {WEIGHTS_SHA256}"):
        load_classifier()
