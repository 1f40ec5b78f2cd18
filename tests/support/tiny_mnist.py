"""What are the files of tests/data, and how are they made again? `python -m tests.support.tiny_mnist DATA_DIR`

The first four images and labels of each split of MNIST, as idx files that gan.data.download reads unpinned.
"""

import gzip
import sys
from pathlib import Path

from gan.data import idx
from gan.data.dataset import load_dataset
from gan.data.mnist import FILES

TINY = Path(__file__).parents[1] / "data"
NAMES = tuple(file.name for file in FILES)
NUM_ITEMS = 4


def make(data_dir: Path, folder: Path = TINY) -> None:
    """Write the four tiny files from a folder that has the real ones."""
    data = load_dataset(data_dir)
    for name, array in zip(
        NAMES, (data.train_images, data.train_labels, data.test_images, data.test_labels), strict=True
    ):
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx.encode(array[:NUM_ITEMS]), mtime=0))


def raw(name: str) -> bytes:
    """Return the idx bytes of a tiny file."""
    return gzip.decompress((TINY / f"{name}.gz").read_bytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
