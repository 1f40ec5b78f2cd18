"""Which images and labels do the idx files of a folder hold?"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan.data import idx, mnist
from gan.errors import DataError
from gan.sets.sources.array_file import picture
from gan.sets.sources.base import Form, LeftOut, Picture, printable
from gan.sets.sources.class_labels import indexed

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = (file.name for file in mnist.FILES)
MAX_IDX_BYTES = 1 << 30  # of one file, unpacked


class IdxFolder:
    """Images with labels in MNIST's format: train and test, which keep this split, or train alone."""

    def __init__(self, folder: Path, classes: Sequence[str] = (), *, is_transposed: bool = False) -> None:
        """Read the files. Raises DataError where one is missing or damaged, or labels do not match.

        Args:
            classes: their names, in the order of the labels; without them, the labels themselves.
            is_transposed: rows and columns are exchanged, as in EMNIST.
        """
        self.left_out = LeftOut()
        pairs = [_read_pair(folder, TRAIN_IMAGES, TRAIN_LABELS)]
        if _path(folder, TEST_IMAGES) or _path(folder, TEST_LABELS):
            pairs.append(_read_pair(folder, TEST_IMAGES, TEST_LABELS))
        self.parts = [images.transpose(0, 2, 1) if is_transposed else images for images, _ in pairs]
        self.num_items = sum(len(part) for part in self.parts)
        found, self.labels = indexed(np.concatenate([labels for _, labels in pairs]), self.num_items)
        if classes and len(classes) != len(found):
            raise DataError(f"{printable(str(folder))}: found {len(found)} classes, expected {len(classes)}.")
        self.classes = tuple(classes) or found

    def read(self, form: Form) -> Iterator[Picture | None]:
        """Yield each image in the order of the files."""
        index = 0
        for split, images in zip(("train", "test"), self.parts, strict=False):
            for place, pixels in enumerate(images):
                label = int(self.labels[index])
                given = split if len(self.parts) > 1 else None
                yield picture(f"{split} image {place:,}", pixels, label, given, form)
                index += 1


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder has files in MNIST's format."""
    return any(_path(folder, file.name) for file in mnist.FILES)


def _path(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.gz", folder / name)
    return next((path for path in paths if path.is_file()), None)


def _read_pair(folder: Path, images: str, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images (N, H, W) and labels (N,)."""
    pixels, numbers = _read(folder, images, 3), _read(folder, labels, 1)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{printable(str(folder))}: {labels} has {len(numbers):,} labels, expected {len(pixels):,}: one for each "
            f"image of {images}."
        )
    return pixels, numbers.astype(np.int64)


def _read(folder: Path, name: str, num_dims: int) -> NDArray[np.uint8]:
    path = _path(folder, name)
    if path is None:
        raise DataError(f"{printable(str(folder))}: found neither {name}.gz nor {name}. Put it there.")
    where = printable(str(path))
    try:
        if path.stat().st_size > MAX_IDX_BYTES:
            raise DataError(f"{where}: found {path.stat().st_size:,} bytes, expected at most {MAX_IDX_BYTES:,}.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}). Check its permissions.") from error
    shape = idx.shape_of_items(data, where, num_dims - 1)
    max_items = MAX_IDX_BYTES // max(1, math.prod(shape))
    return idx.decode(idx.unpack(data, where, shape, max_items), where, shape, max_items)
