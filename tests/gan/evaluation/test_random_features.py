"""Does the fixed random network give the same features each time, of images of any form?"""

import pytest
import torch

from gan.evaluation.classifier import NUM_FEATURES, classify
from gan.evaluation.random_features import random_features


def noise(count: int, side: int, channels: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), generator=rng, dtype=torch.uint8)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_images_of_any_form_have_features_and_no_classes(side: int, channels: int) -> None:
    images = noise(200, side, channels)
    outputs = classify(random_features(images), images)
    assert (outputs.features.shape, outputs.probabilities.shape) == ((200, NUM_FEATURES), (200, 0))
    assert torch.allclose(outputs.features.mean(0), torch.zeros(1, dtype=torch.float64), atol=1e-3)
    assert torch.allclose(outputs.features.std(0), torch.ones(1, dtype=torch.float64), atol=1e-3)


def test_the_same_images_give_the_same_weights_whatever_was_drawn_before() -> None:
    images = noise(50, 28, 1)
    first, rng_state = random_features(images).state_dict(), torch.get_rng_state()
    torch.manual_seed(7)
    again = random_features(images).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    torch.set_rng_state(rng_state)
    random_features(images)
    assert torch.equal(torch.get_rng_state(), rng_state)


def test_flat_images_have_finite_features() -> None:
    flat = torch.full((50, 3, 32, 32), 128, dtype=torch.uint8)
    assert classify(random_features(flat), flat).features.isfinite().all()
    assert classify(random_features(noise(50, 32, 3)), flat).features.isfinite().all()
