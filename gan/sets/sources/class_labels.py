"""Which classes do numbers stand for?"""

import numpy as np
from numpy.typing import NDArray

from gan.errors import DataError
from gan.sets.sources.base import MAX_CLASSES


def indexed(labels: NDArray[np.int64] | None, num_items: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes and the index of each image's class: the numbers that occur, in ascending order.

    Raises DataError where they are too many for classes.
    """
    if labels is None:
        return (), np.zeros(num_items, np.int64)
    values, indices = np.unique(labels, return_inverse=True)
    if len(values) > MAX_CLASSES:
        raise DataError(f"found {len(values):,} different labels, expected at most {MAX_CLASSES:,} classes.")
    return tuple(str(value) for value in values.tolist()), indices.reshape(-1)
