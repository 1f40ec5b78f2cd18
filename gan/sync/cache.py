"""Where are downloaded files of published runs kept, so that they are downloaded once?

A run's folder in the cache is named after the SHA-256 in its manifest. So its files are right, whichever store they
came from.
"""

import os
import re
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gan.errors import StorageError
from gan.files import walk
from gan.runs import layout
from gan.runs.manifest import Manifest
from gan.storage.address import is_remote
from gan.storage.local import LocalStore
from gan.sync.fetch import fetch_files
from gan.sync.stored_run import RUNS, StoredRun

CHECKPOINT_ADDRESS = re.compile(rf"(?P<run>.*)/(?P<name>{layout.CHECKPOINTS}[^/]*)")


def cache_dir() -> Path:
    """Return the cache's folder: gan-train in XDG_CACHE_HOME, which is ~/.cache by default.

    Raises:
        StorageError: there is neither XDG_CACHE_HOME nor a home directory.
    """
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "gan-train"
    try:
        return Path.home() / ".cache" / "gan-train"
    except RuntimeError as error:
        raise StorageError(
            "this user has no home directory, in which copies of files are kept. Set XDG_CACHE_HOME to a folder."
        ) from error


def checkpoint_copy(address: str) -> Path:
    """Return a local path for a run or for one checkpoint: `address` itself, or a copy of what is in a store.

    The copy of a run has only its newest checkpoint.

    Raises:
        StorageError: there is no such published run or checkpoint, or the store cannot be read.
        ChecksumError: a file is not what the manifest says.
    """
    if not is_remote(address):
        return Path(address)
    found = CHECKPOINT_ADDRESS.fullmatch(address)
    if found is None or layout.checkpoint_step(found["name"]) is None:
        return _copy_newest_checkpoint(StoredRun.at(address))
    run = StoredRun.at(found["run"])
    manifest = run.published_manifest()
    if found["name"] not in manifest.files:
        verify = shlex.join(["gan", "verify", found["run"]])
        raise StorageError(f"{address}: the run has no such checkpoint. `{verify}` reads all it has.")
    return _copy(run, manifest, lambda name: name.startswith((found["name"], layout.PROVENANCE))) / found["name"]


def initial_copy(address: str | None, run_path: Path) -> Path | None:
    """Return a local path for what a new run begins from; None for fresh weights, and for a run that has its copy.

    Raises as `checkpoint_copy` does.
    """
    if address is None or (run_path / layout.CONFIG).exists():
        return None
    return checkpoint_copy(address)


def report_copy(address: str) -> Path:
    """Return the path of a copy of the report of a published run in a store. Raises as `checkpoint_copy` does."""
    run = StoredRun.at(address)
    manifest = run.published_manifest()
    if layout.REPORT not in manifest.files:
        raise StorageError(f"{address} was published without {layout.REPORT}. Make one: gan report RUN_DIRECTORY")
    return _copy(run, manifest, lambda name: name.startswith(layout.REPORT_FOLDER)) / layout.REPORT


def size() -> int:
    """Return the size of the cache in bytes."""
    return sum(_size(path) for path in (cache_dir() / RUNS).rglob("*"))


def clear() -> int:
    """Delete all files in the cache, except those that a process is writing; return how many bytes they had."""
    num_bytes = size()
    with suppress(OSError, StorageError):
        for path in walk(cache_dir() / RUNS):
            path.unlink(missing_ok=True)
        LocalStore(cache_dir()).sweep(RUNS)
    return num_bytes


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # renamed or deleted meanwhile
        status = path.stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0


def _copy_newest_checkpoint(run: StoredRun) -> Path:
    manifest = run.published_manifest()
    steps = layout.checkpoint_steps(manifest.files)
    newest = layout.checkpoint(steps[-1]) if steps else ""
    wanted = {layout.CONFIG, layout.PROVENANCE, newest, layout.sidecar(newest)}
    return _copy(run, manifest, lambda name: name in wanted)


def _copy(run: StoredRun, manifest: Manifest, is_wanted: Callable[[str], bool]) -> Path:
    folder = cache_dir() / RUNS / manifest.sha256
    fetch_files(run, manifest, filter(is_wanted, manifest.files), folder)
    return folder
