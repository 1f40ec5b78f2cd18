"""Which images and labels does a folder hold?"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gan.config import DataShape
from gan.data import mnist
from gan.data.mnist import FileContent, FileSpec
from gan.errors import ChecksumError, DataError, IdxFormatError

DIGITS = tuple("0123456789")
LEAST_SHARE = 0.05  # of the training images; among 128 samples, a rarer class may be missing by chance
LEAST_RELATIVE_SHARE = 0.5  # of an equal share of the training images, where there are more than ten classes
UNPINNED_HINT = "To use another set of 28x28 images, add `--no-pinned-hash`."


class Rights(NamedTuple):
    """What a person says about the rights in the images; all may be unknown."""

    license: str | None = None
    source: str | None = None
    attribution: str | None = None


NOT_GIVEN = Rights()


@dataclass(frozen=True)
class Dataset:
    """The images and labels of a data set.

    `sha256` is of each file's unpacked content by MnistFile.name, or of an imported set by its name. Images are
    (N, side, side), or (N, 3, side, side) in colour. A set without labels has labels 0 and no classes.
    """

    train_images: NDArray[np.uint8]  # (N, 28, 28) for MNIST
    train_labels: (
        NDArray[np.uint8] | NDArray[np.uint16]
    )  # (N,), 0..9 for MNIST; uint16 where there are over 256 classes
    test_images: NDArray[np.uint8]  # (M, 28, 28) for MNIST
    test_labels: NDArray[np.uint8] | NDArray[np.uint16]  # (M,)
    sha256: dict[str, str]
    side: int = 28
    channels: int = 1
    classes: tuple[str, ...] = DIGITS
    background: tuple[int, int, int] = (0, 0, 0)  # what is around the objects; it fills what moves into the image
    is_private: bool = False  # no file of a run shows its images
    judge_folder: Path | None = None  # of an imported set: where its judge is, once it is trained
    rights: Rights = NOT_GIVEN

    @property
    def is_mnist(self) -> bool:
        """Return whether each of the four files is MNIST's own."""
        return self.sha256 == {file.name: file.sha256 for file in mnist.FILES}

    @property
    def address(self) -> str | None:
        """Return NAME@SHA-256 of an imported set; None for MNIST and for the files of a folder."""
        return "@".join(*self.sha256.items()) if len(self.sha256) == 1 else None

    @property
    def shape(self) -> DataShape:
        """Return what networks must know of the images."""
        return DataShape(self.side, self.channels, len(self.class_counts) if self.classes else 0, self.background)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """Return how many training images each class has: (10,), more where there are more classes, (1,) without."""
        if not self.classes:
            return np.array([len(self.train_labels)])
        return np.bincount(self.train_labels, minlength=max(len(DIGITS), len(self.classes)))

    @property
    def main_classes(self) -> list[int]:
        """Return the classes that samples must have: those of which there are enough training images."""
        counts: list[int] = self.class_counts.tolist()
        least = min(LEAST_SHARE, LEAST_RELATIVE_SHARE / max(1, sum(count > 0 for count in counts)))
        return [label for label, count in enumerate(counts) if count and count >= least * sum(counts)]


class FileCheck(NamedTuple):
    """The result of validate_dataset() for one file."""

    path: Path
    num_bytes: int  # on disk
    shape: tuple[int, ...]
    sha256: str  # of the unpacked content


def load_dataset(data_dir: Path, *, pinned: bool = True, hint: str = UNPINNED_HINT) -> Dataset:
    """Read and check the four files of a folder. Raises what validate_dataset() raises.

    Args:
        hint: what to do with another set than MNIST; it ends the message of an error if the set is `pinned`.
    """
    contents = {name: content for name, _, content in _read_files(data_dir, pinned, hint)}
    train_images, train_labels, test_images, test_labels = (content.array for content in contents.values())
    sha256 = {name: content.sha256 for name, content in contents.items()}
    return Dataset(train_images, train_labels, test_images, test_labels, sha256)


def validate_dataset(data_dir: Path, *, pinned: bool = True) -> dict[str, FileCheck]:
    """Read and check every byte of the four files; return a FileCheck for each MnistFile.name.

    If not `pinned`, any idx set of 28x28 images with labels 0..9 is accepted.

    Raises:
        IdxFormatError: a file is damaged or of another kind.
        ChecksumError: a file is intact, but is not MNIST's.
        DataError: a file is missing, cannot be read, or has other labels than 0 to 9.
    """
    return {
        name: FileCheck(path, content.num_bytes, content.array.shape, content.sha256)
        for name, path, content in _read_files(data_dir, pinned)
    }


def _read_files(data_dir: Path, pinned: bool, hint: str = UNPINNED_HINT) -> Iterator[tuple[str, Path, FileContent]]:
    """Read and check the four files in the order of mnist.FILES."""
    num_items = None
    for file in mnist.FILES:
        path, content = _read_file(data_dir, FileSpec.of(file, pinned, num_items), hint)
        num_items = len(content.array)
        yield file.name, path, content


def _read_file(data_dir: Path, spec: FileSpec, hint: str) -> tuple[Path, FileContent]:
    """Read and check the first of a file's paths that exists. An error says what to do."""
    download = shlex.join(["gan", "download", "--data-dir", str(data_dir)])
    other_set = f"Put a good copy there, or name a mirror that has it: `{download} --no-pinned-hash --mirror URL`."
    try:
        for path in spec.paths(data_dir):
            content = spec.read(path)
            if content is not None:
                return path, content
    except (IdxFormatError, ChecksumError) as error:
        advice = f"`{download}` renames it and downloads it again. {hint}" if spec.sha256 else other_set
        raise type(error)(f"{error}. {advice}") from error
    advice = f"`{download}` downloads it." if spec.sha256 else other_set
    raise DataError(f"{data_dir}: found neither {spec.name}.gz nor {spec.name}. {advice}")
