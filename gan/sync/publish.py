"""How does a finished run get into a store, whole or not at all?"""

import logging
from pathlib import Path

from gan.errors import StorageError
from gan.runs import layout
from gan.runs.manifest import Manifest
from gan.storage.base import Progress
from gan.storage.local import LocalStore
from gan.sync.lease import prove_store
from gan.sync.stored_run import StoredRun

NUM_NAMED = 3  # differing files that a message names; the others are counted

log = logging.getLogger(__name__)


def publish(run_path: Path, run: StoredRun, progress: Progress | None = None) -> Manifest:
    """Put every file of a finished run into the store, then its manifest. Only the manifest makes it published.

    A half-published run is completed. Publishing again changes nothing, and several processes may publish at once.
    When the store has the manifest, the run directory gets a copy of it; it is not changed otherwise.

    Raises:
        CheckpointError: the SHA-256 of a checkpoint is not the one in its sidecar; nothing was put.
        StorageError: the store cannot be written, or does not keep conditions; or another run was published from this
            directory, or under this id.
    """
    manifest = Manifest.of(run_path, run.run_id)
    if not manifest.files:
        raise StorageError(f"{run_path} holds no run. Check the path; train the run first.")
    if copy := _manifest_in(run_path):
        _check_same(manifest, copy, str(run_path))
    if committed := run.manifest():
        _check_same(manifest, committed, run.where())
    else:
        prove_store(run)
        _upload(run_path, manifest, run, progress)
        _commit(manifest, run)
    run.sweep()
    _write_manifest(run_path, manifest)
    return manifest


def seal(run_path: Path, run_id: str) -> Manifest:
    """Write a finished run's manifest into its own directory. Sealing again changes nothing, also in a copy of it.

    Raises:
        CheckpointError: the SHA-256 of a checkpoint is not the one in its sidecar.
        StorageError: the directory cannot be written, or its files are not what its manifest says.
    """
    manifest = Manifest.of(run_path, run_id)
    if copy := _manifest_in(run_path):
        _check_same(manifest, copy, str(run_path))
    _write_manifest(run_path, manifest)
    return manifest


def _manifest_in(run_path: Path) -> Manifest | None:
    return StoredRun(LocalStore(run_path)).manifest()


def _write_manifest(run_path: Path, manifest: Manifest) -> None:
    LocalStore(run_path).put_new(layout.MANIFEST, manifest.to_bytes())


def _upload(run_path: Path, manifest: Manifest, run: StoredRun, progress: Progress | None) -> None:
    """Put every file; then delete files of earlier attempts that the run directory does not have."""
    num_done = 0
    for name, entry in manifest.files.items():
        run.store.put(run.key(name), run_path / name, entry.sha256)
        num_done += entry.size
        if progress:
            progress(num_done, manifest.num_bytes)
    for info in list(run.files()):
        # Ask the disk, not the manifest: where the run lies in the store itself, there can be new files.
        if info.key != layout.MANIFEST and not (run_path / info.key).exists():
            _delete_stale(run, info.key)


def _delete_stale(run: StoredRun, name: str) -> None:
    try:
        run.delete(name)
    except StorageError as error:  # the manifest does not list it
        log.warning("a file of an earlier attempt stays, and `gan verify` will list it: %s", error)


def _commit(manifest: Manifest, run: StoredRun) -> None:
    """Create the manifest in the store. Where another process was first, its manifest must be the same."""
    if run.store.put_new(run.key(layout.MANIFEST), manifest.to_bytes()):
        return
    committed = run.manifest()
    if committed is None:
        raise StorageError(f"{run.where(layout.MANIFEST)} was deleted by another process. Publish again.")
    _check_same(manifest, committed, run.where())


def _check_same(manifest: Manifest, published: Manifest, where: str) -> None:
    """Raise StorageError, with the first files that differ, unless a published manifest says the same."""
    lines = published.differences(manifest)
    if lines:
        more = f"\n  and {len(lines) - NUM_NAMED} more" if len(lines) > NUM_NAMED else ""
        raise StorageError(
            f"{where} was published already, with other content:\n  "
            + "\n  ".join(lines[:NUM_NAMED])
            + more
            + f"\nNothing was committed. Restore the files that were published, "
            f"or publish a copy of the run directory, without its {layout.MANIFEST}, under another run id."
        )
