"""Which data sets have a reserved name, and how is one of them downloaded?

Addresses and MD5 are those of torchvision. An MD5 tells a damaged file, and is no proof against an attacker. The
SHA-256 of a set is taken when it is first imported.
"""

import hashlib
import io
import string
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gan.data.download import Progress, download_dataset, first_good
from gan.data.mirrors import Mirror, open_mirror
from gan.data.web import Limits
from gan.errors import ChecksumError, DataError, DownloadError
from gan.files import atomic_write, temporary_folder
from gan.sets.catalog import check_name, list_sets
from gan.sets.set_import import Imported, import_set
from gan.sets.set_manifest import Facts, SetManifest
from gan.sets.sources.base import Form
from gan.sets.sources.idx_folder import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, IdxFolder

Show = Callable[[], AbstractContextManager[Progress]]
FORM = Form(28, 1, (0, 0, 0))
LIMITS = Limits(total=3600.0)  # EMNIST's archive has some hundred MB
MAX_IDX_BYTES = 64 << 20  # of one file
MAX_ZIP_BYTES = 1 << 30
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
BALANCED = tuple(sorted(set(string.digits + string.ascii_letters) - set("cijklmopsuvwxyz")))


class RemoteFile(NamedTuple):
    """A file of a mirror."""

    name: str
    md5: str
    max_bytes: int


class KnownSet(NamedTuple):
    """A data set that many people mean by one name."""

    mirrors: tuple[str, ...]
    files: tuple[RemoteFile, ...]  # four idx files, or one archive that has them
    classes: tuple[str, ...]
    facts: Facts
    members: tuple[str, ...] = ()  # of the archive: the four files
    is_transposed: bool = False


def _idx_files(*md5: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{name}.gz", each, MAX_IDX_BYTES) for name, each in zip(NAMES, md5, strict=True))


def _emnist(split: str, classes: Sequence[str]) -> KnownSet:
    parts = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    return KnownSet(
        ("https://biometrics.nist.gov/cs_links/EMNIST",),
        (RemoteFile("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", MAX_ZIP_BYTES),),
        tuple(classes),
        Facts(
            source=f"EMNIST, split {split}",
            attribution="Cohen, Afshar, Tapson and van Schaik: EMNIST, an extension of MNIST to handwritten letters",
        ),
        tuple(f"gzip/emnist-{split}-{part}-ubyte.gz" for part in parts),
        is_transposed=True,
    )


MNIST = "mnist"
KNOWN = {
    MNIST: KnownSet(
        (),  # gan.data.download knows its mirrors and files
        (),
        tuple(string.digits),
        Facts(source="MNIST", attribution="LeCun, Cortes and Burges: the MNIST database of handwritten digits"),
    ),
    "fashion-mnist": KnownSet(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        _idx_files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        Facts(source="Fashion-MNIST", license="MIT", attribution="Zalando SE: Fashion-MNIST"),
    ),
    "kmnist": KnownSet(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist",),
        _idx_files(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        Facts(
            source="Kuzushiji-MNIST",
            license="CC BY-SA 4.0",
            attribution="KMNIST Dataset (created by CODH), adapted from Kuzushiji Dataset (created by NIJL and others)",
        ),
    ),
    "emnist-letters": _emnist("letters", string.ascii_lowercase),
    "emnist-balanced": _emnist("balanced", BALANCED),
}


def check_not_reserved(name: str) -> None:
    """Raise DataError where a set that somebody imports cannot have this name."""
    check_name(name)
    if name.lower() in KNOWN:
        raise DataError(
            f"the name {name} is reserved for what `gan data download {name.lower()}` gets. Choose another --name."
        )


@contextmanager
def _silent() -> Iterator[Progress]:
    """Show nothing."""
    yield lambda what, done, total: None


def download_set(
    sets_dir: Path, name: str, mirrors: Sequence[str] = (), *, fetching: Show = _silent, reading: Show = _silent
) -> Imported:
    """Download and import a known set; one that is there causes no request. The mirrors given come first.

    Args:
        fetching, reading: show the progress of the download, and of the import.

    Raises:
        DataError: no set of this name is known, or what the mirrors have is damaged; nothing is written.
    """
    if name not in KNOWN:
        raise DataError(f"no data set {name!r} is known. Known are {', '.join(KNOWN)}.")
    there = [manifest for manifest in list_sets(sets_dir) if manifest.name == name]
    if there:
        return Imported(sets_dir / name / there[0].sha256, there[0], False)
    known = KNOWN[name]
    with temporary_folder() as folder:
        with fetching() as progress:
            _fetch_files(folder, name, known, mirrors, progress)
        source = IdxFolder(folder, known.classes, is_transposed=known.is_transposed)
        with reading() as progress:
            return import_set(source, sets_dir, name, FORM, facts=known.facts, progress=progress)


def _fetch_files(folder: Path, name: str, known: KnownSet, mirrors: Sequence[str], progress: Progress) -> None:
    """Put the four files into a folder."""
    if name == MNIST:  # known by the SHA-256 of what is in the files, however they were packed
        download_dataset(folder, mirrors, progress=progress)
        return
    with ExitStack() as cleanup:
        sources = {url: open_mirror(url, LIMITS, cleanup) for url in (*mirrors, *known.mirrors)}
        advice = f"Check the network and try again, or name a mirror that has the files of {name} with --mirror."
        for file in known.files:
            _, data = first_good(file.name, sources, partial(_read, file=file, progress=progress), advice)
            if known.members:
                _unpack(folder, data, known.members)
            else:
                atomic_write(folder / file.name, data)


def _read(mirror: Mirror, file: RemoteFile, progress: Progress) -> bytes:
    """Return the bytes of a mirror's file. Raises DownloadError, or ChecksumError for another MD5."""
    data = mirror.read(file.name, file.max_bytes, partial(progress, file.name))
    if data is None:
        raise DownloadError(f"has no {file.name}")
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != file.md5:
        raise ChecksumError(f"found {len(data):,} bytes of MD5 {md5}, expected {file.md5}")
    return data


def _unpack(folder: Path, archive: bytes, members: Sequence[str]) -> None:
    """Take the four files out of an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for member, name in zip(members, NAMES, strict=True):
                with opened.open(member) as file:
                    data = file.read(MAX_IDX_BYTES + 1)
                if len(data) > MAX_IDX_BYTES:
                    raise DataError(f"{member} of the archive has more than {MAX_IDX_BYTES:,} bytes.")
                atomic_write(folder / f"{name}.gz", data)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        # RuntimeError: a member has a password, or is compressed in a way that zipfile does not know.
        raise DataError(f"the archive cannot be unpacked ({error}). Name another mirror with --mirror.") from error


def pinned_words(manifest: SetManifest) -> str:
    """Say what vouches for a set that was downloaded."""
    if manifest.name == MNIST:
        return "The files have MNIST's SHA-256."
    return (
        f"The files have the MD5 that torchvision lists. The SHA-256 {manifest.sha256} was taken at this first import; "
        f"name the set {manifest.address} to insist on it."
    )
