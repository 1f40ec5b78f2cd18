"""How do the MNIST files get into a store, and from there to the next machine of a cluster?"""

import logging
from pathlib import Path

from gan.data import idx
from gan.data.mnist import FILES, MnistFile, Wanted
from gan.errors import DataError, StorageError
from gan.files import atomic_write
from gan.storage.base import Store

DATASETS = "datasets/mnist/"

log = logging.getLogger(__name__)


def take_mnist(store: Store, data_dir: Path) -> None:
    """Copy the files that a folder lacks from a store, each checked; what fails is left to the mirrors, with a warning.

    Raises:
        StorageError: the folder cannot be written.
    """
    lacking = [file for file in FILES if not any(path.exists() for path in _wanted(file).paths(data_dir))]
    there = _there(store) if lacking else None
    for file in (file for file in there or () if file in lacking):
        where = f"{_key(file)} in {store.address}"
        try:
            raw = b"".join(store.get(_key(file)))
            _wanted(file).check(raw, where)
        except (DataError, StorageError) as error:
            log.warning("%s is not taken from the store: %s", file.name, error)
        else:
            atomic_write(data_dir / file.name, raw)
            log.info("%s: %s bytes from %s", file.name, f"{len(raw):,}", where)


def keep_mnist(store: Store, data_dir: Path) -> None:
    """Put the files of a folder, which have been validated, into a store that lacks them, under their SHA-256.

    A store that refuses gets a warning: nothing depends on it.
    """
    there = _there(store)
    for file in (file for file in FILES if there is not None and file not in there):
        path = next(path for path in _wanted(file).paths(data_dir) if path.exists())
        raw = idx.unpack(path.read_bytes(), str(path), file.shape[1:], file.shape[0])
        try:
            store.put_new(_key(file), raw)
        except StorageError as error:
            log.warning("%s is not kept in the store for other machines: %s", file.name, error)
            return


def _there(store: Store) -> list[MnistFile] | None:
    """Return which of the files a store has; None where it cannot be asked."""
    try:
        keys = {info.key for info in store.list(DATASETS)}
    except StorageError as error:
        log.warning("the store is not asked for MNIST's files: %s", error)
        return None
    return [file for file in FILES if _key(file) in keys]


def _wanted(file: MnistFile) -> Wanted:
    return Wanted.of(file, True, None)


def _key(file: MnistFile) -> str:
    return f"{DATASETS}{file.sha256}"
