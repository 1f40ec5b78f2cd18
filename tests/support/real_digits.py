"""What is tests/data/digits.npz, and how is it made again? `python -m tests.support.real_digits DATA_DIR`

The first 30 images of each class of both splits of MNIST: enough to distinguish real digits from others.
"""

import io
import sys
from pathlib import Path

import numpy as np

from gan.data.dataset import Dataset, load_dataset

PATH = Path(__file__).parents[1] / "data" / "digits.npz"
NUM_EACH = 30


def make(data_dir: Path) -> None:
    """Write the file from a folder that has the real ones."""
    data = load_dataset(data_dir)
    train, test = first_of_each(data.train_labels), first_of_each(data.test_labels)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        train_images=data.train_images[train],
        test_images=data.test_images[test],
        train_labels=data.train_labels[train],
        test_labels=data.test_labels[test],
    )
    PATH.write_bytes(buffer.getvalue())


def first_of_each(labels: np.ndarray) -> np.ndarray:
    """Return the indices of the first images of each class, class by class."""
    return np.concatenate([np.flatnonzero(labels == label)[:NUM_EACH] for label in range(10)])


def real_digits() -> Dataset:
    """Return 300 training and 300 test images of MNIST."""
    with np.load(PATH) as arrays:
        return Dataset(**arrays, sha256={})


if __name__ == "__main__":
    make(Path(sys.argv[1]))
