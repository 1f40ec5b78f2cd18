"""How do a run's grids and checkpoints get into a store while it trains?

A thread uploads the files of the run directory. A file that training deletes before its upload is never uploaded, so
the backlog cannot grow without limit. A checkpoint is uploaded after all other files that a resume from it needs.

A run that is sent back to an earlier step writes files again under the names they had in the attempt before. So that
the store never mixes two attempts, the checkpoints that the new attempt does not lead from are deleted there before
any file of the new attempt is uploaded.

The files go where this holder of the lease alone writes. What an earlier holder has sent is copied there by the server.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gan.errors import ChecksumError, GanError, StorageError
from gan.files import sha256_file
from gan.runs import checkpoint, journal, layout
from gan.runs.checkpoint import Position
from gan.runs.run_dir import RunDir
from gan.storage.unexpected import unexpected
from gan.sync.lease import Lease
from gan.sync.stored_run import StoredRun

MIRRORED = (layout.GRIDS, layout.CHECKPOINTS)  # what is deleted here in the run directory is deleted in the store too
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 10.0
STOP_SECONDS = 5.0

log = logging.getLogger(__name__)


class Signature(NamedTuple):
    """What distinguishes a file from one that replaces it."""

    inode: int
    modified_ns: int
    num_bytes: int


class Backlog(NamedTuple):
    """What is not in the store yet."""

    num_files: int = 0
    num_bytes: int = 0
    seconds: float = 0.0  # since the store had everything

    def __str__(self) -> str:
        if not self.num_files:
            return ""
        return f"{self.num_files} files, {self.num_bytes / 1e6:.1f} MB not uploaded for {self.seconds:.0f} s"


class Uploader:
    """Upload the files that another machine needs to resume a run, in a thread."""

    def __init__(self, run_path: Path, lease: Lease) -> None:
        self._run_path = run_path
        self._run = lease.own
        self._lease = lease
        self._others: dict[str, list[StoredRun]] = {}  # by name: where else in the store there may be such a file
        self._sent: dict[str, Signature] = {}
        self._stored: set[str] | None = None  # the names below MIRRORED in the store; None: not listed yet
        self._pending: dict[str, Signature] = {}
        self._last_piece = 0  # of the journal, of those that were looked at
        self._written_once: dict[str, None] = {}  # pieces of the journal and grids that were not sent yet, in order
        self._backlog_since = time.monotonic()
        self._cleaned_for: tuple[int, ...] | None = None  # the rewinds for which other checkpoints were deleted
        self._pruned_for: tuple[int, ...] | None = None  # the rewinds for which grids were deleted
        self._keeps_pruned = False  # deletions have failed, and a warning was logged
        self._num_requests, self._num_served = 1, 0
        self._closing = False
        self._fatal: GanError | None = None  # why nothing will be uploaded any more
        self._failure: StorageError | None = None  # why the last attempt to upload failed
        self._changed = threading.Condition()

    @property
    def backlog(self) -> Backlog:
        """Return what the store does not have yet, by the last comparison."""
        pending = list(self._pending.values())
        if not pending:
            return Backlog()
        num_bytes = sum(signature.num_bytes for signature in pending)
        return Backlog(len(pending), num_bytes, time.monotonic() - self._backlog_since)

    @property
    def lease_lost(self) -> bool:
        """Return whether another process has taken over the run, so that training must end."""
        return self._lease.lost

    def wake(self) -> None:
        """Ask for an upload of new files; return at once."""
        with self._changed:
            self._num_requests += 1
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until all that is in the run directory now is in the store.

        Raises:
            StorageError: it is not in the store after this time.
            RunError: another process has taken over the run.
        """
        self.wake()
        with self._changed:
            request = self._num_requests
            self._changed.wait_for(lambda: self._num_served >= request or self._fatal, seconds)
            if self._fatal:
                raise self._fatal
            if self._num_served < request:
                reason = self._failure or f"{self._run.store.address} was too slow for {seconds:.0f} s."
                raise StorageError(f"{self.backlog or 'the store cannot be listed'}: {reason}")

    def close(self) -> None:
        """End the thread after the file that it is uploading. Files not uploaded yet stay in the run directory."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def work(self) -> None:
        """Upload new files after each `wake`, until `close`. Runs in its own thread."""
        delay: float | None = None
        while self._wait(delay):
            request = self._num_requests
            try:
                self._upload_all()
            except Exception as error:  # noqa: BLE001 - training needs no upload, and the thread goes on
                if isinstance(error, GanError) and not isinstance(error, StorageError):
                    return self._give_up(error)  # the lease is lost: our files would mix with another process's
                self._fail(error)
                delay = min(2 * delay, MAX_DELAY_SECONDS) if delay else FIRST_DELAY_SECONDS
            else:
                if self._failure is not None:
                    log.info("everything is in %s again", self._run.store.address)
                self._failure, delay = None, None
                with self._changed:
                    self._num_served = request
                    self._changed.notify_all()

    def _give_up(self, error: GanError) -> None:
        with self._changed:
            self._fatal = error
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        """Keep why an attempt has failed. Log a warning for the first one."""
        is_first = self._failure is None
        if isinstance(error, StorageError):
            self._failure = error
        elif is_first:
            self._failure = StorageError(unexpected(error))
        if is_first:
            log.warning("the upload fails and will be tried again; training continues: %s", self._failure)

    def _wait(self, delay: float | None) -> bool:
        """Wait for a request or, after a failure, for the delay; return False when the thread must end."""
        with self._changed:
            if delay is None:
                self._changed.wait_for(lambda: self._closing or self._num_requests > self._num_served)
            else:
                self._changed.wait_for(lambda: self._closing, delay)
            return not self._closing

    def _upload_all(self) -> None:
        """Upload until nothing is new; then delete from the store what training has deleted."""
        if self._stored is None:
            self._others = _by_name(self._lease.versions())
            self._stored = set()
        while True:
            rewinds = self._rewinds()
            self._delete_other_attempts(rewinds)
            self._update_pending()
            if not self._pending or self._closing:
                break
            for name, signature in list(self._pending.items()):
                if self._closing:
                    return
                if not self._upload(name, signature, rewinds):
                    break
        self._delete_pruned(self._stored, grids=rewinds != self._pruned_for)
        self._pruned_for = rewinds

    def _rewinds(self) -> tuple[int, ...]:
        """Return the steps that the run was sent back to. Each attempt begins by writing a checkpoint with them."""
        for step in layout.checkpoint_steps_in(self._run_path):
            with suppress(FileNotFoundError):  # deleted since the folder was listed
                if position := checkpoint.position_of(self._run_path, step):
                    return position.rewinds
        return ()

    def _delete_other_attempts(self, rewinds: tuple[int, ...]) -> None:
        """Delete the store's checkpoints that a run with these rewinds has discarded, the newest first."""
        if rewinds == self._cleaned_for:
            return
        assert self._stored is not None
        for step in reversed(layout.checkpoint_steps(self._stored)):
            position = stored_position(self._run, step)
            if position and not position.leads_to(rewinds):
                self._delete(layout.checkpoint(step))
                self._delete(layout.sidecar(layout.checkpoint(step)))
        self._cleaned_for = rewinds

    def _delete_pruned(self, stored: set[str], *, grids: bool) -> None:
        """Delete files that training has deleted. Where that fails, log a warning once; the next upload tries again.

        Grids are only deleted when a run is sent back.
        """
        names = stored if grids else {name for name in stored if name.startswith(layout.CHECKPOINTS)}
        try:
            for name in sorted(names):  # in this order a checkpoint goes before its sidecar
                if not (self._run_path / name).exists():
                    self._delete(name)
        except StorageError as error:
            if not self._keeps_pruned:
                log.warning("checkpoints and grids that training has deleted stay in the store: %s", error)
            self._keeps_pruned = True

    def _delete(self, name: str) -> None:
        self._lease.check()
        self._run.delete(name)
        self._sent.pop(name, None)
        if self._stored is not None:
            self._stored.discard(name)

    def _update_pending(self) -> None:
        """List what the store does not have, in the order of upload."""
        if not self._pending:
            self._backlog_since = time.monotonic()
        pending = {}
        for name in self._names():
            signature = _signature(self._run_path / name)
            if signature and signature != self._sent.get(name):
                pending[name] = signature
        self._pending = pending

    def _names(self) -> Iterator[str]:
        # Listed first and uploaded last: when a checkpoint is on the disk, all that a resume from it needs is too.
        steps = layout.checkpoint_steps_in(self._run_path)
        yield from layout.WRITTEN_ONCE
        yield layout.PROCESSES
        self._look_for_pieces()
        yield from self._written_once
        if (self._run_path / layout.LOSSES).exists():  # at the end of a training
            yield from (layout.METRICS, layout.LOSSES)
        for step in reversed(steps):
            yield layout.sidecar(layout.checkpoint(step))
            yield layout.checkpoint(step)

    def _look_for_pieces(self) -> None:
        """Add the new pieces of the journal, and the grids that they name. So old grids need not be listed again."""
        if not self._last_piece:
            self._written_once = dict.fromkeys(layout.grid(step) for step, _ in RunDir(self._run_path).grids())
        for number, piece in journal.pieces_after(self._run_path, self._last_piece):
            grids = (name for name in piece.files if layout.grid_step(name) is not None)
            self._written_once |= dict.fromkeys((*grids, layout.journal_piece(number)))
            self._last_piece = number

    def _upload(self, name: str, signature: Signature, rewinds: tuple[int, ...]) -> bool:
        """Upload a file. Return False, doing nothing, when the run was sent back since `rewinds` was read."""
        self._lease.check()
        path = self._run_path / name
        try:
            sha256 = sha256_file(path)
            if self._rewinds() != rewinds:
                return False
            if layout.checkpoint_step(name) is not None and not _sidecar_says(path, sha256):
                log.error("%s does not have the SHA-256 in its sidecar; it is not uploaded, and a resume will use "
                          "the checkpoint before it", path)  # fmt: skip
            elif not self._copied(name, sha256):
                self._run.store.put(self._run.key(name), path, sha256)
            self._sent[name] = signature
            self._written_once.pop(name, None)
            if self._stored is not None and name.startswith(MIRRORED):
                self._stored.add(name)
        except (OSError, StorageError) as error:
            if _signature(path) == signature:
                raise error if isinstance(error, StorageError) else _unreadable(path, error) from error
            # else: deleted or replaced meanwhile; the next comparison sees that
        self._pending.pop(name)
        return True

    def _copied(self, name: str, sha256: str) -> bool:
        """Return whether an earlier holder has sent the file, and the server has copied it."""
        others = self._others.pop(name, [])
        return any(self._run.store.copy(other.key(name), self._run.key(name), sha256) for other in others)


