"""How does a test publish a run, or download one, and what does its holder have in the store?"""

import time
from pathlib import Path

from gan.errors import RunError, TakenOverError
from gan.runs.manifest import Manifest
from gan.storage.base import Progress
from gan.sync import publish as publishing
from gan.sync import resume
from gan.sync.lease import hold
from gan.sync.stored_run import StoredRun


def publish(run_path: Path, run: StoredRun, progress: Progress | None = None) -> Manifest:
    """Take the lease of a run and publish it."""
    with hold(run) as lease:
        return publishing.publish(run_path, lease, progress)


def publish_when_free(run_path: Path, run: StoredRun) -> Manifest:
    """Publish a run after the other processes that hold it."""
    while True:
        try:
            return publish(run_path, run)
        except TakenOverError:
            raise
        except RunError:  # another process holds it
            time.sleep(0.05)


def fetch_run(run: StoredRun, run_path: Path, *, from_scratch: bool = False) -> None:
    """Take the lease of a run and download it."""
    with hold(run) as lease:
        resume.fetch_run(lease, run_path, from_scratch=from_scratch)


def newest_version(run: StoredRun) -> StoredRun:
    """Return the run as its last holder has written it."""
    return max(run.by_holder(), key=lambda version: version.number, default=run)


def files_of(run: StoredRun) -> dict[str, bytes]:
    """Return what the last holder of a run has in the store."""
    version = newest_version(run)
    return {info.key: version.read(info.key) or b"" for info in version.files()}
