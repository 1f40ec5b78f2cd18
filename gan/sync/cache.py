"""Where do files of published runs lie that a command has taken from a store, so that it need not take them twice?

A run has a folder by the SHA-256 in its manifest: what lies there is right whatever store it came from.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gan.errors import StorageError
from gan.runs.manifest import MANIFEST, SIDECAR, Manifest, read_manifest
from gan.storage.address import is_remote, open_store
from gan.storage.base import Store
from gan.sync.fetch import fetch_files
from gan.sync.listing import CHECKPOINT

CHECKPOINT_ADDRESS = re.compile(rf"(?P<run>.*)/(?P<name>{CHECKPOINT.pattern})")
RUNS = "runs"
REPORT = "report/index.html"


def cache_dir() -> Path:
    """Return where the cache is: gan-train in XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan-train"


def checkpoint_copy(address: str) -> Path:
    """Return the path of a run with at least its newest checkpoint, or of one checkpoint; from a store, a copy of it.

    A path is returned as it is.

    Raises:
        StorageError: there is no such published run, or no such checkpoint in it, or the store cannot be read.
        ChecksumError: a file is not what the manifest says.
    """
    if not is_remote(address):
        return Path(address)
    found = CHECKPOINT_ADDRESS.fullmatch(address)
    store = open_store(found["run"] if found else address)
    manifest = _read_manifest(store)
    if found is None:
        return _copy(store, manifest, _is_newest(manifest))
    if found["name"] not in manifest.files:
        raise StorageError(f"{address}: the run has no such checkpoint; `gan verify {found['run']}` reads what it has.")
    return _copy(store, manifest, lambda name: name.startswith(found["name"])) / found["name"]


def report_copy(address: str) -> Path:
    """Return the path of a copy of the report that a published run in a store has.

    Raises as `checkpoint_copy` does.
    """
    store = open_store(address)
    manifest = _read_manifest(store)
    if REPORT not in manifest.files:
        raise StorageError(f"{address} was published without {REPORT}.")
    return _copy(store, manifest, lambda name: name.startswith("report/")) / REPORT


def size() -> int:
    """Return how many bytes the cache has."""
    return sum(path.stat().st_size for path in (cache_dir() / RUNS).rglob("*") if path.is_file())


def clear() -> int:
    """Delete all that is in the cache; return how many bytes that were."""
    num_bytes = size()
    shutil.rmtree(cache_dir() / RUNS, ignore_errors=True)
    return num_bytes


def _read_manifest(store: Store) -> Manifest:
    manifest = read_manifest(store, "")
    if manifest is None:
        raise StorageError(
            f"{store.address} has no {MANIFEST}: there is no such run, or it is unfinished. "
            "Check the address (s3://BUCKET[/PREFIX]/runs/ID); the command that trains the run finishes it."
        )
    return manifest


def _copy(store: Store, manifest: Manifest, is_wanted: Callable[[str], bool]) -> Path:
    folder = cache_dir() / RUNS / manifest.sha256
    fetch_files(store, "", manifest, filter(is_wanted, manifest.files), folder)
    return folder


def _is_newest(manifest: Manifest) -> Callable[[str], bool]:
    steps = [int(match[1]) for name in manifest.files if (match := CHECKPOINT.fullmatch(name))]
    newest = f"checkpoints/step-{max(steps, default=0):06d}.safetensors"
    return lambda name: name in (newest, newest.removesuffix(".safetensors") + SIDECAR, "config.json")
