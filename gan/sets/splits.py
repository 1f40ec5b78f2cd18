"""Which images are for training, and which for the test?

The content decides, so that the same images are split in the same way whatever their names are. Identical images are on
the same side: otherwise the test would ask for what was learnt by heart.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gan.errors import DataError
from gan.sets.sources.base import Split

Indices = NDArray[np.int64]


class Order(NamedTuple):
    """The images of each split, by their index in the source, in the order in which they are stored."""

    train: Indices
    test: Indices


def given_order(splits: Sequence[Split]) -> Order:
    """Keep the split and the order of a source that has its own."""
    is_test = np.array([split == "test" for split in splits])
    return Order(np.flatnonzero(~is_test), np.flatnonzero(is_test))


def order_by_content(hashes: Sequence[bytes], labels: Indices, test_share: float) -> Order:
    """Give the test its share of each class: the first images in the order of their hashes.

    Images are stored in the order of their hashes, and equal ones in that of their labels.

    Raises:
        DataError: a split would be empty.
    """
    order = sorted(range(len(hashes)), key=lambda index: (hashes[index], labels[index]))
    chosen = _test_hashes(hashes, labels, order, test_share)
    test = [index for index in order if hashes[index] in chosen]
    train = [index for index in order if hashes[index] not in chosen]
    if not (train and test):
        raise DataError(_too_few(hashes, labels, test_share))
    return Order(np.array(train, np.int64), np.array(test, np.int64))


def _test_hashes(hashes: Sequence[bytes], labels: Indices, order: Sequence[int], test_share: float) -> set[bytes]:
    """Return the contents that are for the test: in order, those that fit into the shares of all their classes."""
    free = [num_test(count, test_share) for count in np.bincount(labels).tolist()]
    chosen = set()
    for content, indices in groupby(order, key=hashes.__getitem__):
        counts = Counter(int(labels[index]) for index in indices)
        if all(count <= free[label] for label, count in counts.items()):
            chosen.add(content)
            for label, count in counts.items():
                free[label] -= count
    return chosen


def num_test(num_images: int, test_share: float) -> int:
    """Return how many images of a class are for the test; of a single one, none."""
    return max(0, min(num_images - 1, math.floor(test_share * num_images + 0.5)))


def least_count(test_share: float) -> int:
    """Return how many images a class must have so that one is for the test."""
    count = 2
    while num_test(count, test_share) == 0:
        count += 1
    return count


def _too_few(hashes: Sequence[bytes], labels: Indices, test_share: float) -> str:
    largest = int(np.bincount(labels).max())
    return (
        f"found {len(hashes):,} images, at most {largest:,} in one class, {len(set(hashes)):,} of them different: no "
        f"image would be for the test. With a test share of {test_share:g}, one class needs {least_count(test_share)} "
        "different images or more. Add images, or give a larger --test-share."
    )
