"""Which of several processes changes the state of a run in a scheduler?

A scheduler takes each change of state, also one that was decided about an older state. So whoever wants to change a
state first claims it, by a small object in the store of the run. One process succeeds. It then reads the state again,
and changes it if it is still the claimed one.
"""

import os
import socket
from contextlib import suppress
from uuid import uuid4

from gan.errors import StorageError
from gan.storage.conditions import swap
from gan.sync.stored_run import StoredRun

CLAIMS = "claims/"
EXPIRY_SECONDS = 60.0  # by the store's clock; its process has then died before it changed the state


def claim(run: StoredRun, state_id: str) -> bool:
    """Return whether this process, and no other, may change this state of a run. Writes `claims/RUN-ID/STATE-ID`.

    Raises:
        StorageError: the store cannot be written, or does not keep conditions.
    """
    key = f"{_prefix(run)}{state_id}"
    found = run.store.read_versioned(key)
    if found and found.age_seconds < EXPIRY_SECONDS:
        return False
    content = f"process {os.getpid()} on {socket.gethostname()}, {uuid4()}\n".encode()
    return swap(run.store, key, content, found.version if found else None, idle=b"") is not None


def delete_claims(run: StoredRun) -> None:
    """Delete the claims of a run whose states nobody changes any more. Raises StorageError."""
    for info in list(run.store.list(_prefix(run))):
        run.store.delete(info.key)
    with suppress(StorageError):  # the empty folder of a local store; a bucket has none
        run.store.sweep(_prefix(run))


def _prefix(run: StoredRun) -> str:
    return f"{CLAIMS}{run.run_id}/"
