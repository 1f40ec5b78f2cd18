"""What does a flow run say of itself to processes on other machines? Its labels in Prefect.

They hold the address of the store, never its credentials, and how often the run has ended since its last progress.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from gan.storage.address import is_remote
from gan.sync.listing import find_run
from gan.sync.stored_run import StoredRun

FLOW = "gan-train"  # the name of our flow in Prefect
STORE = "gan-train.store"
RUN_ID = "gan-train.run-id"
PROGRESS = "gan-train.progress"
FAILURES = "gan-train.failures"
CRASHES = "gan-train.crashes"


def labels_of_place(store: str, run_id: str) -> dict[str, Any]:
    """Return the labels that say where a run is. A directory is given by its absolute path."""
    return {STORE: store if is_remote(store) else str(Path(store).resolve()), RUN_ID: run_id}


def progress_of(run: StoredRun) -> int:
    """Return how far a run is: the step of its newest checkpoint, and one more when it is published.

    Raises:
        StorageError: the store cannot be read.
    """
    found = find_run(run)
    return found.steps + (found.state == "published") if found else 0


@dataclass(frozen=True)
class Ends:
    """How often a flow run has ended without progress, by an error that may pass and by a crash."""

    progress: int = 0
    failures: int = 0
    crashes: int = 0

    @classmethod
    def of(cls, labels: dict[str, Any]) -> Self:
        """Read them from the labels of a flow run."""
        return cls(*(int(labels.get(name, 0)) for name in (PROGRESS, FAILURES, CRASHES)))

    def since(self, progress: int) -> Self:
        """Return what counts of them now that the run is this far: nothing, if that is further than before."""
        return replace(self, progress=progress) if progress <= self.progress else type(self)(progress)

    @property
    def labels(self) -> dict[str, Any]:
        """Return the labels that hold them."""
        return {PROGRESS: self.progress, FAILURES: self.failures, CRASHES: self.crashes}
