"""Which runs of a store may go, and how does a run go so that it is never taken for a whole one?"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

from gan.errors import RunError, StorageError
from gan.runs.manifest import MANIFEST
from gan.runs.run_dir import RunDir
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.lease import hold, lease_key, live_holder
from gan.sync.listing import CHAMPION, RunInfo, list_runs
from gan.sync.publish import run_prefix

AGE = re.compile(r"(\d{1,5})([hdw])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}


class Fate(BaseModel):
    """Say what becomes of a run, and why."""

    version: Literal[1] = 1
    run_id: str
    prune: bool
    reason: str
    state: Literal["published", "unfinished"]
    updated: str = Field(description="When the newest of its files was written: ISO 8601, UTC.")
    bytes: int


def parse_age(text: str) -> timedelta:
    """Read 12h, 30d or 4w. Raises ValueError for anything else."""
    if not (found := AGE.fullmatch(text)):
        raise ValueError(f"{text!r} is no age; expected a number with h, d or w: 12h, 30d, 4w")
    return timedelta(hours=int(found[1]) * HOURS[found[2]])


def plan(store: Store, keep_last: int, older_than: timedelta = timedelta(0), *, champions: bool = False) -> list[Fate]:
    """Decide about each run of a store, the newest first; changes nothing.

    Kept are the last `keep_last` published runs and all that is newer than the oldest of them, what is not older than
    `older_than`, what is being trained, and what champion.json points to, unless `champions` may go, too.
    """
    runs = sorted(list_runs(store), key=lambda run: run.updated, reverse=True)
    pointed_to = set() if champions else _pointed_to(store)
    fates = []
    num_published = 0
    for run in runs:
        reason = "among the last" if num_published < keep_last else _reason_to_keep(store, run, older_than, pointed_to)
        num_published += run.state == "published"
        fates.append(
            Fate(
                run_id=run.run_id,
                prune=reason is None,
                reason=reason or "not among the last" + (f" {keep_last} published" if keep_last else ""),
                state=run.state,
                updated=run.updated,
                bytes=run.bytes,
            )
        )
    return fates


def prune(store: Store, run_id: str, *, champions: bool = False) -> None:
    """Delete a whole run, its manifest first; one that is half deleted shows as unfinished, and goes the next time.

    Raises:
        RunError: somebody trains the run, or it has become the champion; nothing was deleted.
        StorageError: the store cannot be read or written.
    """
    prefix = run_prefix(run_id)
    with hold(store, run_id), _locked(store, run_id):
        if not champions and run_id in _pointed_to(store):
            raise RunError(f"{CHAMPION} in {store.address} points to {run_id} by now: it stays")
        store.delete(prefix + MANIFEST)
        for key in [info.key for info in store.list(prefix)]:
            store.delete(key)
        store.sweep(prefix)
    store.delete(lease_key(run_id))


def _reason_to_keep(store: Store, run: RunInfo, older_than: timedelta, pointed_to: set[str]) -> str | None:
    age = datetime.now(UTC) - datetime.fromisoformat(run.updated)
    if age < older_than:
        return f"{age.total_seconds() / 86400:.1f} days old"
    if run.run_id in pointed_to:
        return f"{CHAMPION} points to it"
    try:
        if holder := live_holder(store, run.run_id):
            return f"being trained by {holder}"
        with _locked(store, run.run_id):
            return None
    except (RunError, StorageError) as error:  # one run that cannot be judged must not hold up the others
        return str(error)


@contextmanager
def _locked(store: Store, run_id: str) -> Iterator[None]:
    """Keep `gan train` out of a run that is trained where it is published. Raises RunError when it is in."""
    with ExitStack() as stack:
        folder = store.root / run_prefix(run_id) if isinstance(store, LocalStore) else None
        if folder and folder.is_dir():
            stack.enter_context(RunDir(folder).locked())
        yield


def _pointed_to(store: Store) -> set[str]:
    """Return every run id that champion.json names, in whatever field: as itself or in a key."""
    raw = store.read(CHAMPION)
    if raw is None:
        return set()
    try:
        texts = list(_texts(json.loads(raw)))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"{CHAMPION} in {store.address} is damaged ({error}): nobody can tell which runs it points to. "
            "Restore it from a copy before you prune."
        ) from error
    return {text.removeprefix("runs/").partition("/")[0] for text in texts}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
