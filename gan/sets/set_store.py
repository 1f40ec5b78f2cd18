"""How does a data set get into a store, and from there to another machine?

Its files lie under datasets/NAME/SHA-256/. set.json is written last, so a set with one is whole.
"""

from pathlib import Path

from gan.errors import DataError
from gan.files import atomic_write, sha256_file, verified
from gan.sets.card import CARD, PAGE
from gan.sets.catalog import check_name, find_set, new_folder, publish
from gan.sets.set_manifest import MANIFEST, SetManifest
from gan.sets.shards import check_identity
from gan.storage.base import Store

SETS = "datasets/"  # NAME/SHA-256/ below it


def put_set(store: Store, folder: Path) -> None:
    """Check a set, and copy its files into a store that lacks them.

    Raises:
        DataError: the set is damaged, or private.
        StorageError: the store cannot be written.
    """
    manifest = SetManifest.read(folder)
    if manifest.facts.private:
        raise DataError(f"{manifest.address} is private: it is not copied into {store.address}.")
    check_identity(folder, manifest)
    prefix = prefix_of(manifest.name, manifest.sha256)
    for name, file in manifest.files.items():
        store.put(f"{prefix}{name}", folder / name, file.sha256)
    for name in (CARD, PAGE, MANIFEST):
        store.put(f"{prefix}{name}", folder / name, sha256_file(folder / name))


def hashes_in(store: Store, name: str) -> list[str]:
    """Return the SHA-256 of the sets of a name that a store has. Raises StorageError."""
    check_name(name)
    prefix = f"{SETS}{name}/"
    keys = (info.key.removeprefix(prefix) for info in store.list(prefix))
    return sorted(key.partition("/")[0] for key in keys if key.endswith(f"/{MANIFEST}"))


def find_or_get(store: Store, sets_dir: Path, address: str) -> Path:
    """Return the folder of the set that NAME or NAME@SHA names, which may be copied from a store.

    Raises as `find_set` does where neither has one such set, and as `get_set` does.
    """
    try:
        return find_set(sets_dir, address)
    except DataError:
        name, _, sha = address.partition("@")
        named = [sha256 for sha256 in hashes_in(store, name) if sha256.startswith(sha)]
        if len(named) != 1:
            raise
    return get_set(store, sets_dir, name, named[0])


def get_set(store: Store, sets_dir: Path, name: str, sha256: str) -> Path:
    """Copy a set from a store, check every byte, and return its folder. A good set that is there stays.

    Raises:
        DataError: the store has no such set, or a damaged one; nothing is left in the folder of sets.
        StorageError: the store cannot be read, or the folder cannot be written.
    """
    check_name(name)
    target = sets_dir / name / sha256
    if target.exists():
        check_identity(target, SetManifest.read(target))
        return target
    prefix = prefix_of(name, sha256)
    where = f"{prefix}{MANIFEST} in {store.address}"
    raw = store.read(f"{prefix}{MANIFEST}")
    if raw is None:
        raise DataError(f"{store.address} has no data set {name}@{sha256}. Copy it there first.")
    manifest = SetManifest.parse(raw, where)
    if (manifest.name, manifest.sha256) != (name, sha256):
        raise DataError(f"{where} is of {manifest.address}, expected {name}@{sha256}. Copy the set there again.")
    with new_folder(sets_dir) as place:
        for file, entry in manifest.files.items():
            _copy(store, f"{prefix}{file}", place / file, entry.sha256)
        for file in (CARD, PAGE):
            _copy_card(store, f"{prefix}{file}", place / file)
        check_identity(place, manifest)
        atomic_write(place / MANIFEST, raw)
        return publish(place, sets_dir, manifest)


def _copy(store: Store, key: str, path: Path, sha256: str) -> None:
    def damaged(found: str) -> DataError:
        return DataError(
            f"{key} in {store.address}: SHA-256 expected {sha256}, found {found}. Copy the set there again."
        )

    atomic_write(path, verified(store.get(key), sha256, damaged))


def _copy_card(store: Store, key: str, path: Path) -> None:
    """Copy a file of the card, which is no part of the set's identity; the set is good without it."""
    raw = store.read(key)
    if raw is not None:
        atomic_write(path, raw)


def prefix_of(name: str, sha256: str) -> str:
    """Return what the keys of a set's files begin with."""
    return f"{SETS}{name}/{sha256}/"
