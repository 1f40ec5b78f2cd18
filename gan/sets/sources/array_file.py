"""Which images and labels does an .npz file hold?

Its headers are checked before anything is unpacked, so that a file that lies about its sizes costs no memory.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from gan.errors import DataError
from gan.sets.sources.base import MAX_PIXELS, Form, LeftOut, Picture, printable
from gan.sets.sources.canonical import canonical
from gan.sets.sources.class_labels import indexed

MAX_HEADER_BYTES = 10_000
MAX_IMAGES = 100_000_000
DEPTHS = (1, 3, 4)  # grey, red green blue, and the same with transparency


class Header(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    num_bytes: int  # of the content


class ArrayFile:
    """`images`, uint8 (N, H, W) or (N, H, W, C), and `labels`, whole numbers (N,), where there are any."""

    def __init__(self, path: Path) -> None:
        """Check the headers and read the labels. Raises DataError where the file is not of this form."""
        self.path = path
        self.left_out = LeftOut()
        with self._opened() as archive:
            self.header = self._check_images(archive)
            self.num_items = self.header.shape[0]
            labels = self._read_labels(archive) if "labels.npy" in archive.namelist() else None
        self.classes, self.labels = indexed(labels, self.num_items)

    def read(self, form: Form) -> Iterator[Picture | None]:
        """Yield each image in the order of the file, which is unpacked meanwhile."""
        shape = self.header.shape[1:]
        size = self.header.num_bytes // self.num_items
        with self._opened() as archive, archive.open("images.npy") as file:
            _read_header(file)
            for index in range(self.num_items):
                pixels = np.frombuffer(_read_exactly(file, size), np.uint8).reshape(shape)
                yield picture(f"image {index:,}", pixels, int(self.labels[index]), None, form)
            file.read(1)  # compares the checksum of the whole

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the file. What is wrong with it becomes a DataError."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except DataError as error:
            raise DataError(f"{printable(str(self.path))}: {error}") from error
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(f"{printable(str(self.path))} is no good .npz file ({printable(str(error))}).") from error

    def _check_images(self, archive: zipfile.ZipFile) -> Header:
        if "images.npy" not in archive.namelist():
            found = ", ".join(printable(name) for name in archive.namelist()[:10]) or "nothing"
            raise DataError(f"found {found}, expected an array `images`.")
        header = _header_of(archive, "images")
        num_dims = len(header.shape)
        is_image = num_dims == 3 or (num_dims == 4 and header.shape[3] in DEPTHS)
        if header.dtype != np.uint8 or not is_image:
            raise DataError(
                f"`images` is {header.dtype} {header.shape}, expected uint8 (N, H, W) or (N, H, W, C), C one of "
                f"{DEPTHS}. Convert it, for example by np.clip(images * 255, 0, 255).round().astype(np.uint8)."
            )
        height, width = header.shape[1:3]
        if not (1 <= header.shape[0] <= MAX_IMAGES and 1 <= height * width <= MAX_PIXELS):
            raise DataError(
                f"`images` has the shape {header.shape}, expected 1 to {MAX_IMAGES:,} images of 1 to {MAX_PIXELS:,} "
                "pixels."
            )
        return header

    def _read_labels(self, archive: zipfile.ZipFile) -> NDArray[np.int64]:
        header = _header_of(archive, "labels")
        if header.dtype.kind not in "iu" or header.shape != (self.num_items,):
            raise DataError(
                f"`labels` is {header.dtype} {header.shape}, expected whole numbers ({self.num_items},): one for each "
                "image."
            )
        with archive.open("labels.npy") as file:
            _read_header(file)
            return np.frombuffer(_read_exactly(file, header.num_bytes), header.dtype).astype(np.int64)


def picture(name: str, pixels: NDArray[np.uint8], label: int, split: str | None, form: Form) -> Picture:
    """Convert an array (H, W) or (H, W, C) to the canonical form."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    converted, changes = canonical(Image.fromarray(np.ascontiguousarray(pixels)), form)
    return Picture(name, converted, label, split, (pixels.shape[1], pixels.shape[0]), changes)


def _header_of(archive: zipfile.ZipFile, name: str) -> Header:
    """Read the header of an array, and compare it with the size that the archive states."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        header = _read_header(file)
        num_bytes = info.file_size - file.tell()
    if header.num_bytes != num_bytes:
        raise DataError(f"`{name}` has {num_bytes:,} bytes, expected {header.num_bytes:,} by its header.")
    return header


def _read_header(file: IO[bytes]) -> Header:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"found version {version} of NumPy's format, expected 1.0 or 2.0.")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(file, max_header_size=MAX_HEADER_BYTES)
    if dtype.hasobject:
        raise DataError("found Python objects, expected numbers: reading objects would run code of the file.")
    if is_fortran and len(shape) > 1:
        raise DataError("found an array in Fortran's order. Save np.ascontiguousarray(images).")
    count = 1
    for length in shape:  # Python's integers do not overflow
        count *= int(length)
    return Header(tuple(int(length) for length in shape), dtype, count * dtype.itemsize)


def _read_exactly(file: IO[bytes], num_bytes: int) -> bytes:
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise DataError("it ends early. Copy or download it again.")
    return data
