"""Is each class split by content, in the share that was asked for?"""

import hashlib

import numpy as np
import pytest

from gan.errors import DataError
from gan.sets.splits import least_count, num_test, order_by_content


def content(*numbers: int) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in numbers]


def test_each_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 4])
    order = order_by_content(content(*range(154)), labels, 0.1)
    assert np.bincount(labels[order.test], minlength=3).tolist() == [10, 5, 0]
    assert sorted([*order.train, *order.test]) == list(range(154))


def test_the_split_does_not_depend_on_the_order_of_the_source() -> None:
    hashes, labels = content(*range(60)), np.arange(60) % 3
    order = order_by_content(hashes, labels, 0.2)
    back = order_by_content(hashes[::-1], labels[::-1], 0.2)
    assert [hashes[i] for i in order.test] == [hashes[::-1][i] for i in back.test]
    assert [hashes[i] for i in order.train] == [hashes[::-1][i] for i in back.train]


def test_identical_images_are_on_one_side_whatever_their_class() -> None:
    numbers = [number // 2 for number in range(200)]
    hashes, labels = content(*numbers), np.arange(200) % 2
    order = order_by_content(hashes, labels, 0.25)
    assert not {hashes[i] for i in order.train} & {hashes[i] for i in order.test}
    assert np.bincount(labels[order.test]).tolist() == [25, 25]


def test_a_group_of_identical_images_that_is_too_large_is_for_training() -> None:
    hashes = content(*([1] * 50), *range(2, 52))
    order = order_by_content(hashes, np.zeros(100, np.int64), 0.1)
    assert len(order.test) == 10 and content(1)[0] not in {hashes[i] for i in order.test}


@pytest.mark.parametrize(("share", "least"), [(0.1, 5), (0.5, 2), (0.25, 2), (0.01, 50)])
def test_the_least_count_is_the_least(share: float, least: int) -> None:
    assert least_count(share) == least
    assert num_test(least, share) == 1 and num_test(least - 1, share) == 0
    order_by_content(content(*range(least)), np.zeros(least, np.int64), share)


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
def test_a_set_without_test_images_is_refused(numbers: list[int]) -> None:
    with pytest.raises(DataError, match=f"found {len(numbers)} images.*one class needs 5 different images or more"):
        order_by_content(content(*numbers), np.zeros(len(numbers), np.int64), 0.1)
