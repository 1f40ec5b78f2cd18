"""Which run of a store is the champion of a data set, and which ones were before?

`champion.json` at the store's root holds the whole history of MNIST's; its last change names the champion. That of an
imported data set is `champions/SHA-256.json`. A change is added by compare and swap: of two processes that do so at
once, the second one reads the history again and sees the first change.
"""

import getpass
import os
import shlex
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan.data import mnist
from gan.data.data_note import DataNote
from gan.errors import ChecksumError, DataError, RunError, StorageError
from gan.evaluation.results import Comparison, Evaluation
from gan.files import sha256_file
from gan.runs import layout
from gan.runs.manifest import Sha256, check_run_id
from gan.runs.provenance import check_trained_on
from gan.sets.loading import MNIST
from gan.storage.base import Store
from gan.storage.conditions import swap
from gan.sync.cache import checkpoint_copy
from gan.sync.stored_run import StoredRun

CHAMPION = "champion.json"  # MNIST's
CHAMPIONS = "champions/"  # SHA-256.json of each imported data set below it


class Change(BaseModel):
    """One change of the champion: which run became it, by whom, when and why, and with which figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=lambda: uuid4().hex, description="Of this change; its writer recognises it.")
    action: Literal["promoted", "rolled back"] = Field(description="rolled back: to the champion before, this run.")
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), description="UTC.")
    by: str
    reason: str
    run_id: str
    step: int = Field(description="Of the checkpoint that is the champion.")
    sha256: Sha256 = Field(description="SHA-256 of that checkpoint: the bytes that were measured.")
    evaluation: Evaluation = Field(description="By the judge it names, at the promotion.")
    comparison: Comparison | None = Field(
        None, description="With the champion before; null where there was no comparison."
    )
    data: DataNote | None = Field(
        None,
        description="The imported data set, as its card was when the run began; left out where it is MNIST.",
        exclude_if=lambda value: value is None,
    )

    @property
    def checkpoint(self) -> str:
        """Return the name of the checkpoint in the run's directory."""
        return layout.checkpoint(self.step)

    def __str__(self) -> str:
        return f"{self.time}  {self.action}  {self.run_id} step {self.step}  by {self.by}: {self.reason}"


