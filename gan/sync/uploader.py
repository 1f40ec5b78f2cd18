"""How do a run's grids and checkpoints reach a store while training goes on?

The run directory is the spool: what waits to be sent lies there, and what training prunes there is waited for no
more, so that it cannot grow. A checkpoint is sent after all that a run which goes on from it needs.

A run that is sent back writes files anew under the names that they had in the try before. So that the store never
mixes two tries, its checkpoints of what is no longer the run's history go before anything of the new try comes.
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
from gan.storage.base import Store
from gan.sync.lease import Lease
from gan.sync.listing import CHECKPOINT
from gan.sync.publish import run_prefix
from gan.training import checkpoint
from gan.training.checkpoint import Place

FIXED = ("config.json", "provenance.json", "reals.png")
METRICS = "metrics.jsonl"
SPOOLED = ("grids/", "checkpoints/")  # what is gone from here in the run directory goes from the store too
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 10.0
STOP_SECONDS = 5.0

Signature = tuple[int, int, int]
Rewinds = tuple[int, ...]

log = logging.getLogger(__name__)


class Behind(NamedTuple):
    """Say what a store does not have yet."""

    num_files: int = 0
    num_bytes: int = 0
    seconds: float = 0.0  # since the store had everything

    def __str__(self) -> str:
        if not self.num_files:
            return ""
        return f"store {self.num_files} files, {self.num_bytes / 1e6:.1f} MB, {self.seconds:.0f} s behind"


class Uploader:
    """Send the files of a run that another machine needs to go on with it, in a thread of its own."""

    def __init__(self, run_path: Path, store: Store, lease: Lease) -> None:
        self._run_path = run_path
        self._store = store
        self._lease = lease
        self._prefix = run_prefix(lease.run_id)
        self._sent: dict[str, Signature] = {}
        self._stored: set[str] | None = None  # names of SPOOLED; None: not asked yet
        self._pending: dict[str, Signature] = {}
        self._cleared_for: Rewinds | None = None  # the store has no checkpoint that is not of this history
        self._behind_since = time.monotonic()
        self._asked, self._served = 1, 0
        self._closing = False
        self._ended: GanError | None = None  # why nothing will be sent any more
        self._trouble: StorageError | None = None  # why nothing is sent at present
        self._changed = threading.Condition()

    @property
    def behind(self) -> Behind:
        """Return what the store does not have yet, as last looked at."""
        pending = list(self._pending.values())
        if not pending:
            return Behind()
        return Behind(len(pending), sum(size for _, _, size in pending), time.monotonic() - self._behind_since)

    @property
    def has_lost(self) -> bool:
        """Tell whether somebody else has taken the run over, so that training on is of no use."""
        return self._lease.lost

    def wake(self) -> None:
        """Say that there may be new files; returns at once."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until everything that is in the run directory now is in the store.

        Raises:
            StorageError: it is not, after so many seconds.
            RunError: somebody else has taken the run over.
        """
        self.wake()
        with self._changed:
            asked = self._asked
            self._changed.wait_for(lambda: self._served >= asked or self._ended, seconds)
            if self._ended:
                raise self._ended
            if self._served < asked:
                reason = self._trouble or f"{self._store.address} was too slow for {seconds:.0f} s."
                raise StorageError(f"{self.behind or 'the store cannot be listed'}: {reason}")

    def close(self) -> None:
        """Let the thread end after the file in hand; what is not sent yet stays in the run directory."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def work(self) -> None:
        """Send what there is, each time that `wake` is called, until `close`; runs in a thread of its own."""
        delay: float | None = None
        while self._wait(delay):
            asked = self._asked
            try:
                self._send_all()
            except StorageError as error:
                if self._trouble is None:
                    log.warning("nothing can be sent at present; training goes on, and it is tried again: %s", error)
                self._trouble = error
                delay = min(2 * delay, MAX_DELAY_SECONDS) if delay else FIRST_DELAY_SECONDS
            except GanError as error:  # the lease is lost: what we send now would mix with another's
                with self._changed:
                    self._ended = error
                    self._changed.notify_all()
                return
            else:
                if self._trouble is not None:
                    log.info("%s has everything again", self._store.address)
                self._trouble, delay = None, None
                with self._changed:
                    self._served = asked
                    self._changed.notify_all()

    def _wait(self, delay: float | None) -> bool:
        """Wait for work or, after a failure, for its time; return False when the thread is to end."""
        with self._changed:
            if delay is None:
                self._changed.wait_for(lambda: self._closing or self._asked > self._served)
            else:
                self._changed.wait_for(lambda: self._closing, delay)
            return not self._closing

    def _send_all(self) -> None:
        """Send until nothing is new, then delete what training has pruned; a newer checkpoint is there by then."""
        if self._stored is None:
            names = (info.key.removeprefix(self._prefix) for info in self._store.list(self._prefix))
            self._stored = {name for name in names if name.startswith(SPOOLED)}
        while True:
            rewinds = self._rewinds()
            self._clear(rewinds)
            if not self._look() or self._closing:
                break
            for name, signature in list(self._pending.items()):
                if self._closing:
                    return
                if not self._send(name, signature, rewinds):
                    break
        for name in sorted(self._stored):  # a checkpoint before its sidecar
            if not (self._run_path / name).exists():
                self._delete(name)

    def _rewinds(self) -> Rewinds:
        """Return where the run has been sent back to by now; its newest checkpoint is written before what follows."""
        for path in checkpoint.newest_first(self._run_path / "checkpoints"):
            with suppress(FileNotFoundError):  # pruned meanwhile
                if place := checkpoint.place_of(path):
                    return place.rewinds
        return ()

    def _clear(self, rewinds: Rewinds) -> None:
        """Delete the store's checkpoints that a run which was sent back so has behind it, the newest first."""
        if rewinds == self._cleared_for:
            return
        assert self._stored is not None
        steps = [int(match[1]) for name in self._stored if (match := CHECKPOINT.fullmatch(name))]
        for step in sorted(steps, reverse=True):
            place = stored_place(self._store, self._prefix, step)
            if place and not place.is_before(rewinds):
                self._delete(key_of(step))
                self._delete(checkpoint.sidecar_of(Path(key_of(step))).as_posix())
        self._cleared_for = rewinds

    def _delete(self, name: str) -> None:
        self._lease.check()
        self._store.delete(self._prefix + name)
        self._sent.pop(name, None)
        if self._stored is not None:
            self._stored.discard(name)

    def _look(self) -> bool:
        """List what the store does not have, in the order to send it; tell whether there is anything."""
        if not self._pending:
            self._behind_since = time.monotonic()
        found = ((name, _signature(self._run_path / name)) for name in self._names())
        self._pending = {name: now for name, now in found if now and now != self._sent.get(name)}
        return bool(self._pending)

    def _names(self) -> Iterator[str]:
        # Looked for first, sent last: all that a checkpoint vouches for lies on the disk before it does.
        checkpoints = checkpoint.newest_first(self._run_path / "checkpoints")
        yield from FIXED
        for path in sorted((self._run_path / "grids").glob("step-*.png")):
            yield f"grids/{path.name}"
        yield METRICS
        for path in reversed(checkpoints):
            yield f"checkpoints/{checkpoint.sidecar_of(path).name}"
            yield f"checkpoints/{path.name}"

    def _send(self, name: str, signature: Signature, rewinds: Rewinds) -> bool:
        """Send a file; return False, having done nothing, when it may be of a try that the store is not ready for."""
        self._lease.check()
        path = self._run_path / name
        try:
            sha256 = sha256_file(path)
            if self._rewinds() != rewinds:
                return False
            if path.suffix == ".safetensors" and checkpoint.sidecar_of(path).read_text().split()[:1] != [sha256]:
                log.error("%s is not what its sidecar says, and is not sent; a resume takes the one before it", path)
            else:
                self._store.put(self._prefix + name, path, sha256)
            self._sent[name] = signature
            if self._stored is not None and name.startswith(SPOOLED):
                self._stored.add(name)
        except (OSError, StorageError) as error:
            if _signature(path) == signature:
                raise error if isinstance(error, StorageError) else _unreadable(path, error) from error
            # pruned or replaced meanwhile: the next look tells
        self._pending.pop(name)
        return True


@contextmanager
def uploading(run_path: Path, store: Store, lease: Lease) -> Iterator[Uploader]:
    """Send a run's files to a store for the length of the block; call `wake` after each snapshot, `flush` at the end.

    A store that is away is waited for in the background. Names as in the run directory; what training prunes there is
    deleted from the store. Nothing is sent once the lease is lost.
    """
    uploader = Uploader(run_path, store, lease)
    thread = threading.Thread(target=uploader.work, name="uploader", daemon=True)
    thread.start()
    try:
        yield uploader
    finally:
        uploader.close()
        thread.join(STOP_SECONDS)


def key_of(step: int) -> str:
    """Return the name of a step's checkpoint in its run."""
    return f"checkpoints/{checkpoint.path_of(Path(), step).name}"


def stored_place(store: Store, prefix: str, step: int) -> Place | None:
    """Return the place of a checkpoint in a store, from its first bytes; None where they are damaged."""
    try:
        return checkpoint.read_place(store.get(prefix + key_of(step)), step)
    except ChecksumError:
        return None


def _signature(path: Path) -> Signature | None:
    """Tell a file from what replaces it; None where there is none."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _unreadable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be read ({error.strerror}). Check the run directory and its disk.")
