"""How is a run kept from being trained by two processes at once, on any machines?

The lease of a run is an object in the store, `leases/<run-id>.json`. Its holder writes it again every few seconds.
A lease that was not written for `expiry_seconds`, by the store's clock, has expired, and another process may take it.
On the holder's own machine no process waits for that: it can see whether the holder's process is alive.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from gan.errors import GanError, RunError, StorageError
from gan.runs.manifest import check_run_id
from gan.storage.conditions import is_proven, swap
from gan.storage.unexpected import unexpected
from gan.sync.stored_run import StoredRun

LEASES = "leases/"
RELEASE_SECONDS = 5.0  # to wait until a lease is released; one that is not released expires

log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """How often a lease is renewed, and when it expires."""

    heartbeat_seconds: float = 10.0
    expiry_seconds: float = 60.0


DEFAULT_TIMING = Timing()


class Holder(BaseModel):
    """The process that holds a lease; the content of the lease's object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    token: str  # new for each time that a process takes a lease
    host: str
    pid: int
    since: str  # ISO 8601, UTC
    machine: str | None  # its boot and its process namespace: processes with the same see each other; null: not known
    process_start: int | None  # a later process can have the same id, but not the same start; null: not known
    beats: int = 0
    released: bool = False

    @classmethod
    def me(cls, run_id: str) -> Self:
        """Return this process as a new holder."""
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
        """Return whether the holder's process is alive; None when it is on another machine."""
        if self.machine is None or self.machine != _machine():
            return None
        return _process_start(self.pid) == self.process_start


class FoundLease(NamedTuple):
    """A lease as it was read from a store."""

    holder: Holder
    version: str
    age_seconds: float


class Lease:
    """The right to train a run. `check` says when it is lost."""

    def __init__(self, run: StoredRun, timing: Timing) -> None:
        check_run_id(run.run_id)
        self.run = run
        self._key = lease_key(run.run_id)
        self._timing = timing
        self._me = Holder.me(run.run_id)
        self._version = ""
        self._lost: RunError | None = None
        self._has_warned = False  # of an error that nobody has foreseen
        self._done = threading.Event()

    @property
    def lost(self) -> bool:
        """Return whether another process has taken the lease."""
        return self._lost is not None

    def check(self) -> None:
        """Raise RunError when another process has taken the lease."""
        if self._lost:
            raise self._lost

    def acquire(self) -> None:
        """Take the lease. Where its holder may be dead, wait until the holder renews it or the lease expires.

        Raises:
            RunError: another process holds it.
            StorageError: the store cannot be written, or does not keep conditions; or the lease in it is damaged.
        """
        first_version: str | None = None
        while True:
            found = _read_lease(self.run)
            if found is None or self._may_take(found):
                if self._take(found):
                    return
                continue  # another process was first; read again
            if found.holder.is_alive or first_version not in (None, found.version):
                raise _held(found.holder)
            if first_version is None:
                log.info("run %s is held by %s: waiting until it renews its lease, at most %.0f s",
                         self.run.run_id, found.holder, self._timing.expiry_seconds - found.age_seconds)  # fmt: skip
            first_version = found.version
            time.sleep(self._timing.heartbeat_seconds / 4)

    def keep_alive(self) -> None:
        """Renew the lease until `stop`, then release it. Runs in its own thread."""
        delay = self._timing.heartbeat_seconds
        while not self._done.wait(delay) and not self.lost:
            try:
                self._write(self._me.model_copy(update={"beats": self._me.beats + 1}))
                delay = self._timing.heartbeat_seconds
            except Exception as error:  # noqa: BLE001 - a lease that nobody renews any more would be another's
                self._log_failure(error)
                delay = self._timing.heartbeat_seconds / 4  # soon after the store can be reached again
        if not self.lost:
            self._release()

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, GanError):
            log.debug("the lease of run %s could not be renewed: %s", self.run.run_id, error)
        elif not self._has_warned:
            self._has_warned = True
            log.warning("the lease of run %s could not be renewed, and this is tried again: %s",
                        self.run.run_id, unexpected(error))  # fmt: skip

    def stop(self) -> None:
        """Make `keep_alive` end."""
        self._done.set()

    def _may_take(self, found: FoundLease) -> bool:
        if found.holder.released:
            return True
        if found.holder.is_alive is False or found.age_seconds >= self._timing.expiry_seconds:
            log.warning("taking over run %s from %s, which has not released it", self.run.run_id, found.holder)
            return True
        return False

    def _take(self, found: FoundLease | None) -> bool:
        return self._replace(self._me, found.version if found else None)

    def _replace(self, me: Holder, version: str | None) -> bool:
        """Write this process as the holder in place of a version; return False where another process was first."""
        free = _released(Holder.me(self.run.run_id))  # its token is not ours
        written = swap(self.run.store, self._key, _content(me), version, _content(free))
        if written is None:
            found = _read_lease(self.run)  # the write may have been done, and its answer lost
            if found is None or found.holder.token != self._me.token:
                return False
            written = found.version
        self._version = written
        return True

    def _write(self, me: Holder) -> None:
        if self._replace(me, self._version):
            self._me = me
            return
        found = _read_lease(self.run)
        deleted = f"{self._key} in {self.run.store.address} was deleted by another process. Run the command again."
        self._lost = _held(found.holder) if found else RunError(deleted)
        log.error("this process stops training: %s", self._lost)

    def _release(self) -> None:
        try:
            self._write(_released(self._me))
        except GanError as error:
            log.warning("the lease of run %s is not released; it expires in %.0f s: %s",
                        self.run.run_id, self._timing.expiry_seconds, error)  # fmt: skip