@contextmanager
def uploading(run_path: Path, lease: Lease) -> Iterator[Uploader]:
    """Upload a run's files for the length of the block. Call `wake` after each snapshot and `flush` at the end.

    While the store cannot be reached, the thread tries again. Nothing is uploaded once the lease is lost.
    """
    uploader = Uploader(run_path, lease)
    thread = threading.Thread(target=uploader.work, name="uploader", daemon=True)
    thread.start()
    try:
        yield uploader
    finally:
        uploader.close()
        thread.join(STOP_SECONDS)


def stored_position(run: StoredRun, step: int) -> Position | None:
    """Return the position of a checkpoint in a store, from its first bytes; None where they are damaged."""
    try:
        return checkpoint.read_position(run.get(layout.checkpoint(step)), step)
    except ChecksumError:
        return None


def _by_name(found: dict[StoredRun, set[str]]) -> dict[str, list[StoredRun]]:
    by_name: dict[str, list[StoredRun]] = {}
    for run, names in found.items():
        for name in names:
            by_name.setdefault(name, []).append(run)
    return by_name


def _sidecar_says(path: Path, sha256: str) -> bool:
    return layout.sha256_in(checkpoint.sidecar_of(path).read_bytes()) == sha256


def _signature(path: Path) -> Signature | None:
    """Return the signature of a file, or None when there is no such file."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return Signature(status.st_ino, status.st_mtime_ns, status.st_size)
    return None


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be read ({error.strerror}). Check the run directory and its disk.")
