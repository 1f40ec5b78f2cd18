"""How do files of a published run come out of a store, each checked against its manifest?"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gan.errors import ChecksumError, RunError
from gan.files import atomic_write, sha256_file, verified, walk
from gan.runs.manifest import MANIFEST, SIDECAR, Manifest
from gan.storage.base import Progress, Store


def download(store: Store, key: str, target: Path, sha256: str) -> None:
    """Make sure that a file has the content of an object with this SHA-256; it is whole or not there.

    Raises:
        ChecksumError: the object has another content.
        StorageError: the store cannot be read, or the disk refuses.
    """
    if not (target.is_file() and sha256_file(target) == sha256):
        atomic_write(target, _verified(store, key, sha256))


def fetch_files(
    store: Store, prefix: str, manifest: Manifest, names: Iterable[str], folder: Path, progress: Progress | None = None
) -> None:
    """Download files of a run, named as in its manifest, into a folder. Raises as `download` does."""
    wanted = [(name, manifest.files[name]) for name in names]
    num_done = 0
    for name, entry in wanted:
        download(store, prefix + name, folder / name, entry.sha256)
        num_done += entry.size
        if progress:
            progress(num_done, sum(entry.size for _, entry in wanted))


def fetch_published(store: Store, prefix: str, manifest: Manifest, run_path: Path) -> None:
    """Make a run directory what its manifest says; the manifest comes last. An earlier try is gone on with.

    Raises:
        RunError: the directory has files that the manifest does not list, or other content; nothing was changed.
        ChecksumError, StorageError: as `download` does.
    """
    found = (path.relative_to(run_path).as_posix() for path in walk(run_path)) if run_path.exists() else ()
    for name in sorted(found):
        entry = manifest.files.get(name)
        if entry is None or sha256_file(run_path / name) != entry.sha256:
            raise RunError(
                f"{run_path / name} is not what {prefix}{MANIFEST} in {store.address} says: the run is published, and "
                "the directory holds another state of it. Remove the directory to get the published run."
            )
    fetch_files(store, prefix, manifest, sorted(manifest.files, key=_rank), run_path)
    atomic_write(run_path / MANIFEST, manifest.to_bytes())


def _rank(name: str) -> tuple[bool, bool, str]:
    """Order checkpoints last, the newest at the very end: a directory that has it has everything."""
    return name.startswith("checkpoints/"), not name.endswith(SIDECAR), name


def _verified(store: Store, key: str, sha256: str) -> Iterator[bytes]:
    """Yield an object's content; raise ChecksumError after the last chunk unless it has this SHA-256."""

    def damaged(found: str) -> ChecksumError:
        return ChecksumError(
            f"{key} in {store.address} is damaged: SHA-256 expected {sha256}, found {found}. "
            "Restore it from a copy, or publish the run again from its directory."
        )

    return verified(store.get(key), sha256, damaged)
