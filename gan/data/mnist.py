"""Which four files are MNIST, and what must each of them contain?"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gan.data import idx
from gan.errors import ChecksumError, DataError, IdxFormatError
from gan.files import sha256_bytes

HEAD_BYTES = 1 << 16  # far more than the heads of gzip and idx take
MAX_UNPINNED_ITEMS = 500_000  # 392 MB of images: several times MNIST, and safe for a machine's memory


class MnistFile(NamedTuple):
    """One of the four files: its name without .gz, its array's shape, the SHA-256 of its unpacked content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = (
    MnistFile(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    MnistFile(
        "train-labels-idx1-ubyte",
        (60_000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    MnistFile(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    MnistFile(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


class FileContent(NamedTuple):
    """The content of a checked file."""

    array: NDArray[np.uint8]
    sha256: str  # of the unpacked content
    num_bytes: int  # of the file itself, gzipped or not


@dataclass(frozen=True)
class FileSpec:
    """What a file must contain. A field that is None is not checked."""

    name: str
    item_shape: tuple[int, ...]  # of one image; () for a label
    num_items: int | None
    sha256: str | None

    @classmethod
    def of(cls, file: MnistFile, pinned: bool, num_images: int | None) -> Self:
        """Return the spec of MNIST's own file, or, if not `pinned`, of any file with such items.

        Args:
            num_images: the number of items in the file before it. A file of labels that is not pinned must have as
                many.
        """
        item_shape = file.shape[1:]
        if pinned:
            return cls(file.name, item_shape, file.shape[0], file.sha256)
        return cls(file.name, item_shape, None if item_shape else num_images, None)

    @property
    def max_items(self) -> int:
        return self.num_items or MAX_UNPINNED_ITEMS

    @property
    def max_bytes(self) -> int:
        """Return the largest size the file may have, gzipped or not. Gzip adds little to incompressible data."""
        raw = 16 + self.max_items * math.prod(self.item_shape)
        return raw + raw // 1000 + 1024

    def paths(self, data_dir: Path) -> tuple[Path, Path]:
        """Return the two paths at which the file may lie in a folder. If both exist, the first one is used."""
        return data_dir / f"{self.name}.gz", data_dir / self.name

    def read(self, path: Path) -> FileContent | None:
        """Read and check a file on disk. Returns None if it does not exist.

        Raises:
            IdxFormatError, ChecksumError: the content is not the expected one.
            DataError: the file cannot be read, or it is intact and has other labels than 0 to 9.
        """
        try:
            if path.exists() and not path.is_file():  # a pipe would never end
                raise DataError(f"{path} is no regular file. Remove it, or put a good copy in its place.")
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self.max_bytes:
                    # A file of another type is too large, too, if its items take more bytes. Its type comes first.
                    self.check_head(file.read(HEAD_BYTES), str(path))
                    raise IdxFormatError(f"{path}: found {size:,} bytes, expected at most {self.max_bytes:,}")
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error
        return self.check(data, str(path))

    def check_head(self, head: bytes, where: str) -> None:
        """Raise IdxFormatError where the first bytes of a file show that it is of another type."""
        idx.check_head(head, where, self.item_shape, self.max_items)

    def check(self, data: bytes, where: str) -> FileContent:
        """Check every byte of a file's content.

        Raises:
            IdxFormatError, ChecksumError: the content is not the expected one. The message names `where`, the found
                and the expected value.
            DataError: the file is intact and has other labels than 0 to 9. Another copy would have them, too.
        """
        raw = idx.unpack(data, where, self.item_shape, self.max_items)
        array = idx.decode(raw, where, self.item_shape, self.max_items)
        if self.num_items not in (None, len(array)):
            raise IdxFormatError(f"{where}: found {len(array):,} items, expected {self.num_items:,}")
        sha256 = sha256_bytes(raw)
        if self.sha256 not in (None, sha256):
            raise ChecksumError(f"{where}: found content of SHA-256 {sha256}, expected {self.sha256}")
        if not self.item_shape and array.max() > 9:
            index = int(np.argmax(array > 9))
            raise DataError(
                f"{where}: found label {array[index]} at index {index:,}, expected 0 to 9. "
                "The file is damaged, or the set has more than ten classes and cannot be used."
            )
        return FileContent(array, sha256, len(data))
