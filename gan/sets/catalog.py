"""Which data sets are in a folder of sets, and which of them does NAME[@SHA] name?

A set is the folder SETS/NAME/SHA. Nothing else is there but temporary folders, whose names begin with a dot.
"""

import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gan.errors import DataError
from gan.files import fsync_dir, make_folder, storage_error
from gan.locks import locked
from gan.sets.set_manifest import MANIFEST, NAME, SetManifest
from gan.sets.sources.base import printable

log = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")
ADDRESS = re.compile(rf"(?P<name>{NAME.pattern})(@(?P<sha>[0-9a-f]{{8,64}}))?")
OLD_SECONDS = 60  # a temporary folder of this age is locked by its import, or has none any more


def check_name(name: str) -> None:
    """Raise DataError unless a set can have this name."""
    if not NAME.fullmatch(name):
        raise DataError(
            f"a data set cannot have the name {printable(name)!r}: expected at most 64 letters, digits, '.', '_' and "
            "'-', the first a letter or a digit."
        )


def list_sets(sets_dir: Path) -> list[SetManifest]:
    """Return every set of a folder, by name. One that is damaged is left out with a warning."""
    found = []
    for folder in _folders(sets_dir):
        try:
            found.append(SetManifest.read(folder))
        except DataError as error:
            log.warning("%s", error)
    return found


def find_set(sets_dir: Path, address: str) -> Path:
    """Return the folder of the set that NAME or NAME@SHA names; SHA are 8 digits of it or more.

    Raises:
        DataError: there is no such set; or several have the name, and the message lists them.
    """
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise DataError(
            f"{printable(address)!r} names no data set. Give it as NAME or NAME@SHA, SHA of 8 digits or more."
        )
    named = _folders(sets_dir, parts["name"])
    found = [folder for folder in named if folder.name.startswith(parts["sha"] or "")]
    choices = "".join(f"\n  {folder.parent.name}@{folder.name}" for folder in found or named)
    if not found:
        advice = (
            f"There is:{choices}"
            if choices
            else f"Import it: `gan data import SOURCE --name {parts['name']}`; known sets: `gan data download`."
        )
        raise DataError(f"{printable(str(sets_dir))} has no data set {address}. {advice}")
    if len(found) > 1:
        raise DataError(f"{len(found)} data sets have the name {address}. Name one of them:{choices}")
    return found[0]


def _folders(sets_dir: Path, name: str | None = None) -> list[Path]:
    """Return the folders of sets, sorted; of all names, or of one."""
    names = _entries(sets_dir, NAME) if name is None else [sets_dir / name]
    return [folder for each in names for folder in _entries(each, SHA256)]


def _entries(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Return what a folder has of names of a pattern; nothing where there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{printable(str(folder))} cannot be read ({error.strerror}). Check its permissions."
        ) from error


@contextmanager
def new_folder(sets_dir: Path) -> Iterator[Path]:
    """Make a temporary folder for a set, which is deleted after the block unless `publish` has renamed it.

    What a killed process has left is deleted first. Raises StorageError where the folder cannot be made.
    """
    place = sets_dir / f".{secrets.token_hex(8)}.tmp"
    try:
        make_folder(sets_dir)
        _sweep(sets_dir)
        place.mkdir()
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(place, 0, error) from error
    try:
        with suppress(OSError):  # a file system that locks no folders: then no sweep deletes it
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield place
    finally:
        os.close(handle)
        shutil.rmtree(place, ignore_errors=True)  # it is not there if it was published


def publish(place: Path, sets_dir: Path, manifest: SetManifest) -> Path:
    """Give a whole folder its name. Where another process was faster, its folder is the set.

    Raises StorageError where the folder cannot be renamed.
    """
    target = sets_dir / manifest.name / manifest.sha256
    try:
        make_folder(target.parent)
        fsync_dir(place)
        try:
            place.rename(target)
        except OSError:
            if not (target / MANIFEST).exists():
                raise
        fsync_dir(target.parent)
    except OSError as error:
        raise storage_error(target, 0, error) from error
    return target


def _sweep(sets_dir: Path) -> None:
    """Delete the temporary folders of processes that are gone: they lock theirs while they live."""
    for path in sets_dir.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_SECONDS:
                with locked(path, wait=False):
                    shutil.rmtree(path)
