"""Which objects of a store belong to a run?"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gan.errors import RunError, StorageError
from gan.runs import layout
from gan.runs.manifest import Manifest, check_new_run_id
from gan.storage.address import open_store
from gan.storage.base import ObjectInfo, Store

RUNS = "runs/"
ATTEMPTS = "attempts/"  # below it each holder of a run's lease writes, until its files are the run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredRun:
    """A run in a store. Its files have the names that gan.runs.layout gives them."""

    store: Store
    run_id: str = ""  # empty: the store is the run directory itself, see `at`
    token: str = ""  # of a holder of the run's lease: the files as that holder writes them

    @classmethod
    def at(cls, address: str | Path) -> "StoredRun":
        """Return the run whose own address this is: a run directory or s3://BUCKET[/PREFIX]/runs/ID.

        Raises:
            StorageError: it is not an address of a store, or boto3's settings are invalid.
        """
        return cls(open_store(address))

    @property
    def prefix(self) -> str:
        """Return what the keys of the run's files begin with."""
        if self.token:
            return f"{ATTEMPTS}{self.run_id}/{self.token}/"
        return f"{RUNS}{self.run_id}/" if self.run_id else ""

    @property
    def address(self) -> str:
        """Return the run's own address, which `at` takes."""
        return f"{self.store.address.rstrip('/')}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """Return the key of a file of the run."""
        return self.prefix + name

    def where(self, name: str = "") -> str:
        """Return how messages name a file of the run, or the run: KEY in STORE."""
        return f"{self.key(name)} in {self.store.address}" if self.key(name) else self.store.address

    def written_by(self, token: str) -> "StoredRun":
        """Return the run as the holder with this token writes it."""
        return replace(self, token=token)

    def by_holder(self) -> dict["StoredRun", set[str]]:
        """Return the run as each of its holders has written it, with the names of the files. They are not checked."""
        found: dict[StoredRun, set[str]] = defaultdict(set)
        prefix = f"{ATTEMPTS}{self.run_id}/"
        for info in self.store.list(prefix):
            token, slash, name = info.key.removeprefix(prefix).partition("/")
            if slash:
                found[self.written_by(token)].add(name)
        return found

    @property
    def number(self) -> int:
        """Return the number of the holder that has written these files; 0 for the run's own keys."""
        number = self.token.partition("-")[0]
        return int(number) if number.isdecimal() else 0

    def files(self) -> Iterator[ObjectInfo]:
        """Yield the run's files, with their names in place of keys, in any order. The names are not checked."""
        for info in self.store.list(self.prefix):
            yield info._replace(key=info.key.removeprefix(self.prefix))

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, or None when there is no such file."""
        return self.store.read(self.key(name))

    def get(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file in chunks. Raises as `Store.get` does."""
        return self.store.get(self.key(name))

    def delete(self, name: str) -> None:
        """Delete a file; do nothing when there is no such file."""
        self.store.delete(self.key(name))

    def sweep(self) -> None:
        """Remove what killed writers have left, once every file is stored; log a warning where that fails."""
        try:
            for prefix in (self.prefix, f"{ATTEMPTS}{self.run_id}/"):
                self.store.sweep(prefix)
        except StorageError as error:
            log.warning("what broken uploads have left below %s is not removed, and may take room. A bucket's rule "
                        "AbortIncompleteMultipartUpload removes it, too. %s", self.where(), error)  # fmt: skip

    def manifest(self) -> Manifest | None:
        """Return the run's manifest, or None when the run is unfinished or there is no such run.

        Raises:
            StorageError: the manifest is damaged or of another version.
        """
        raw = self.read(layout.MANIFEST)
        return None if raw is None else Manifest.parse(raw, self.where(layout.MANIFEST))

    def published_manifest(self) -> Manifest:
        """Return the manifest of a run that must be published.

        Raises:
            StorageError: it is not published; or the manifest is damaged or of another version.
        """
        manifest = self.manifest()
        if manifest is None:
            raise StorageError(
                f"{self.where(layout.MANIFEST)} is missing: there is no such run, or it is unfinished. "
                "Check the address. The command that trains the run also finishes and publishes it."
            )
        return manifest


def check_id(run: StoredRun, run_path: Path) -> None:
    """Raise RunError where a run is in neither its directory nor the store, and a new run cannot have its id.

    Raises:
        StorageError: the store cannot be read. It is asked only about ids that a new run cannot have.
    """
    try:
        check_new_run_id(run.run_id)
    except RunError:
        if not (run_path / layout.CONFIG).exists() and run.read(layout.CONFIG) is None:
            raise
