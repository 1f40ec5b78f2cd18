"""Is the judge the one that was pinned, and does it know digits?"""

from pathlib import Path

import pytest
import torch

from gan.errors import ChecksumError
from gan.evaluation import classifier as judge
from tests.support.real_digits import real_digits
from tests.support.small_run import flip_bit


def test_it_names_real_digits_and_is_sure_of_them() -> None:
    data = real_digits()
    seen = judge.look(judge.load_judge(), torch.from_numpy(data.test_images).unsqueeze(1))
    assert (seen.features.shape, seen.probabilities.shape) == ((300, judge.NUM_FEATURES), (300, judge.NUM_CLASSES))
    assert (seen.probabilities.argmax(1).numpy() == data.test_labels).mean() >= 0.99
    assert seen.probabilities.max(1).values.median() > 0.99


def test_it_sees_the_same_in_an_image_whatever_is_beside_it() -> None:
    images = torch.from_numpy(real_digits().test_images).unsqueeze(1)
    frozen = judge.load_judge()
    alone, together = judge.look(frozen, images[:1]), judge.look(frozen, images)
    assert torch.allclose(alone.features[0], together.features[0], atol=1e-5)


def test_it_is_small() -> None:
    assert judge.WEIGHTS.stat().st_size < 2_000_000


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "classifier.safetensors"
    copy.write_bytes(judge.WEIGHTS.read_bytes())
    flip_bit(copy)
    monkeypatch.setattr(judge, "WEIGHTS", copy)
    with pytest.raises(ChecksumError, match=f"classifier.safetensors: SHA-256 is .* expected {judge.SHA256}"):
        judge.load_judge()
