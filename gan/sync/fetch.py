"""How are files of a published run downloaded, each checked against the manifest?"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from gan.errors import ChecksumError, RunError
from gan.files import atomic_write, sha256_file, verified, walk
from gan.runs import journal, layout
from gan.runs.manifest import Manifest
from gan.runs.run_dir import RunDir
from gan.storage.base import Progress
from gan.sync.stored_run import StoredRun


def download(run: StoredRun, name: str, target: Path, sha256: str) -> None:
    """Download a file of a run unless `target` has its content already; `target` is then whole or unchanged.

    Raises:
        ChecksumError: the file in the store has another SHA-256.
        StorageError: the store cannot be read, or the disk refuses the write.
    """
    if not (target.is_file() and sha256_file(target) == sha256):
        atomic_write(target, _read_verified(run, name, sha256))


def fetch_files(
    run: StoredRun, manifest: Manifest, names: Iterable[str], folder: Path, progress: Progress | None = None
) -> None:
    """Download files of a run, named as in its manifest, into a folder. Raises as `download` does."""
    wanted = {name: manifest.files[name] for name in names}
    num_bytes = sum(entry.size for entry in wanted.values())
    num_done = 0
    for name, entry in wanted.items():
        download(run, name, folder / name, entry.sha256)
        num_done += entry.size
        if progress:
            progress(num_done, num_bytes)


def fetch_published(run: StoredRun, manifest: Manifest, run_path: Path) -> None:
    """Make a run directory what the manifest says, and write the manifest last. Complete an interrupted download.

    The directory may hold an earlier state of the run, as of a process that was killed before others finished the run.

    Raises:
        RunError: the directory has a file that no run writes. Nothing was changed.
        ChecksumError, StorageError: as `download` does.
    """
    found = [path.relative_to(run_path).as_posix() for path in walk(run_path)] if run_path.exists() else []
    unlisted = sorted(set(found) - manifest.files.keys())
    for name in unlisted:
        if not layout.is_run_file(name):
            raise RunError(
                f"{run_path / name} is no file of run {run.run_id}, which {run.where(layout.MANIFEST)} lists. "
                "Move it out of the run directory."
            )
    with RunDir(run_path).disk_errors():
        journal.delete(run_path)  # it speaks of the files that are replaced now
        for name in unlisted:
            (run_path / name).unlink(missing_ok=True)
    fetch_files(run, manifest, sorted(manifest.files, key=_download_order), run_path)
    atomic_write(run_path / layout.MANIFEST, manifest.to_bytes())


def _download_order(name: str) -> tuple[int, str]:
    """Order the checkpoints last, each after its sidecar: a directory with the newest checkpoint has all files."""
    if layout.checkpoint_step(name) is not None:
        return 2, name
    return (1 if name.startswith(layout.CHECKPOINTS) else 0), name


def _read_verified(run: StoredRun, name: str, sha256: str) -> Iterator[bytes]:
    """Yield a file's content; raise ChecksumError after the last chunk unless it has this SHA-256."""

    def damaged(found: str) -> ChecksumError:
        return ChecksumError(
            f"{run.where(name)} is damaged: SHA-256 expected {sha256}, found {found}. "
            "Restore it from a copy, or publish the run again from its directory."
        )

    return verified(run.get(name), sha256, damaged)
