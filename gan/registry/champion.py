"""Which run of a store is the champion, which were before, and how does that change by one hand at a time?

`champion.json` at the store's root is the whole history; its last change names the champion. It grows by compare and
swap, so that of two who change it at once the second one sees what the first has done.
"""

import getpass
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan.errors import ChecksumError, RunError, StorageError
from gan.evaluation.comparison import Comparison
from gan.evaluation.evaluator import Evaluation
from gan.files import sha256_file
from gan.runs.manifest import MANIFEST, Sha256, check_run_id
from gan.storage.address import is_remote, open_store
from gan.storage.base import Store
from gan.sync.cache import checkpoint_copy
from gan.sync.listing import CHAMPION
from gan.sync.publish import run_prefix
from gan.training import checkpoint

DEFAULT_STORE = "store"
NAME = "champion"  # of a store's champion, after the store's address


class Change(BaseModel):
    """Say which run became the champion, by whom, when and why, and how good it was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, description="Of this change; who writes it knows it again.")
    action: Literal["promoted", "rolled back"] = Field(description="rolled back: to the champion before, this run.")
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), description="UTC.")
    by: str
    reason: str
    run_id: str
    step: int = Field(description="Of the checkpoint that is the champion.")
    sha256: Sha256 = Field(description="SHA-256 of that checkpoint: the bytes that were measured.")
    evaluation: Evaluation = Field(description="By the judge it names, at the promotion.")
    comparison: Comparison | None = Field(None, description="With the champion before; null where none was met.")

    @property
    def checkpoint(self) -> str:
        """Return the name of the checkpoint in the run's directory."""
        return checkpoint_name(self.step)

    def __str__(self) -> str:
        return f"{self.time}  {self.action}  {self.run_id} step {self.step}  by {self.by}: {self.reason}"


class History(BaseModel):
    """Hold champion.json: every promotion and every rollback, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    history: list[Change] = []

    @property
    def line(self) -> list[Change]:
        """Return the champion, last, and those before it to which `rollback` goes, one at a time."""
        line: list[Change] = []
        for change in self.history:
            if change.action == "rolled back":
                del line[-2:]  # the one that was rolled back, and the one that the change names
            line.append(change)
        return line

    @property
    def current(self) -> Change | None:
        """Return the change that made the champion what it is; None where there is none yet."""
        return self.history[-1] if self.history else None

    @model_validator(mode="after")
    def _names_only_folders(self) -> Self:
        for change in self.history:
            check_run_id(change.run_id)
        return self


class Found(NamedTuple):
    """What a store's champion.json said, and which version of it."""

    history: History
    version: str | None  # None: there is no such file


def read_champion(store: Store) -> Found:
    """Read champion.json; without one the history is empty.

    Raises:
        StorageError: the store cannot be read; the file is damaged, or of another version.
    """
    found = store.read_versioned(CHAMPION)
    if found is None:
        return Found(History(), None)
    try:
        return Found(History.model_validate_json(found.data), found.version)
    except ValidationError as error:
        first = error.errors()[0]
        raise StorageError(
            f"{CHAMPION} in {store.address} is damaged, or was written by another gan-train: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Restore it from a copy, or use the one that wrote it."
        ) from error


def append(store: Store, found: Found, change: Change) -> bool:
    """Add a change to what was found, at once and whole; False, changing nothing, when it says something else by now.

    Raises:
        StorageError: the store cannot be written.
    """
    after = History(history=[*found.history.history, change])
    if store.replace(CHAMPION, after.model_dump_json(indent=2).encode() + b"\n", found.version) is not None:
        return True
    # Somebody was quicker; or it is done, and the answer was lost on the way.
    return any(other.id == change.id for other in read_champion(store).history.history)


def rollback(store: Store, by: str, reason: str) -> Change:
    """Make the champion before the present one the champion again, and return the change.

    Raises:
        RunError: there is none, its run is gone, or somebody else has changed the champion at the same moment.
        StorageError: the store cannot be read or written.
    """
    found = read_champion(store)
    if len(line := found.history.line) < 2:
        raise RunError(f"{store.address} has no champion before the present one. `gan champion history` shows them.")
    before = line[-2]
    if is_gone(store, before):
        raise RunError(
            f"{before.run_id}, the champion before, is not in {store.address} any more. "
            "Promote another run: gan champion promote --force"
        )
    update = {"action": "rolled back", "by": by, "reason": reason, "comparison": None}
    change = Change.model_validate({**before.model_dump(exclude={"id", "time"}), **update})
    if not append(store, found, change):
        raise RunError(f"the champion of {store.address} has changed meanwhile. See `gan champion show`; try again.")
    return change


def is_gone(store: Store, change: Change) -> bool:
    """Tell whether a champion's run was deleted from the store."""
    return store.read(run_prefix(change.run_id) + MANIFEST) is None


def find_champion(address: str) -> tuple[Store, Change] | None:
    """Return the store and the champion that `champion` (of ./store) or STORE/champion names; None for other addresses.

    A path that exists is what it is.

    Raises:
        StorageError: the store has no champion, or cannot be read.
    """
    parent, _, name = address.rpartition("/")
    if name != NAME or f"/{parent}".endswith("/runs") or (not is_remote(address) and Path(address).exists()):
        return None
    store = open_store(parent or DEFAULT_STORE)
    return store, champion_of(store)


def champion_of(store: Store) -> Change:
    """Return the champion of a store. Raises StorageError when it has none, or cannot be read."""
    if current := read_champion(store).history.current:
        return current
    raise StorageError(
        f"{store.address} has no champion yet: `gan-train` promotes the first run that is measured, "
        f"`gan champion promote {store.address}/runs/ID` any."
    )


def champion_checkpoint(store: Store, change: Change) -> Path:
    """Return the path of a champion's checkpoint, from a store elsewhere of a copy, if it is the one that was promoted.

    Raises:
        StorageError: it is not there, or the store cannot be read.
        ChecksumError: it is not the one that was promoted.
    """
    key = f"{run_prefix(change.run_id)}{change.checkpoint}"
    path = checkpoint_copy(f"{store.address}/{key}")
    if not path.is_file():
        raise StorageError(f"{key}, the champion, is not in {store.address} any more. Promote another run.")
    if (found := sha256_file(path)) != change.sha256:
        raise not_promoted(f"{key} in {store.address}", change, found)
    return path


def not_promoted(where: str, change: Change, found: str) -> ChecksumError:
    """Say that a champion's checkpoint has other bytes by now."""
    return ChecksumError(
        f"{where} is not the champion that was promoted: SHA-256 expected {change.sha256}, found {found}. Restore the "
        "run from a copy; or take another champion: gan champion rollback, gan champion promote --force."
    )


def checkpoint_name(step: int) -> str:
    """Return the name, in a run's directory, of the checkpoint of a step."""
    return checkpoint.path_of(Path("checkpoints"), step).as_posix()


def me() -> str:
    """Name who changes a champion: USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name; OSError since Python 3.13
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
