"""Which arrays does a data set hold, and do they fit into memory?"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gan.config import DataShape, TrainConfig
from gan.control_groups import free_memory
from gan.data import idx, mnist
from gan.data.dataset import DIGITS, Dataset, Rights
from gan.errors import DataError
from gan.files import sha256_bytes
from gan.sets.catalog import find_set
from gan.sets.set_manifest import SHARD_BYTES, SetManifest, SplitName
from gan.sets.shards import SetHash, read_labels, read_shards

MNIST = "mnist"
JUDGE = "judge"  # a folder in that of the set


def load_set(sets_dir: Path, address: str) -> Dataset:
    """Return the set that NAME or NAME@SHA names, after a check of every byte.

    Raises:
        DataError: there is no such set, or it is damaged, or this machine has too little memory for its pixels.
    """
    folder = find_set(sets_dir, address)
    manifest = SetManifest.read(folder)
    check_memory(manifest, free_memory())
    digest = SetHash.of(manifest)
    train_labels, train_images = _read_split(folder, manifest, "train", digest)
    test_labels, test_images = _read_split(folder, manifest, "test", digest)
    digest.check(manifest.sha256, folder)
    arrays = (train_images, train_labels, test_images, test_labels)
    return Dataset(
        *arrays,
        sha256=_names(manifest, arrays),
        side=manifest.side,
        channels=manifest.channels,
        classes=tuple(manifest.classes),
        background=manifest.form.background,
        is_private=manifest.facts.private,
        judge_folder=folder / JUDGE,
        rights=Rights(manifest.facts.license, manifest.facts.source, manifest.facts.attribution),
    )


def with_set(config: TrainConfig, data: Dataset) -> TrainConfig:
    """Return a config that names its data set by NAME@SHA-256, if it names one. MNIST is not named."""
    return config.model_copy(update={"data": data.address}) if config.data else config


def judge_folder(sets_dir: Path, address: str) -> Path:
    """Return where the judge of a set is kept. Raises DataError as `find_set` does."""
    return find_set(sets_dir, address) / JUDGE


def shape_of(sets_dir: Path, address: str) -> DataShape:
    """Return what networks must know of a set's images, without reading them. Raises DataError as `load_set` does."""
    manifest = SetManifest.read(find_set(sets_dir, address))
    num_classes = max(len(DIGITS), len(manifest.classes)) if manifest.classes else 0
    return DataShape(manifest.side, manifest.channels, num_classes, manifest.form.background)


def check_memory(manifest: SetManifest, free: int) -> None:
    """Raise DataError where the pixels of a set, and one shard beside them, take more bytes than are free."""
    needed = manifest.num_pixel_bytes + 2 * SHARD_BYTES
    if needed > free:
        num_images = manifest.num_images("train") + manifest.num_images("test")
        raise DataError(
            f"{manifest.address}: {num_images:,} images of {manifest.form.num_bytes:,} bytes need {needed:,} bytes of "
            f"memory, and {free:,} are free. Use a machine with more memory, or import fewer or smaller images."
        )


def _read_split(
    folder: Path, manifest: SetManifest, split: SplitName, digest: SetHash
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.uint8]]:
    """Return labels and images of a split, and add them to the digest."""
    labels = read_labels(folder, manifest, split)
    digest.update(labels.tobytes())
    images = np.empty((manifest.num_images(split), *manifest.form.shape), np.uint8)
    start = 0
    for shard in read_shards(folder, manifest, split):
        digest.update(shard.tobytes())
        images[start : start + len(shard)] = shard
        start += len(shard)
    return (labels.astype(np.uint8) if len(manifest.classes) <= 256 else labels), images


def _names(manifest: SetManifest, arrays: tuple[NDArray[np.uint8] | NDArray[np.uint16], ...]) -> dict[str, str]:
    """Return the SHA-256 by which a run knows its data: MNIST has those of its four files, as from a folder."""
    if manifest.name != MNIST:
        return {manifest.name: manifest.sha256}
    found = {
        file.name: sha256_bytes(idx.encode(array.astype(np.uint8)))
        for file, array in zip(mnist.FILES, arrays, strict=True)
    }
    is_mnist = found == {file.name: file.sha256 for file in mnist.FILES}
    return found if is_mnist else {manifest.name: manifest.sha256}
