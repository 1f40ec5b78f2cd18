"""How does a finished run get into a store, whole or not at all?"""

from pathlib import Path

from gan.errors import StorageError
from gan.runs.manifest import MANIFEST, Manifest, read_manifest
from gan.storage.base import Progress, Store
from gan.storage.local import LocalStore

NUM_NAMED = 3  # differing files named in a message; the rest is counted


def run_prefix(run_id: str) -> str:
    """Return what the keys of a run begin with."""
    return f"runs/{run_id}/"


def publish(run_path: Path, run_id: str, store: Store, progress: Progress | None = None) -> Manifest:
    """Put every file of a finished run into the store, then its manifest, which is the commit.

    A half-published run is completed; publishing once more changes nothing, and any number of processes may do it at
    once. The run directory gets a copy of the manifest once the store has it, and is not touched otherwise.

    Raises:
        CheckpointError: a checkpoint contradicts its sidecar; nothing was put.
        StorageError: the store cannot be written, or holds, as the run directory may, another run under this id.
    """
    manifest = Manifest.of(run_path, run_id)
    if not manifest.files:
        raise StorageError(f"{run_path} holds no run. Check the path; train the run first.")
    copy = read_manifest(LocalStore(run_path), "")
    if copy:
        _check_same(manifest, copy, str(run_path))
    committed = read_manifest(store, run_prefix(run_id))
    if committed:
        _check_same(manifest, committed, f"{run_prefix(run_id)} in {store.address}")
    else:
        _upload(run_path, manifest, store, progress)
        _commit(manifest, store)
    store.sweep(run_prefix(run_id))
    LocalStore(run_path).put_new(MANIFEST, manifest.to_bytes())
    return manifest


def seal(run_path: Path, run_id: str) -> Manifest:
    """Write a finished run's manifest into its own directory; sealing once more changes nothing.

    Raises:
        CheckpointError: a checkpoint contradicts its sidecar.
        StorageError: the directory cannot be written, or holds other files than its manifest says.
    """
    manifest = Manifest.of(run_path, run_id)
    if copy := read_manifest(LocalStore(run_path), ""):
        _check_same(manifest, copy, str(run_path))
    LocalStore(run_path).put_new(MANIFEST, manifest.to_bytes())
    return manifest


def _upload(run_path: Path, manifest: Manifest, store: Store, progress: Progress | None) -> None:
    """Put every file, then delete what an earlier try has put and the run directory no longer has."""
    prefix = run_prefix(manifest.run_id)
    num_done = 0
    for name, entry in manifest.files.items():
        store.put(prefix + name, run_path / name, entry.sha256)
        num_done += entry.size
        if progress:
            progress(num_done, manifest.num_bytes)
    for key in [info.key for info in store.list(prefix)]:
        name = key.removeprefix(prefix)
        # The disk is asked, not the manifest: where the run lies in the store, a file that came since is no leftover.
        if name != MANIFEST and not (run_path / name).exists():
            store.delete(key)


def _commit(manifest: Manifest, store: Store) -> None:
    """Create the manifest; who comes second reads the first one's and is content when it is the same."""
    prefix = run_prefix(manifest.run_id)
    if store.put_new(prefix + MANIFEST, manifest.to_bytes()):
        return
    winner = read_manifest(store, prefix)
    if winner is None:
        raise StorageError(f"{prefix}{MANIFEST} in {store.address} was deleted by somebody else. Publish again.")
    _check_same(manifest, winner, f"{prefix} in {store.address}")


def _check_same(manifest: Manifest, other: Manifest, where: str) -> None:
    """Raise StorageError, naming the first files that differ, unless another manifest says the same."""
    lines = other.differences(manifest)
    if lines:
        more = f"\n  and {len(lines) - NUM_NAMED} more" if len(lines) > NUM_NAMED else ""
        raise StorageError(
            f"{where} was published already, with other content:\n  "
            + "\n  ".join(lines[:NUM_NAMED])
            + more
            + f"\nNothing was committed. Restore the files that were published, "
            f"or publish a copy of the run directory, without its {MANIFEST}, under another run id."
        )