class History(BaseModel):
    """The content of champion.json and of champions/SHA-256.json: every promotion and rollback, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    data: str | None = Field(
        None,
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[0-9a-f]{64}$",
        description="The imported data set, NAME@SHA-256; left out where it is MNIST.",
        exclude_if=lambda value: value is None,
    )
    history: list[Change] = []

    @property
    def line(self) -> list[Change]:
        """Return the champion, last, and before it those that `rollback` returns to, one at a time."""
        line: list[Change] = []
        for change in self.history:
            if change.action == "rolled back":
                del line[-2:]  # the one that was rolled back, and the one that this change names again
            elif line and (change.run_id, change.sha256) == (line[-1].run_id, line[-1].sha256):
                del line[-1]  # the champion was measured again, by another judge
            line.append(change)
        return line

    @property
    def current(self) -> Change | None:
        """Return the change that made the present champion; None where there is none yet."""
        return self.history[-1] if self.history else None

    @property
    def run_ids(self) -> set[str]:
        """Return the ids of the present champion and of all before it."""
        return {change.run_id for change in self.history}

    @model_validator(mode="after")
    def _names_only_folders(self) -> Self:
        for change in self.history:
            check_run_id(change.run_id)
        return self


class Found(NamedTuple):
    """The history of the champion of a data set in a store, and the version of that object."""

    history: History
    version: str | None  # None: there is no such file


def key_of(data: str | None) -> str:
    """Return under which key a store keeps the champion of a data set, NAME@SHA-256; None: of MNIST."""
    return CHAMPION if data is None else f"{CHAMPIONS}{data.rpartition('@')[2]}.json"


def read_champion(store: Store, data: str | None = None) -> Found:
    """Read the champion of a data set, NAME@SHA-256; of MNIST where it is None. Without one the history is empty.

    Raises:
        StorageError: the store cannot be read; or the file is damaged, or of another version or data set.
    """
    return read_history(store, key_of(data)) or Found(History(data=data), None)


def read_history(store: Store, key: str) -> Found | None:
    """Read the history under a key of a store; None where there is no such object. Raises as `read_champion` does."""
    found = store.read_versioned(key)
    if found is None:
        return None
    try:
        history = History.model_validate_json(found.data)
    except ValidationError as error:
        first = error.errors()[0]
        raise StorageError(
            f"{key} in {store.address} is damaged, or another version of gan-train wrote it: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Restore it from a copy, or use that version."
        ) from error
    if key_of(history.data) != key:
        raise StorageError(
            f"{key} in {store.address} is damaged: it is of {history.data or 'MNIST'}. Restore it from a copy."
        )
    return Found(history, found.version)


def append(store: Store, found: Found, change: Change) -> bool:
    """Add a change to the history that was found; return False, changing nothing, when the history has changed since.

    Raises:
        StorageError: the store cannot be written, or does not keep conditions.
    """
    data = found.history.data
    after = History(data=data, history=[*found.history.history, change])
    if swap(store, key_of(data), _content(after), found.version, _content(History(data=data))) is not None:
        return True
    # Another process was first; or the write was done, and its answer was lost.
    return any(other.id == change.id for other in read_champion(store, data).history.history)


def _content(history: History) -> bytes:
    return history.model_dump_json(indent=2).encode() + b"\n"


def rollback(store: Store, by: str, reason: str, data: str | None = None) -> Change:
    """Make the champion before the present one the champion of a data set again, and return the change.

    Raises:
        RunError: there is none, its run was deleted, or another process has changed the champion at the same time.
        DataError: its run was trained on other data, as an older version allowed.
        StorageError: the store cannot be read or written.
    """
    found = read_champion(store, data)
    line = found.history.line
    if len(line) < 2:
        raise RunError(
            f"{store.address} has no champion{_of(data)} before the present one. "
            f"`gan champion history {_words(store, data)}` shows them."
        )
    before = line[-2]
    if not is_stored(store, before):
        raise RunError(
            f"{before.run_id}, the champion before, was deleted from {store.address}. "
            f"{_promote_by_hand(store)} promotes another run."
        )
    _check_data(store, before, data)
    update = {"action": "rolled back", "by": by, "reason": reason, "comparison": None}
    change = Change.model_validate({**before.model_dump(exclude={"id", "time"}), **update})
    if not append(store, found, change):
        raise RunError(
            f"another process has just changed the champion of {store.address}. "
            f"See `gan champion show {_words(store, data)}`; try again."
        )
    return change


def _words(store: Store, data: str | None) -> str:
    """Return the words after a command that name a champion: its store, and its data set unless that is MNIST."""
    return shlex.join([store.address, *(["--data", data] if data else [])])


def _of(data: str | None) -> str:
    return f" of {data}" if data else ""


def _check_data(store: Store, change: Change, data: str | None) -> None:
    run = StoredRun(store, change.run_id)
    expected = {file.name: file.sha256 for file in mnist.FILES}
    if data:
        note = change.data or DataNote.at(data)
        expected = {note.name: note.sha256}
    try:
        check_trained_on(expected, run.read(layout.PROVENANCE), run.address, data or MNIST)
    except DataError as error:
        raise DataError(f"{error} Promote another run: gan champion promote --force") from error


def is_stored(store: Store, change: Change) -> bool:
    """Return whether the store still has a champion's run."""
    return StoredRun(store, change.run_id).read(layout.MANIFEST) is not None


def champion_of(store: Store, data: str | None = None) -> Change:
    """Return the champion of a data set in a store. Raises StorageError when it has none, or cannot be read."""
    if current := read_champion(store, data).history.current:
        return current
    raise StorageError(
        f"{store.address} has no champion{_of(data)} yet. `gan-train` promotes the first run that it measures; "
        f"{_promote_by_hand(store, force='')} promotes a run by hand."
    )


def _promote_by_hand(store: Store, force: str = "--force ") -> str:
    return f"`gan champion promote {force}{shlex.quote(f'{store.address}/runs/ID')}`"


def champion_checkpoint(store: Store, change: Change) -> Path:
    """Return the path of a champion's checkpoint, or of a copy of it; check that it is the promoted one.

    Raises:
        StorageError: the store does not have it, or cannot be read.
        ChecksumError: it has other content than when it was promoted.
    """
    run = StoredRun(store, change.run_id)
    path = checkpoint_copy(f"{run.address}/{change.checkpoint}")
    if not path.is_file():
        raise StorageError(
            f"{run.where(change.checkpoint)}, the champion, was deleted. "
            f"{_promote_by_hand(store)} promotes another run."
        )
    found = sha256_file(path)
    if found != change.sha256:
        raise not_promoted(run.where(change.checkpoint), change, found)
    return path


def not_promoted(where: str, change: Change, found: str) -> ChecksumError:
    """Return the error for a champion's checkpoint with other content than when it was promoted."""
    return ChecksumError(
        f"{where} is not the champion that was promoted: SHA-256 expected {change.sha256}, found {found}. Restore the "
        "run from a copy, or change the champion: gan champion rollback, gan champion promote --force."
    )


def me() -> str:
    """Return the name under which this process changes a champion: USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container; OSError since Python 3.13
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
