"""Does each step have its batch, and each epoch every image once?"""

import numpy as np
import pytest
import torch

from gan.data.batches import Batches
from gan.errors import DataError
from gan.images import from_uint8, to_uint8
from tests.support.digits import digits

DIGITS = digits(130)


def numbered(count: int) -> np.ndarray:
    """Return images whose every pixel is the image's number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 28, 28)).copy()


def test_an_epoch_has_each_image_once_except_in_an_incomplete_batch() -> None:
    batches = Batches(numbered(130), np.arange(130), batch_size=32, seed=0)
    seen = torch.cat([batches(step).images[:, 0, 0, 0] for step in range(1, 5)])
    assert len(seen.unique()) == 128


def test_an_image_comes_with_its_digit() -> None:
    images, labels = numbered(130), np.arange(130, dtype=np.uint8)
    real = Batches(images, labels, batch_size=32, seed=0)(2)
    assert torch.equal(to_uint8(real.images)[:, 0, 0, 0].long(), real.labels)


def test_a_batch_holds_its_images_pixel_by_pixel() -> None:
    images = np.random.default_rng(0).integers(256, size=(64, 28, 28), dtype=np.uint8)
    batches = Batches(images, np.arange(64), batch_size=32, seed=0)
    expected = from_uint8(torch.from_numpy(images)[batches.indices(2)].unsqueeze(1))
    assert torch.equal(batches(2).images, expected)


def test_epochs_are_shuffled_differently() -> None:
    batches = Batches(*DIGITS, batch_size=65, seed=0)
    assert not torch.equal(batches(1).images, batches(3).images)


def test_the_batch_of_a_step_does_not_depend_on_the_order_of_requests() -> None:
    forwards, backwards = Batches(*DIGITS, 32, seed=0), Batches(*DIGITS, 32, seed=0)
    expected = [forwards(step) for step in range(1, 10)]
    for step in reversed(range(1, 10)):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(backwards(step), expected[step - 1], strict=True))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="31 training images do not fill one batch of 32"):
        Batches(DIGITS[0][:31], DIGITS[1][:31], 32, seed=0)
