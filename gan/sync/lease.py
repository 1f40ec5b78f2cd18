"""Who trains a run, so that nobody else does, on whatever machine?

The lease of a run is an object beside the runs, `leases/<run-id>.json`. Its holder writes it anew every few seconds;
one that has not been written for `expiry_seconds`, by the store's own clock, may be taken over. A holder on the same
machine need not be waited for: whether its process lives can be seen.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from gan.errors import GanError, RunError, StorageError
from gan.runs.manifest import check_run_id
from gan.storage.base import Store, Versioned

LEASES = "leases/"
RELEASE_SECONDS = 5.0  # for giving a lease back; one that is not given back expires

log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """Say how a lease is kept alive."""

    heartbeat_seconds: float = 10.0
    expiry_seconds: float = 60.0


DEFAULT_TIMING = Timing()


class Holder(BaseModel):
    """Say who holds a lease: the content of its object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    token: str  # of this process and this time
    host: str
    pid: int
    since: str  # ISO 8601, UTC
    machine: str | None  # boot and process namespace: who has the same sees the same processes; null: not known
    process_start: int | None  # tells a process from a later one with the same id; null: not known
    beats: int = 0
    released: bool = False

    @classmethod
    def me(cls, run_id: str) -> Self:
        """Describe this process."""
        return cls(
            run_id=run_id,
            token=uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(),
            process_start=_process_start(os.getpid()),
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_alive(self) -> bool | None:
        """Tell whether the holder's process lives; None where this machine cannot know."""
        if self.machine is None or self.machine != _machine():
            return None
        return _process_start(self.pid) == self.process_start


class Lease:
    """Hold the right to train a run, for as long as `check` does not say otherwise."""

    def __init__(self, store: Store, run_id: str, timing: Timing) -> None:
        check_run_id(run_id)
        self.run_id = run_id
        self._store = store
        self._timing = timing
        self._me = Holder.me(run_id)
        self._version = ""
        self._lost: RunError | None = None
        self._done = threading.Event()

    @property
    def lost(self) -> bool:
        """Tell whether somebody else has taken the run over."""
        return self._lost is not None

    def check(self) -> None:
        """Raise RunError when somebody else has taken the run over."""
        if self._lost:
            raise self._lost

    def acquire(self) -> None:
        """Take the lease; where its holder may be dead, wait until it shows a sign of life or the lease expires.

        Raises:
            RunError: somebody else holds it.
            StorageError: the store cannot be written.
        """
        seen: str | None = None
        while True:
            found = self._store.read_versioned(lease_key(self.run_id))
            holder = _holder(found, self._store, self.run_id)
            if found is None or holder is None or self._may_take(holder, found):
                if self._take(found):
                    return
                continue  # somebody was quicker; look again
            if holder.is_alive or seen not in (None, found.version):
                raise _held(holder, self.run_id)
            if seen is None:
                log.info("run %s is held by %s: waiting to see whether it lives, at most %.0f s",
                         self.run_id, holder, self._timing.expiry_seconds - found.age_seconds)  # fmt: skip
            seen = found.version
            time.sleep(self._timing.heartbeat_seconds / 4)

    def keep_alive(self) -> None:
        """Renew the lease until `stop`, then give it back; runs in a thread of its own."""
        delay = self._timing.heartbeat_seconds
        while not self._done.wait(delay) and not self.lost:
            try:
                self._write(self._me.model_copy(update={"beats": self._me.beats + 1}))
                delay = self._timing.heartbeat_seconds
            except GanError as error:
                log.debug("the lease of run %s could not be renewed: %s", self.run_id, error)
                delay = self._timing.heartbeat_seconds / 4  # as soon as the store is back
        if not self.lost:
            self._release()

    def stop(self) -> None:
        """Let `keep_alive` come to its end."""
        self._done.set()

    def _may_take(self, holder: Holder, found: Versioned) -> bool:
        if holder.released:
            return True
        if holder.is_alive is False or found.age_seconds >= self._timing.expiry_seconds:
            log.warning("taking run %s over from %s, which has not given it back", self.run_id, holder)
            return True
        return False

    def _take(self, found: Versioned | None) -> bool:
        content = self._me.model_dump_json().encode()
        version = self._store.replace(lease_key(self.run_id), content, found.version if found else None)
        return self._adopt(version)

    def _adopt(self, version: str | None) -> bool:
        """Remember the version that was written; where none was, look whether the write was done all the same."""
        if version is None:
            found = self._store.read_versioned(lease_key(self.run_id))
            holder = _holder(found, self._store, self.run_id)
            if found is None or holder is None or holder.token != self._me.token:
                return False
            version = found.version
        self._version = version
        return True

    def _write(self, me: Holder) -> None:
        key = lease_key(self.run_id)
        if self._adopt(self._store.replace(key, me.model_dump_json().encode(), self._version)):
            self._me = me
            return
        holder = _holder(self._store.read_versioned(key), self._store, self.run_id)
        gone = f"{key} in {self._store.address} was deleted by somebody else. Give the command again to go on."
        self._lost = _held(holder, self.run_id) if holder else RunError(gone)
        log.error("this process stops training: %s", self._lost)

    def _release(self) -> None:
        try:
            self._write(self._me.model_copy(update={"released": True}))
        except GanError as error:
            log.warning("the lease of run %s is not given back, and expires in %.0f s: %s",
                        self.run_id, self._timing.expiry_seconds, error)  # fmt: skip


@contextmanager
def hold(store: Store, run_id: str, timing: Timing = DEFAULT_TIMING) -> Iterator[Lease]:
    """Hold the lease of a run for the length of the block.

    Raises:
        RunError: somebody else holds it.
        StorageError: the store cannot be written, or the lease in it is damaged.
    """
    lease = Lease(store, run_id, timing)
    lease.acquire()
    thread = threading.Thread(target=lease.keep_alive, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.stop()
        thread.join(RELEASE_SECONDS)


def live_holder(store: Store, run_id: str, timing: Timing = DEFAULT_TIMING) -> Holder | None:
    """Return who trains a run, or None when nobody does: there is no lease, or it was given back or has expired."""
    found = store.read_versioned(lease_key(run_id))
    holder = _holder(found, store, run_id)
    if found is None or holder is None or holder.released or holder.is_alive is False:
        return None
    return holder if found.age_seconds < timing.expiry_seconds else None


def lease_key(run_id: str) -> str:
    """Return where the lease of a run is kept: not among the run's own files, so that no manifest lists it."""
    return f"{LEASES}{run_id}.json"


def _holder(found: Versioned | None, store: Store, run_id: str) -> Holder | None:
    if found is None:
        return None
    try:
        return Holder.model_validate_json(found.data)
    except ValidationError as error:
        raise StorageError(
            f"{lease_key(run_id)} in {store.address} is damaged, or of another version: {error.errors()[0]['msg']}. "
            "Delete it if nobody trains this run."
        ) from error


def _held(holder: Holder, run_id: str) -> RunError:
    return RunError(
        f"run {run_id} is being trained by {holder}. Wait for it or stop it; "
        "if it dies, the same command goes on with the run."
    )


def _machine() -> str | None:
    """Name what two processes share that see each other's process ids; None where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the machine's start; None when it lives no more."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])  # a zombie has ended, too
