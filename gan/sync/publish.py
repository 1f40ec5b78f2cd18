"""How does a finished run get into a store, whole or not at all?

Its holder puts every file under keys of its own, then commits them: from that moment on these files are the run, and
no other holder's can be. Then they are copied to the run's keys, the manifest last. A holder that comes later finishes
the copies; two that copy at once write the same bytes.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from gan.errors import StorageError
from gan.files import temporary_folder
from gan.runs import journal, layout
from gan.runs.manifest import FileEntry, Manifest
from gan.runs.repair import check_entered
from gan.runs.run_dir import RunDir
from gan.storage.base import Progress
from gan.storage.local import LocalStore
from gan.sync.fetch import download
from gan.sync.lease import Lease
from gan.sync.stored_run import StoredRun

NUM_NAMED = 3  # differing files that a message names; the others are counted
PROMISED = (layout.CONFIG, layout.LOSSES, layout.GRIDS, layout.CHECKPOINTS)  # other files hold times or paths

log = logging.getLogger(__name__)


def publish(run_path: Path, lease: Lease, progress: Progress | None = None) -> Manifest:
    """Put every file of a finished run into the store, then its manifest. Only the manifest makes it published.

    A half-published run is completed. Publishing again changes nothing. Where another holder has committed the run, the
    promised files must be the same; the run directory then gets the others, and those that hold times, from the store.

    Raises:
        CheckpointError: the SHA-256 of a checkpoint is not the one in its sidecar; nothing was put.
        RunError: another file is damaged since it was written; nothing was put.
        TakenOverError: another process has taken over the run.
        StorageError: the store cannot be written; or another run was published from this directory, or under this id.
    """
    run = lease.run
    manifest, copy = _read_run(run_path, run.run_id)
    if not is_decided(lease):
        _upload(run_path, manifest, lease, progress)
        lease.commit(manifest.sha256)
    published = complete(lease)
    if copy:
        _check_same(copy, published, run.where())
    else:
        _check_same(_promised(manifest), _promised(published), run.where())
        _adopt(run_path, manifest, published, run)
    _write_manifest(run_path, published)
    return published


def is_decided(lease: Lease) -> bool:
    """Return whether it is decided which files are the run. If somebody has deleted the run since, it is not."""
    # In this order: the files of the holder that has committed are deleted after the run's manifest is put.
    committed = lease.committed
    is_there = committed and lease.run.written_by(committed.token).read(layout.MANIFEST) is not None
    return bool(is_there) or lease.run.manifest() is not None


def complete(lease: Lease) -> Manifest:
    """Copy the files of a committed run to the run's keys, unless all are there; return the run's manifest.

    Then delete what no manifest lists, and what the holders of the lease have written.
    """
    run = lease.run
    manifest = run.manifest()
    if manifest is None:
        manifest = _copy_committed(lease)
    for written, names in run.by_holder().items():
        _delete(lease, written, names, "nothing needs them")
    run.sweep()
    return manifest


def seal(run_path: Path, run_id: str) -> Manifest:
    """Write a finished run's manifest into its own directory. Sealing again changes nothing, also in a copy of it.

    Raises:
        CheckpointError: the SHA-256 of a checkpoint is not the one in its sidecar.
        RunError: another file is damaged since it was written.
        StorageError: the directory cannot be written, or its files are not what its manifest says.
    """
    manifest, _ = _read_run(run_path, run_id)
    for name, entry in manifest.files.items():
        LocalStore(run_path).put(name, run_path / name, entry.sha256)  # makes it durable
    _write_manifest(run_path, manifest)
    return manifest


def _read_run(run_path: Path, run_id: str) -> tuple[Manifest, Manifest | None]:
    """Return the manifest of the files of a run directory, once they are checked, and the one that it has already."""
    with RunDir(run_path).disk_errors():
        manifest = Manifest.of(run_path, run_id)
        if not manifest.files:
            raise StorageError(f"{run_path} holds no run. Check the path; train the run first.")
        if copy := _manifest_in(run_path):
            _check_same(manifest, copy, str(run_path))
        else:
            check_entered(run_path, {name: entry.sha256 for name, entry in manifest.files.items()})
    return manifest, copy


def _manifest_in(run_path: Path) -> Manifest | None:
    return StoredRun(LocalStore(run_path)).manifest()


def _write_manifest(run_path: Path, manifest: Manifest) -> None:
    LocalStore(run_path).put_new(layout.MANIFEST, manifest.to_bytes())
    with RunDir(run_path).disk_errors():
        journal.delete(run_path)


def _upload(run_path: Path, manifest: Manifest, lease: Lease, progress: Progress | None) -> None:
    """Put every file, and the manifest, under the holder's own keys."""
    num_done = 0
    for name, entry in manifest.files.items():
        lease.check()
        lease.own.store.put(lease.own.key(name), run_path / name, entry.sha256)
        num_done += entry.size
        if progress:
            progress(num_done, manifest.num_bytes)
    lease.check()
    lease.own.store.put_new(lease.own.key(layout.MANIFEST), manifest.to_bytes())


def _copy_committed(lease: Lease) -> Manifest:
    assert lease.committed is not None
    run, source = lease.run, lease.run.written_by(lease.committed.token)
    manifest = source.published_manifest()
    if manifest.sha256 != lease.committed.sha256:
        raise StorageError(f"{source.where(layout.MANIFEST)} is not the manifest that was committed. Restore it.")
    for name, entry in manifest.files.items():
        lease.check()
        _copy(run, source, name, entry)
    unlisted = {info.key for info in run.files()} - manifest.files.keys() - {layout.MANIFEST}
    _delete(lease, run, unlisted, "`gan verify` will list them")  # an older version sent them while it trained
    lease.check()
    run.store.put_new(run.key(layout.MANIFEST), manifest.to_bytes())
    return manifest


def _copy(run: StoredRun, source: StoredRun, name: str, entry: FileEntry) -> None:
    """Copy a file on the server; where that cannot be done, send it again."""
    if run.store.copy(source.key(name), run.key(name), entry.sha256):
        return
    with temporary_folder() as folder:
        download(source, name, folder / "file", entry.sha256)
        run.store.put(run.key(name), folder / "file", entry.sha256)


def _delete(lease: Lease, run: StoredRun, names: Iterable[str], otherwise: str) -> None:
    try:
        for name in names:
            lease.check()
            run.delete(name)
    except StorageError as error:
        log.warning("files of earlier holders stay below %s; %s: %s", run.where(), otherwise, error)


def _promised(manifest: Manifest) -> Manifest:
    """Return a manifest of the files alone that every training of this config makes, byte for byte."""
    files = {name: entry for name, entry in manifest.files.items() if name.startswith(PROMISED)}
    return manifest.model_copy(update={"files": files})


def _adopt(run_path: Path, ours: Manifest, published: Manifest, run: StoredRun) -> None:
    """Make the files of a run directory those of the published run, where another process has published it."""
    with RunDir(run_path).disk_errors():
        for name in ours.files.keys() - published.files.keys():
            (run_path / name).unlink()
    for name, entry in published.files.items():
        if ours.files.get(name) != entry:
            download(run, name, run_path / name, entry.sha256)


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
