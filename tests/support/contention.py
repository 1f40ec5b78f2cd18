"""What do publishers, promoters, somebody who rolls back and somebody who prunes do with one store at once?"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Barrier

from gan.errors import GanError, RunError
from gan.registry.champion import History, is_stored, read_champion, rollback
from gan.registry.promotion import promote
from gan.registry.prune import plan, prune
from gan.runs import layout
from gan.storage.base import Store
from gan.sync.lease import hold_published
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.challengers import by_figures, challenger_at
from tests.support.publishing import publish_when_free

BEFORE, CONTENDERS, OLD = ("first", "second"), ("third", "fourth"), "old"
FILES = {
    "config.json": b'{"version": 1, "recipe": "tuned", "num_steps": 1000}\n',
    "losses.npz": b"PK\x03\x04 losses",
    "grids/step-001000.png": b"\x89PNG",
    "report/index.html": b"<!doctype html><title>run</title>",
}
# By publisher: the file that it has with other bytes. Only losses must be the same in all.
REPORT = "report/index.html"
PUBLISHERS = {"one": "", "equal": "", "other": REPORT, "another": REPORT, "wrong": "losses.npz"}


@dataclass
class Round:
    """What happened in one round."""

    published: list[str] = field(default_factory=list)  # SHA-256 of the manifest that each publisher has got
    refused: list[str] = field(default_factory=list)  # what was said to the others
    changes: list[str] = field(default_factory=list)  # of the champion, by the names of those who were told so
    pruned: list[str] = field(default_factory=list)


def prepare(store: Store) -> None:
    """Give a store runs, of which two were champions."""
    for run_id in (*BEFORE, *CONTENDERS, OLD):
        store.put_new(f"runs/{run_id}/{layout.CONFIG}", FILES["config.json"])
        store.put_new(f"runs/{run_id}/{layout.MANIFEST}", b"{}")
    for run_id in BEFORE:
        _promote(store, run_id, run_id)


def contend(open_it: Callable[[], Store], folder: Path, rng: Random) -> Round:
    """Let all of them begin at the same moment, each with its own connection to the store."""
    done = Round()
    actors: list[Callable[[Store], None]] = [
        *(lambda store, name=name: _publish(store, folder, name, done) for name in PUBLISHERS),
        *(lambda store, run_id=run_id: _challenge(store, run_id, done) for run_id in CONTENDERS),
        lambda store: _roll_back(store, done),
        lambda store: _prune(store, done, spares_new=rng.random() < 0.5),
    ]
    rng.shuffle(actors)
    barrier = Barrier(len(actors), timeout=60)

    def begin(actor: Callable[[Store], None], delay: float) -> None:
        store = open_it()
        barrier.wait()
        time.sleep(delay)
        actor(store)

    with ThreadPoolExecutor(len(actors)) as threads:
        list(threads.map(begin, actors, [rng.uniform(0, 0.05) for _ in actors]))
    return done


def faults_after(store: Store, done: Round) -> list[str]:
    """List what is wrong with a store after a round."""
    run, found = StoredRun(store, "new"), []
    if run.manifest():
        found += [str(problem) for problem in verify(run).problems]
    elif left := [info.key for info in store.list("runs/new/")]:
        found.append(f"neither published nor gone: {left}")
    if len(set(done.published)) > 1 and "new" not in done.pruned:
        found.append(f"{len(set(done.published))} winners")
    if any("with other content" not in each for each in done.refused):
        found.append(f"refused for another reason: {done.refused}")
    history = read_champion(store).history
    return found + _faults_of(history, store, done)


def _faults_of(history: History, store: Store, done: Round) -> list[str]:
    found = []
    expected = sorted([*BEFORE, *done.changes])
    if sorted(change.by for change in history.history) != expected:
        found.append(f"changes of the champion were lost: {expected}, found {[each.by for each in history.history]}")
    if history.current is None or not is_stored(store, history.current):
        found.append("the champion is not stored")
    return found


def _publish(store: Store, folder: Path, name: str, done: Round) -> None:
    path = folder / name
    for file, content in FILES.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(content + (name.encode() if file == PUBLISHERS[name] else b""))
    try:
        done.published.append(publish_when_free(path, StoredRun(store, "new")).sha256)
    except GanError as error:
        done.refused.append(str(error))


def _challenge(store: Store, run_id: str, done: Round) -> None:
    run = StoredRun(store, run_id)
    while run.read(layout.MANIFEST):
        try:
            with hold_published(run):
                if run.read(layout.MANIFEST) and _promote(store, run_id, run_id):
                    done.changes.append(run_id)
                return
        except RunError:  # it is being pruned
            time.sleep(0.02)


def _promote(store: Store, run_id: str, by: str) -> bool:
    distance = 90.0 - 10 * (*BEFORE, *CONTENDERS).index(run_id)
    challenger = challenger_at(run_id, distance)
    return promote(store, challenger, by_figures(challenger), by).outcome == "promoted"


def _roll_back(store: Store, done: Round) -> None:
    try:
        done.changes.append(rollback(store, "rolled back", "by hand").by)
    except RunError:  # another has changed the champion at the same time
        return


def _prune(store: Store, done: Round, *, spares_new: bool) -> None:
    for decision in plan(store, 0):
        if decision.prune and not (spares_new and decision.run_id == "new"):
            try:
                prune(store, decision.run_id, decided=decision)
                done.pruned.append(decision.run_id)
            except GanError:  # it is in use, or has changed since
                continue
