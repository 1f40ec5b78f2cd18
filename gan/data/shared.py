"""How do the machines of a cluster share the MNIST files through a store?"""

import logging
from pathlib import Path

from gan.data import idx, mnist
from gan.data.mnist import FileSpec, MnistFile
from gan.errors import DataError, StorageError
from gan.files import atomic_write
from gan.storage.base import Store

DATASETS = "datasets/mnist/"

log = logging.getLogger(__name__)


def download_from_store(store: Store, data_dir: Path) -> None:
    """Copy the files that a folder lacks from a store and check each. A file that fails is skipped with a warning.

    Raises:
        StorageError: the folder cannot be written.
    """
    missing = [file for file in mnist.FILES if not any(path.exists() for path in _spec(file).paths(data_dir))]
    stored = _stored_files(store) if missing else None
    for file in missing:
        if stored is None or file not in stored:
            continue
        where = f"{_key(file)} in {store.address}"
        try:
            raw = b"".join(store.get(_key(file)))
            _spec(file).check(raw, where)
        except (DataError, StorageError) as error:
            log.warning("%s is not copied from the store: %s", file.name, error)
        else:
            atomic_write(data_dir / file.name, raw)
            log.info("%s: %s bytes from %s", file.name, f"{len(raw):,}", where)


def upload_to_store(store: Store, data_dir: Path) -> None:
    """Copy the validated files of a folder into a store that lacks them, each under its SHA-256.

    If the store fails, this logs a warning and returns: nothing depends on these copies.
    """
    stored = _stored_files(store)
    if stored is None:
        return
    for file in mnist.FILES:
        if file in stored:
            continue
        path = next(path for path in _spec(file).paths(data_dir) if path.exists())
        raw = idx.unpack(path.read_bytes(), str(path), file.shape[1:], file.shape[0])
        try:
            store.put_new(_key(file), raw)
        except StorageError as error:
            log.warning("%s is not copied to the store for other machines: %s", file.name, error)
            return


def _stored_files(store: Store) -> list[MnistFile] | None:
    """Return the files that a store has, or None if it cannot be listed."""
    try:
        keys = {info.key for info in store.list(DATASETS)}
    except StorageError as error:
        log.warning("the store cannot be searched for MNIST's files: %s", error)
        return None
    return [file for file in mnist.FILES if _key(file) in keys]


def _spec(file: MnistFile) -> FileSpec:
    return FileSpec.of(file, True, None)


def _key(file: MnistFile) -> str:
    return f"{DATASETS}{file.sha256}"
