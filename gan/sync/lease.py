"""How is a run kept from being written by two processes at once, on any machines?

The holder of a lease writes it again every few seconds. A lease that was not written for `expiry_seconds`, by the
store's clock, has expired, and another process may take it.

A process that was frozen does not know that its lease was taken, and one of its requests may still be on its way. So
each holder writes under keys of its own, `Lease.own`. It stops by itself when it could not renew the lease for too
long. Which holder's files are the run is decided by one compare and swap on the lease: `Lease.commit`.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from gan.errors import GanError, RunInUseError, StorageError, TakenOverError
from gan.runs.manifest import check_run_id
from gan.runs.run_dir import RunDir
from gan.storage.conditions import swap
from gan.storage.local import LocalStore
from gan.storage.unexpected import unexpected
from gan.sync.holder import Committed, FoundLease, Holder, forget, lease_key, locked_as, next_holder, read_lease
from gan.sync.stored_run import StoredRun

RELEASE_SECONDS = 5.0  # to wait until a lease is released; one that is not released expires
ROUNDING_SECONDS = 2.0  # a store's times are whole seconds, so that a lease may look this much older

log = logging.getLogger(__name__)


class Timing(NamedTuple):
    """How often a lease is renewed, and when it expires."""

    heartbeat_seconds: float = 10.0
    expiry_seconds: float = 60.0

    @property
    def holder_seconds(self) -> float:
        """Return for how long after a renewal the holder itself counts on the lease."""
        return max(self.expiry_seconds - ROUNDING_SECONDS, self.expiry_seconds / 2)


DEFAULT_TIMING = Timing()


class Lease:
    """The right to write a run. `check` says when it is lost, or could not be renewed."""

    def __init__(self, run: StoredRun, timing: Timing) -> None:
        check_run_id(run.run_id)
        self.run = run
        self._timing = timing
        self._me = next_holder(run.run_id)
        self._version = ""
        self._lost: TakenOverError | None = None
        self._good_until = 0.0  # by this process's own clock
        self._writing = threading.Lock()  # the thread that renews and the one that commits
        self._is_deleted = False
        self._has_warned = False  # of an error that nobody has foreseen
        self._done = threading.Event()
        self._locked = ExitStack()

    @property
    def own(self) -> StoredRun:
        """Return the run as this holder writes it, under keys where no other holder writes."""
        return self.run.written_by(self._me.token)

    def versions(self, *, discarded: bool = False) -> dict[StoredRun, set[str]]:
        """Return the run as its own keys and each of its holders have it, with the names of the files.

        What was discarded when the run began anew is left out unless asked for. The names are not checked.
        """
        first = 0 if discarded else self._me.first_number
        found = {self.run: {info.key for info in self.run.files()}, **self.run.by_holder()}
        return {run: names for run, names in found.items() if names and run.number >= first}

    @property
    def committed(self) -> Committed | None:
        """Return which holder's files are the run, or None where that is not decided yet."""
        return self._me.committed

    @property
    def lost(self) -> bool:
        """Return whether another process has taken the lease."""
        return self._lost is not None

    def check(self) -> None:
        """Raise an error unless this process may write. Call it before each write.

        Raises:
            TakenOverError: another process has taken the lease.
            StorageError: the lease could not be renewed in time. It may be again, once the store answers.
        """
        if self._lost:
            raise self._lost
        if _now() > self._good_until:
            raise StorageError(
                f"the lease of run {self.run.run_id} could not be renewed for {self._timing.holder_seconds:.0f} s. "
                f"Nothing is written to {self.run.store.address} until it is renewed. Check the store and its network."
            )

    def confirm(self) -> None:
        """Renew the lease now. Raises as `check` does, and where the store does not answer."""
        with self._writing:
            self._renew()
        self.check()

    def commit(self, sha256: str) -> None:
        """Decide that the files of this holder, whose manifest has this SHA-256, are the run.

        Raises:
            TakenOverError: another process has taken the lease.
            StorageError: the store cannot be written.
        """
        self._change(committed=Committed(token=self._me.token, sha256=sha256))

    def begin_anew(self) -> None:
        """Discard what earlier holders have trained: no holder resumes from it. Raises as `commit` does."""
        self._change(first_number=self._me.number)

    def delete(self) -> None:
        """Delete the lease, once the store has nothing else of the run. Raises as `check` does."""
        with self._writing:
            self.check()
            self.run.store.delete(lease_key(self.run.run_id))
            self._is_deleted = True

    def acquire(self) -> None:
        """Take the lease. Where its holder may be dead, wait until the holder renews it or the lease expires.

        Raises:
            RunInUseError: another process holds it.
            StorageError: the store cannot be written, or does not keep conditions; or the lease in it is damaged.
        """
        first_version: str | None = None
        while True:
            found = read_lease(self.run)
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
                with self._writing:
                    self._renew()
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

    def stop(self, thread: threading.Thread) -> None:
        """End the thread of `keep_alive`, which releases the lease."""
        self._done.set()
        thread.join(RELEASE_SECONDS)
        self._locked.close()
        if self._me.released or self.lost:
            forget(self._me.token)  # else it shows the next process of this machine that this one has ended

    def _may_take(self, found: FoundLease) -> bool:
        if found.holder.released:
            return True
        if found.holder.is_alive is False or found.age_seconds >= self._timing.expiry_seconds:
            log.warning("taking over run %s from %s, which has not released it", self.run.run_id, found.holder)
            return True
        return False

    def _take(self, found: FoundLease | None) -> bool:
        me = next_holder(self.run.run_id, found.holder if found else None)
        with ExitStack() as undo:
            undo.callback(forget, me.token)
            held = undo.enter_context(ExitStack())
            held.enter_context(locked_as(me.token))
            if not self._replace(me, found.version if found else None):
                return False
            self._locked = held.pop_all()
            undo.pop_all()
        if found:
            forget(found.holder.token)
        return True

    def _replace(self, me: Holder, version: str | None) -> bool:
        """Write this process as the holder in place of a version; return False where another process was first."""
        began = _now()
        free = me.model_copy(update={"token": next_holder(self.run.run_id).token, "released": True})
        written = swap(self.run.store, lease_key(self.run.run_id), _content(me), version, _content(free))
        if written is None:
            found = read_lease(self.run)  # the write may have been done, and its answer lost
            if found is None or found.holder != me:
                return False
            written = found.version
        self._me, self._version = me, written
        self._good_until = began + self._timing.holder_seconds
        return True

    def _change(self, **fields: object) -> None:
        with self._writing:
            self.check()
            self._write(self._me.model_copy(update=fields))
        self.check()

    def _renew(self) -> None:
        self._write(self._me.model_copy(update={"beats": self._me.beats + 1}))

    def _write(self, me: Holder) -> None:
        if self._lost or self._is_deleted or self._replace(me, self._version):
            return
        found = read_lease(self.run)
        if found and found.holder.token == self._me.token:  # a write before this one was done, and its answer lost
            self._version = found.version
            return self._write(me)
        deleted = f"{lease_key(self.run.run_id)} in {self.run.store.address} was deleted by another process."
        by = f"run {self.run.run_id} was taken over by {found.holder}" if found else deleted
        self._lost = TakenOverError(f"{by}. This process stops, and writes nothing more.")
        log.error("%s", self._lost)

    def _release(self) -> None:
        try:
            with self._writing:
                self._write(self._me.model_copy(update={"released": True}))
        except GanError as error:
            log.warning("the lease of run %s is not released; it expires in %.0f s: %s",
                        self.run.run_id, self._timing.expiry_seconds, error)  # fmt: skip


