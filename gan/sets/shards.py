"""How are the pixels and labels of a set stored, read and hashed?

Files are NumPy's .npy, version 1.0: a header, then the bytes. Images are uint8 (N, side, side), or (N, 3, side, side)
in colour. Labels are 16 bits, little-endian. The identity of a set is the SHA-256 of a header and of the labels and
pixels of both splits, without the headers of the files.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gan.errors import ChecksumError, DataError
from gan.files import atomic_write, sha256_bytes
from gan.sets.set_manifest import (
    SPLITS,
    FileOfSet,
    SetManifest,
    SplitName,
    images_per_shard,
    labels_name,
    shard_name,
)
from gan.sets.sources.base import Form, printable

AGAIN = "Remove the folder of the set, then import or fetch the set again."
LABEL_DTYPE = np.dtype("<u2")
Pixels = NDArray[np.uint8]
Gather = Callable[[NDArray[np.int64]], Pixels]  # the images at some indices


class SetHash:
    """The identity of a set, computed in the order in which its content is written."""

    def __init__(self, form: Form, classes: Sequence[str], num_images: Mapping[SplitName, int]) -> None:
        header = {
            "format": "gan-train set 1",
            "side": form.side,
            "channels": form.channels,
            "classes": list(classes),
            "train": num_images["train"],
            "test": num_images["test"],
        }
        self._digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + b"\n")

    @classmethod
    def of(cls, manifest: SetManifest) -> Self:
        """Begin the identity of a set that is stored."""
        return cls(manifest.form, manifest.classes, {split: manifest.num_images(split) for split in SPLITS})

    def update(self, data: bytes) -> None:
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def check(self, expected: str, folder: Path) -> None:
        """Raise ChecksumError where the content of a folder is not the set of this SHA-256."""
        if self.sha256 != expected:
            raise ChecksumError(
                f"{printable(str(folder))}: SHA-256 of its content expected {expected}, found {self.sha256}. {AGAIN}"
            )


def write_split(
    folder: Path,
    split: SplitName,
    form: Form,
    labels: NDArray[np.int64],
    gather: Gather,
    order: NDArray[np.int64],
    digest: SetHash,
) -> dict[str, FileOfSet]:
    """Write the labels and the images of a split, those at `order`, and add them to the digest.

    Raises StorageError where the disk is full.
    """
    raw_labels = labels[order].astype(LABEL_DTYPE).tobytes()
    digest.update(raw_labels)
    files = {labels_name(split): _write(folder / labels_name(split), LABEL_DTYPE, (len(order),), iter([raw_labels]))}
    per_shard = images_per_shard(form)
    for number, start in enumerate(range(0, len(order), per_shard)):
        part = order[start : start + per_shard]
        name = shard_name(split, number)
        shape = (len(part), *form.shape)
        files[name] = _write(folder / name, np.dtype(np.uint8), shape, _pieces(gather, part, digest))
    return files


def _pieces(gather: Gather, order: NDArray[np.int64], digest: SetHash, step: int = 1024) -> Iterator[bytes]:
    """Yield the bytes of images, some at a time, and add them to the digest."""
    for start in range(0, len(order), step):
        raw = gather(order[start : start + step]).tobytes()
        digest.update(raw)
        yield raw


def _write(path: Path, dtype: np.dtype, shape: tuple[int, ...], pieces: Iterator[bytes]) -> FileOfSet:
    header = _header(dtype, shape)

    def content() -> Iterator[bytes]:
        yield header
        yield from pieces

    sha256 = atomic_write(path, content())
    return FileOfSet(size=path.stat().st_size, sha256=sha256)


def read_labels(folder: Path, manifest: SetManifest, split: SplitName) -> NDArray[np.uint16]:
    """Return the labels of a split, (N,). Raises DataError where the file is missing or damaged."""
    shape = (manifest.num_images(split),)
    labels = np.frombuffer(_read(folder, manifest, labels_name(split), LABEL_DTYPE, shape), LABEL_DTYPE)
    num_labels = len(manifest.counts[split])
    found = np.bincount(labels, minlength=num_labels).tolist()
    if found != manifest.counts[split]:
        raise DataError(f"{_where(folder, labels_name(split))}: its labels are not those that set.json counts.")
    return labels


def read_shards(folder: Path, manifest: SetManifest, split: SplitName) -> Iterator[Pixels]:
    """Yield the images of a split, a shard at a time. Raises DataError where a shard is missing or damaged."""
    num_images, per_shard = manifest.num_images(split), images_per_shard(manifest.form)
    for number, start in enumerate(range(0, num_images, per_shard)):
        shape = (min(per_shard, num_images - start), *manifest.form.shape)
        raw = _read(folder, manifest, shard_name(split, number), np.dtype(np.uint8), shape)
        yield np.frombuffer(raw, np.uint8).reshape(shape)


def check_identity(folder: Path, manifest: SetManifest) -> None:
    """Read every byte of a set. Raises DataError, or ChecksumError, where one is not as it was stored."""
    digest = SetHash.of(manifest)
    for split in SPLITS:
        digest.update(read_labels(folder, manifest, split).tobytes())
        for shard in read_shards(folder, manifest, split):
            digest.update(shard.tobytes())
    digest.check(manifest.sha256, folder)


def images_at(folder: Path, manifest: SetManifest, split: SplitName, indices: Sequence[int]) -> list[Pixels]:
    """Return some images of a split, without reading or checking the others."""
    per_shard = images_per_shard(manifest.form)
    found = []
    for index in indices:
        number, place = divmod(index, per_shard)
        count = min(per_shard, manifest.num_images(split) - number * per_shard)
        shape = (count, *manifest.form.shape)
        offset = len(_header(np.dtype(np.uint8), shape))
        shard = np.memmap(folder / shard_name(split, number), np.uint8, "r", offset, shape)
        found.append(np.array(shard[place]))
    return found


def _read(folder: Path, manifest: SetManifest, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> memoryview:
    """Return the content of a file behind its header, which must be the one that `_write` writes."""
    where, expected = _where(folder, name), manifest.files[name]
    try:
        size = (folder / name).stat().st_size
        if size != expected.size:
            raise DataError(f"{where}: found {size:,} bytes, expected {expected.size:,}. {AGAIN}")
        raw = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}). {AGAIN}") from error
    if sha256_bytes(raw) != expected.sha256:
        raise ChecksumError(f"{where}: SHA-256 expected {expected.sha256}, found {sha256_bytes(raw)}. {AGAIN}")
    header = _header(dtype, shape)
    if not raw.startswith(header) or len(raw) != len(header) + dtype.itemsize * int(np.prod(shape)):
        raise DataError(f"{where}: it does not have the shape {shape} that set.json says. {AGAIN}")
    return memoryview(raw)[len(header) :]


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return the beginning of an .npy file."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return file.getvalue()


def _where(folder: Path, name: str) -> str:
    return printable(str(folder / name))
