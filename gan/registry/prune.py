"""Which runs of a store may be deleted, and how is a run deleted safely?"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from gan.errors import RunError, StorageError
from gan.registry.champion import CHAMPION, read_champion
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.lease import hold, lease_key, live_holder
from gan.sync.listing import RunInfo, list_runs
from gan.sync.stored_run import StoredRun

AGE = re.compile(r"(\d{1,5})([hdw])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}


class PruneDecision(BaseModel):
    """Whether a run is to be deleted, and why."""

    version: Literal[1] = 1
    run_id: str
    prune: bool
    reason: str
    state: Literal["published", "unfinished"]
    updated: str = Field(description="When the newest of its files was written: ISO 8601, UTC.")
    bytes: int


def parse_age(text: str) -> timedelta:
    """Read 12h, 30d or 4w. Raises ValueError for anything else."""
    found = AGE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not an age; expected a number with h, d or w: 12h, 30d, 4w")
    return timedelta(hours=int(found[1]) * HOURS[found[2]])


def plan(
    store: Store, keep_last: int, older_than: timedelta = timedelta(0), *, champions: bool = False
) -> list[PruneDecision]:
    """Decide about each run of a store, the newest first; change nothing.

    These runs are kept: the last `keep_last` published ones and all that are newer than the oldest of them, those that
    are younger than `older_than`, those that are being trained, and, unless `champions`, the present champion and all
    before it.

    Raises:
        StorageError: the store cannot be read; or champion.json is damaged, so that the champions are not known.
    """
    runs = sorted(list_runs(store), key=lambda run: run.updated, reverse=True)
    champion_ids = set() if champions else _champion_ids(store)
    decisions = []
    num_published = 0
    for run in runs:
        if num_published < keep_last:
            reason: str | None = "among the last"
        else:
            reason = _reason_to_keep(store, run, older_than, champion_ids)
        num_published += run.state == "published"
        decisions.append(
            PruneDecision(
                run_id=run.run_id,
                prune=reason is None,
                reason=reason or "not among the last" + (f" {keep_last} published" if keep_last else ""),
                state=run.state,
                updated=run.updated,
                bytes=run.bytes,
            )
        )
    return decisions


def prune(store: Store, run_id: str, *, champions: bool = False) -> None:
    """Delete a run. Its manifest goes first, so that a half-deleted run counts as unfinished and not as published.

    Raises:
        RunError: a process trains the run, or it has just become the champion; nothing was deleted.
        StorageError: the store cannot be read or written, or champion.json is damaged.
    """
    run = StoredRun(store, run_id)
    with hold(run), _locked(run):
        if not champions and run_id in _champion_ids(store):
            raise RunError(f"{run_id} has just become a champion by {CHAMPION} in {store.address}. It was not deleted.")
        run.delete(layout.MANIFEST)
        for name in [info.key for info in run.files()]:
            run.delete(name)
        run.sweep()
    store.delete(lease_key(run_id))


def _reason_to_keep(store: Store, run: RunInfo, older_than: timedelta, champion_ids: set[str]) -> str | None:
    age = datetime.now(UTC) - datetime.fromisoformat(run.updated)
    if age < older_than:
        return f"{age.total_seconds() / 86400:.1f} days old"
    if run.run_id in champion_ids:
        return f"a champion, by {CHAMPION}"
    stored = StoredRun(store, run.run_id)
    try:
        if holder := live_holder(stored):
            return f"being trained by {holder}"
        with _locked(stored):
            return None
    except (RunError, StorageError) as error:  # a run with a damaged lease is kept; the others can still be deleted
        return str(error)


@contextmanager
def _locked(run: StoredRun) -> Iterator[None]:
    """Lock the run's directory where the store is one: `gan train` may train there. Raises RunError when it does."""
    with ExitStack() as stack:
        if isinstance(run.store, LocalStore):
            folder = run.store.root / run.prefix
            if folder.is_dir():
                stack.enter_context(RunDir(folder).locked())
        yield


def _champion_ids(store: Store) -> set[str]:
    """Return the ids of the present champion and of all before it."""
    try:
        return read_champion(store).history.run_ids
    except StorageError as error:
        raise StorageError(f"{error} Without it the champions are not known, so no run is deleted.") from error