@contextmanager
def hold(run: StoredRun, timing: Timing = DEFAULT_TIMING) -> Iterator[Lease]:
    """Hold the lease of a run for the length of the block.

    Raises:
        RunError: another process holds it.
        StorageError: the store cannot be written, or does not keep conditions; or the lease in it is damaged.
    """
    lease = Lease(run, timing)
    lease.acquire()
    thread = threading.Thread(target=lease.keep_alive, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.stop()
        thread.join(RELEASE_SECONDS)


def prove_store(run: StoredRun) -> None:
    """Raise StorageError unless the run's store keeps the conditions of writes. A lease that is made here is released.

    A manifest cannot be used to find that out: one that means nothing would pass for a published run.
    """
    if is_proven(run.store):
        return
    found, free = _read_lease(run), _content(_released(Holder.me(run.run_id)))
    data = _content(found.holder) if found else free
    swap(run.store, lease_key(run.run_id), data, found.version if found else None, free)


def live_holder(run: StoredRun, timing: Timing = DEFAULT_TIMING) -> Holder | None:
    """Return the process that trains a run; None when its lease is missing, released or expired, or it has died."""
    found = _read_lease(run)
    if found is None or found.holder.released or found.holder.is_alive is False:
        return None
    return found.holder if found.age_seconds < timing.expiry_seconds else None


def last_holder(run: StoredRun, within: timedelta) -> Holder | None:
    """Return the process that has not released the lease of a run and wrote it within a time, alive or not."""
    found = _read_lease(run)
    if found is None or found.holder.released or found.age_seconds >= within.total_seconds():
        return None
    return found.holder


def lease_key(run_id: str) -> str:
    """Return the key of a run's lease. It is not among the run's files, so that no manifest lists it."""
    return f"{LEASES}{run_id}.json"


def _read_lease(run: StoredRun) -> FoundLease | None:
    key = lease_key(run.run_id)
    found = run.store.read_versioned(key)
    if found is None:
        return None
    try:
        return FoundLease(Holder.model_validate_json(found.data), found.version, found.age_seconds)
    except ValidationError as error:
        raise StorageError(
            f"{key} in {run.store.address} is damaged, or of another version: {error.errors()[0]['msg']}. "
            "Delete it if no process trains this run."
        ) from error


def _released(holder: Holder) -> Holder:
    return holder.model_copy(update={"released": True})


def _content(holder: Holder) -> bytes:
    return holder.model_dump_json().encode()


def _held(holder: Holder) -> RunError:
    return RunError(
        f"run {holder.run_id} is being trained by {holder}. Wait for it to finish, or stop it. "
        "If it dies, the same command resumes the run."
    )


def _machine() -> str | None:
    """Return what two processes share that see each other's process ids; None where it is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the machine's start; None when it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])  # a zombie has ended too
