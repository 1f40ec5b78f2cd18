"""Which process may write a run, and what does it leave in the store and on its machine?

The lease of a run is an object in the store, `leases/<run-id>.json`. Its content is a Holder. On its machine the holder
locks a file that is named after its token. The kernel frees the lock when the process ends, so that another process
of the machine sees it. Process ids are not compared: they are used again, and containers have their own.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan.errors import StorageError
from gan.runs.manifest import Sha256
from gan.sync.stored_run import StoredRun

LEASES = "leases/"
VERSION: Literal[2] = 2
OLD_FIELDS = ("machine", "process_start")  # of version 1


class Committed(BaseModel):
    """Which holder's files are the run. Once written, it stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str = Field(description="Of the holder. Its files are below attempts/RUN-ID/TOKEN/.")
    sha256: Sha256 = Field(description="As in its manifest.")


class Holder(BaseModel):
    """The process that holds a lease; the content of the lease's object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2] = VERSION
    run_id: str
    number: int = Field(0, description="Counts the holders of the run, from 1; 0 in version 1.")
    token: str = Field(pattern="^[0-9a-f-]{1,64}$", description="New for each time that a process takes a lease.")
    host: str
    pid: int
    since: str = Field(description="ISO 8601, UTC.")
    beats: int = 0
    released: bool = False
    first_number: int = Field(0, description="Files of holders before this one are not used: the run began anew.")
    committed: Committed | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_old_fields(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("version") == 1:
            return {name: value for name, value in fields.items() if name not in OLD_FIELDS}
        return fields

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_alive(self) -> bool | None:
        """Return whether the holder's process is alive; None where this machine does not know it."""
        return _is_locked(_lock_path(self.token))


class FoundLease(NamedTuple):
    """A lease as it was read from a store."""

    holder: Holder
    version: str
    age_seconds: float


def next_holder(run_id: str, before: Holder | None = None) -> Holder:
    """Return this process as the holder of a run after another one."""
    number = before.number + 1 if before else 1
    return Holder(
        run_id=run_id,
        number=number,
        token=f"{number:06d}-{uuid4().hex}",
        host=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        first_number=before.first_number if before else 0,
        committed=before.committed if before else None,
    )


def lease_key(run_id: str) -> str:
    """Return the key of a run's lease. It is not among the run's files, so that no manifest lists it."""
    return f"{LEASES}{run_id}.json"


def read_lease(run: StoredRun) -> FoundLease | None:
    """Return the lease of a run, or None where there is none. Raises StorageError where it cannot be understood."""
    key = lease_key(run.run_id)
    found = run.store.read_versioned(key)
    if found is None:
        return None
    where = f"{key} in {run.store.address}"
    try:
        document = json.loads(found.data)
        if isinstance(document, dict) and document.get("version", VERSION) not in (1, VERSION):
            raise StorageError(
                f"{where} has version {document['version']!r}, expected {VERSION}: another version of gan-train holds "
                "the run. Use that version."
            )
        return FoundLease(Holder.model_validate(document), found.version, found.age_seconds)
    except (ValidationError, ValueError, RecursionError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise StorageError(f"{where} is damaged: {what}. Delete it if no process trains this run.") from error


def last_holder(run: StoredRun, within: timedelta) -> Holder | None:
    """Return the process that has not released the lease of a run and wrote it within a time, alive or not."""
    found = read_lease(run)
    if found is None or found.holder.released or found.age_seconds >= within.total_seconds():
        return None
    return found.holder


@contextmanager
def locked_as(token: str) -> Iterator[None]:
    """Show the processes of this machine, for the length of the block, that the holder with this token lives.

    The file stays until `forget`, so that they see that the holder has ended. Where no file can be locked, they wait
    until the lease expires.
    """
    path = _lock_path(token)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def forget(token: str) -> None:
    """Remove the file of a holder of this machine, once the lease is released or another's."""
    with suppress(OSError):
        _lock_path(token).unlink(missing_ok=True)


def _lock_path(token: str) -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp", f"gan-train-{token}.lock")


def _is_locked(path: Path) -> bool | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # the holder is on another machine, of another user, or has released the lease
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask must not see each other
        return False
    except BlockingIOError:
        return True
    except OSError:  # this file system has no locks
        return None
    finally:
        os.close(handle)
