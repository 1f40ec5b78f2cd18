"""Which runs of a store may be deleted, and how is a run deleted safely?"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from gan.errors import RunError, StorageError
from gan.registry.champions import histories
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.claims import delete_claims
from gan.sync.holder import last_holder
from gan.sync.lease import hold, live_holder
from gan.sync.listing import RunInfo, find_run, list_runs
from gan.sync.stored_run import StoredRun

AGE = re.compile(r"(\d{1,5})([hdw])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}
WAIT = timedelta(days=1)  # a run that was stopped or killed may wait this long for the next worker


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
    are younger than `older_than`, those that are being trained or measured, those that are trained but not published,
    those that may wait for a worker, and, unless `champions`, the present champion of each data set and all before it.

    Raises:
        StorageError: the store cannot be read; or the history of a champion is damaged, so that not all are known.
    """
    runs = sorted(list_runs(store), key=lambda run: run.updated, reverse=True)
    champion_keys = {} if champions else _champion_keys(store)
    decisions = []
    num_published = 0
    for run in runs:
        if num_published < keep_last:
            reason: str | None = "among the last"
        else:
            reason = _reason_to_keep(store, run, older_than, champion_keys)
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


def prune(store: Store, run_id: str, *, champions: bool = False, decided: PruneDecision | None = None) -> None:
    """Delete a run, under its lease. Nothing is deleted of a run that was written since it was `decided` about.

    Its manifest goes first, so that a half-deleted run counts as unfinished and not as published; then its config, so
    that it does not count as trained either.

    Raises:
        RunError: a process trains or measures the run, it was written meanwhile, it is trained but not published, or it
            has just become the champion; nothing was deleted.
        StorageError: the store cannot be read or written, or the history of a champion is damaged.
    """
    run = StoredRun(store, run_id)
    with hold(run) as lease, _locked(run):
        if found := find_run(run):
            _check_unchanged(run, found, decided)
        if not champions and (key := _champion_keys(store).get(run_id)):
            raise RunError(f"{run_id} has just become a champion by {key} in {store.address}. It was not deleted.")
        for version, names in lease.versions(discarded=True).items():
            for name in sorted(names, key=lambda name: (name != layout.MANIFEST, name != layout.CONFIG)):
                lease.check()
                version.delete(name)
        delete_claims(run)
        run.sweep()
        lease.delete()


def _check_unchanged(run: StoredRun, found: RunInfo, decided: PruneDecision | None) -> None:
    """Raise RunError where a run is to be published, or is not as it was when it was decided to delete it."""
    if reason := _reason_trained(run, found):
        raise RunError(f"{run.run_id} was not deleted: {reason}")
    if decided and (found.state, found.updated, found.bytes) != (decided.state, decided.updated, decided.bytes):
        raise RunError(
            f"{run.run_id} was written by another process since it was looked at. It was not deleted. "
            "Run the same command again."
        )


def _reason_to_keep(store: Store, run: RunInfo, older_than: timedelta, champion_keys: dict[str, str]) -> str | None:
    age = datetime.now(UTC) - datetime.fromisoformat(run.updated)
    if age < older_than:
        return f"{age.total_seconds() / 86400:.1f} days old"
    if key := champion_keys.get(run.run_id):
        return f"a champion, by {key}"
    stored = StoredRun(store, run.run_id)
    try:
        if reason := _reason_in_use(stored, run, age):
            return reason
        with _locked(stored):
            return None
    except (RunError, StorageError) as error:  # a run with a damaged lease is kept; the others can still be deleted
        return str(error)


def _reason_in_use(stored: StoredRun, run: RunInfo, age: timedelta) -> str | None:
    """Say who uses a run, or waits for it; None where nobody does."""
    doing = "trained" if run.state == "unfinished" else "measured"
    if holder := live_holder(stored):
        return f"being {doing} by {holder}"
    if run.state == "unfinished" and not _has_config(stored):  # it is half-deleted
        return None
    if holder := last_holder(stored, WAIT):
        return f"was being {doing} by {holder}, which died less than a day ago: it may wait for a worker"
    if run.state == "unfinished" and age < WAIT:
        return "unfinished, and written less than a day ago: it may wait for a worker"
    return _reason_trained(stored, run)


def _reason_trained(stored: StoredRun, run: RunInfo) -> str | None:
    """Say so where a run is trained to its end and not published, or where its config does not say whether it is."""
    if run.state == "published" or not run.steps or not _has_config(stored):
        return None
    if run.num_steps is None:
        return f"it has checkpoints, and a damaged {layout.CONFIG}. Restore that file from a copy."
    if run.steps >= run.num_steps:
        return "trained, but not published. The command that trained it publishes it."
    return None


def _has_config(stored: StoredRun) -> bool:
    by_holder = stored.by_holder().values()
    return stored.read(layout.CONFIG) is not None or any(layout.CONFIG in names for names in by_holder)


@contextmanager
def _locked(run: StoredRun) -> Iterator[None]:
    """Lock the run's directory where the store is one: `gan train` may train there. Raises RunError when it does."""
    with ExitStack() as stack:
        if isinstance(run.store, LocalStore):
            folder = run.store.root / run.prefix
            if folder.is_dir():
                stack.enter_context(RunDir(folder).locked())
        yield


def _champion_keys(store: Store) -> dict[str, str]:
    """Return the ids of the champions of all data sets, and of all before them, each with the key that has it."""
    try:
        return {run_id: key for key, history in histories(store).items() for run_id in history.run_ids}
    except StorageError as error:
        raise StorageError(f"{error} Without it the champions are not known, so no run is deleted.") from error