@contextmanager
def hold(run: StoredRun, timing: Timing = DEFAULT_TIMING) -> Iterator[Lease]:
    """Hold the lease of a run for the length of the block.

    Raises:
        RunInUseError: another process holds it.
        StorageError: the store cannot be written, or does not keep conditions; or the lease in it is damaged.
    """
    lease = Lease(run, timing)
    lease.acquire()
    thread = threading.Thread(target=lease.keep_alive, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.stop(thread)


@contextmanager
def hold_published(run: StoredRun) -> Iterator[None]:
    """Keep other processes out of a published run: by the lock of its directory, or in a bucket by its lease.

    Raises:
        RunInUseError: another process holds it.
        StorageError: the store cannot be written.
    """
    folder = run.store.root / run.prefix if isinstance(run.store, LocalStore) else None
    with RunDir(folder).locked() if folder else hold(run):
        yield


def live_holder(run: StoredRun, timing: Timing = DEFAULT_TIMING) -> Holder | None:
    """Return the process that holds a run; None when its lease is missing, released or expired, or it has died."""
    found = read_lease(run)
    if found is None or found.holder.released or found.holder.is_alive is False:
        return None
    return found.holder if found.age_seconds < timing.expiry_seconds else None


def _content(holder: Holder) -> bytes:
    return holder.model_dump_json().encode()


def _held(holder: Holder) -> RunInUseError:
    return RunInUseError(
        f"run {holder.run_id} is being trained by {holder}. Wait for it to finish, or stop it. "
        "If it dies, the same command resumes the run."
    )


def _now() -> float:
    """Return the time in seconds by a clock that nobody sets, and that also runs while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
