"""Are images that occur more than once found?"""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.data.idx import encode
from gan.sets import duplicates
from gan.sets.card import DataCard
from gan.sets.duplicates import Images, find_duplicates, look_of
from tests.support.digits import digits
from tests.support.pictures import imported


def described(images: list[np.ndarray], labels: list[int] | None = None) -> Images:
    hashes = [hashlib.sha256(image.tobytes()).digest() for image in images]
    names = [f"{number}.png" for number in range(len(images))]
    looks = [look_of(image) for image in images]
    bits, small = (
        np.array([look.bits for look in looks], np.uint64),
        [np.frombuffer(look.small, np.uint8) for look in looks],
    )
    return Images(hashes, bits, np.stack(small), labels or [0] * len(images), names)


def drawn(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return smooth images (64, 64) that differ much."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6), np.uint8)
    return [np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC)) for each in small]


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def half_size(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((32, 32)).resize((64, 64)))


def test_identical_images_are_counted_and_those_in_both_splits_named() -> None:
    a, b, c, d = drawn(4)
    found = find_duplicates(described([a, b, a, a, c]), described([d, a, d, c]))
    assert (found.exact_in_train, found.exact_in_test, found.exact_between) == (2, 1, 2)
    assert [(pair.train, pair.test, pair.train_name) for pair in found.pairs] == [(0, 1, "0.png"), (4, 3, "4.png")]
    assert found.num_different == 4 and found.other_label == 0


def test_identical_images_of_two_classes_are_counted() -> None:
    a, b = drawn(2)
    assert find_duplicates(described([a, b, a], [0, 1, 2]), described([b], [1])).other_label == 2


@pytest.mark.parametrize("change", [jpeg, half_size])
def test_images_that_were_saved_again_are_near(change: object) -> None:
    images = drawn(60)
    copies = [change(image) for image in images[:10]]  # type: ignore[operator]
    found = find_duplicates(described(images), described([*copies, *drawn(10, seed=1)]))
    assert (found.near_in_train, found.near_in_test, found.near_between) == (0, 0, 10)
    assert (found.exact_between, found.num_compared) == (0, 80)


def test_near_images_within_a_split_are_counted() -> None:
    images = drawn(20)
    found = find_duplicates(described([*images, jpeg(images[3])]), described([*drawn(5, seed=1)]))
    assert (found.near_in_train, found.near_in_test, found.near_between) == (2, 0, 0)


def test_an_image_in_colour_has_a_look() -> None:
    grey = drawn(1)[0]
    assert look_of(np.stack([grey] * 3)) == look_of(grey)


def test_of_a_large_set_a_part_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_COMPARED", 12)
    found = find_duplicates(described(drawn(20)), described(drawn(10, seed=1)))
    assert (found.num_compared, found.num_different) == (12, 30)


def test_duplicates_planted_across_the_given_splits_are_on_the_card(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("t10k", 1)):
        images, labels = digits(40, seed)
        if split == "t10k":
            images[7] = digits(40, 0)[0][11]
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(encode(images))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(encode(labels))
    card = DataCard.read(imported(tmp_path, tmp_path / "sets").folder)
    assert [(pair.train, pair.test) for pair in card.duplicates.pairs] == [(11, 7)]
    assert card.duplicates.pairs[0].test_name == "test image 7"
