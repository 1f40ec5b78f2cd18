"""Which images do tests train on where the real ones are not needed? Digits drawn by Pillow's font."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan.data.dataset import Dataset
from gan.data.idx import encode


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (N, 28, 28) and labels (N,): digits of varying size and place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    return np.stack([_draw(int(label), rng) for label in labels]), labels


def write_mnist(directory: Path, num_train: int = 256, num_test: int = 64, *, all_alike: bool = False) -> Path:
    """Write the four files of a small idx set and return their folder."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", num_train, 0), ("t10k", num_test, 1)):
        images, labels = digits(count, seed)
        if all_alike:
            images[:] = images[0]
        (directory / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(encode(images), mtime=0))
        (directory / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encode(labels), mtime=0))
    return directory


def mnist(num_train: int = 256, num_test: int = 64) -> Dataset:
    """Return a small data set as `gan.data.download.load` would."""
    train_images, train_labels = digits(num_train, 0)
    test_images, test_labels = digits(num_test, 1)
    return Dataset(train_images, train_labels, test_images, test_labels, sha256={"train-images-idx3-ubyte": "0" * 64})


def without_labels(data: Dataset) -> Dataset:
    """Return a data set as one that was imported without labels."""
    zeros = (np.zeros_like(labels) for labels in (data.train_labels, data.test_labels))
    train_labels, test_labels = zeros
    return replace(data, train_labels=train_labels, test_labels=test_labels, classes=(), sha256={"bare": "0" * 64})


def _draw(label: int, rng: np.random.Generator) -> np.ndarray:
    image = Image.new("L", (28, 28))
    font = ImageFont.load_default(size=int(rng.integers(16, 26)))
    place = tuple(int(n) for n in rng.integers(3, 11, 2))
    ImageDraw.Draw(image).text((place[0], place[1] - 5), str(label), fill=255, font=font)
    return np.asarray(image)
