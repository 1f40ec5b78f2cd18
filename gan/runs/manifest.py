"""Which files does a run have, and with which content?"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan.errors import CheckpointError, RunError, StorageError
from gan.files import HashedStream, read_chunks, sha256_bytes, walk
from gan.runs import layout
from gan.storage.base import check_key

NEW_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex.")]


class FileEntry(BaseModel):
    """The size and the SHA-256 of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256

    def __str__(self) -> str:
        return f"{self.size:,} bytes with SHA-256 {self.sha256}"


class Best(BaseModel):
    """A run's best checkpoint: its step and its Fréchet distance."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    step: int = Field(ge=1)
    distance: float = Field(description="As in metrics.jsonl at this step: of 2,000 samples, by the judge named there.")


class Manifest(BaseModel):
    """The files of a run, each with its size and SHA-256. The same run gives the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    run_id: str
    files: dict[str, FileEntry] = Field(description="By path in the run directory, with forward slashes.")
    best: Best | None = Field(None, description="Its best checkpoint; null where none was measured; old runs lack it.")
    sha256: Sha256 = Field(description="SHA-256 of the canonical JSON of the other fields.")

    @classmethod
    def of(cls, run_path: Path, run_id: str) -> Self:
        """Read every file of a run directory, except its manifest, its journal and temporary files.

        Raises:
            CheckpointError: the SHA-256 of a checkpoint is not the one in its sidecar.
            StorageError: a file cannot be read, has an unsafe name or is not a regular file.
        """
        check_run_id(run_id)
        try:
            paths = {path.relative_to(run_path).as_posix(): path for path in sorted(walk(run_path))}
            entries = {name: _entry(path) for name, path in paths.items() if not name.startswith(layout.JOURNAL)}
            entries.pop(layout.MANIFEST, None)
            for each in entries:
                check_key(each, str(run_path))
            _check_sidecars(run_path, entries)
            measured = read_measured(run_path / layout.METRICS)
        except OSError as error:
            name = error.filename or run_path
            raise StorageError(f"{name} cannot be read ({error.strerror}). Check the run directory.") from error
        best = best_of(each for each in measured if layout.checkpoint(each.step) in entries)
        files = {name: entry.model_dump() for name, entry in entries.items()}
        document = {"version": 1, "run_id": run_id, "files": files, "best": best and best.model_dump()}
        return cls(run_id=run_id, files=entries, best=best, sha256=_content_hash(document))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """Read a manifest; accept it only if each of its bytes is as it was written.

        Raises:
            StorageError: it is damaged, has another version, or has a path that leaves the run directory.
        """
        try:
            document = json.loads(raw)
            if isinstance(document, dict) and document.get("version", 1) != 1:
                raise StorageError(
                    f"{where} has version {document['version']!r}, expected 1: another version of gan-train wrote it. "
                    "Use that version."
                )
            manifest = cls.model_validate(document)
        except (ValidationError, ValueError, RecursionError) as error:
            raise _damaged(where, _first_line(error)) from error
        check_run_id(manifest.run_id)
        for name in manifest.files:
            check_key(name, where)
        found = _content_hash(manifest._document())
        if found != manifest.sha256:
            raise _damaged(where, f"SHA-256 of its content expected {manifest.sha256}, found {found}")
        if raw != manifest.to_bytes():
            raise _damaged(where, "its content is right, but it is not formatted as gan-train writes it")
        return manifest

    def to_bytes(self) -> bytes:
        """Return the bytes of manifest.json; a manifest has exactly one such form."""
        return _canonical(self._document())

    def _document(self) -> dict[str, Any]:
        """Return the fields to write. Old manifests have no `best`; they must keep their bytes."""
        return self.model_dump(exclude=None if "best" in self.model_fields_set else {"best"})

    @property
    def num_bytes(self) -> int:
        """Return the size of all the files together."""
        return sum(entry.size for entry in self.files.values())

    def differences(self, found: "Manifest") -> list[str]:
        """List, one line for each and in order, which files another manifest has that differ from those of this one.

        The run id is not compared: it is a label, which stays when a run directory is renamed or copied.
        """
        lines = []
        for name in sorted(self.files.keys() | found.files.keys()):
            ours, theirs = self.files.get(name, "no such file"), found.files.get(name, "no such file")
            if ours != theirs:
                lines.append(f"{name}: expected {ours}, found {theirs}")
        return lines


def check_run_id(run_id: str) -> None:
    """Raise StorageError unless a run id can be the name of a folder."""
    check_key(run_id, "run id")
    if "/" in run_id:
        raise StorageError(f"run id: {run_id!r} has a slash in it. Choose an id that can be the name of a folder.")


def check_new_run_id(run_id: str) -> None:
    """Raise RunError unless a new run may have this id. Runs of older versions can have others, and keep them.

    Such an id needs no quotes in a shell, and no command takes it for an option.
    """
    if not NEW_RUN_ID.fullmatch(run_id):
        raise RunError(
            f"a new run cannot have the id {run_id!r}: expected at most 128 letters, digits, '.', '_' and '-', and "
            "neither '-' nor '.' at the beginning. Give it another id, or its directory another name."
        )


def check_files(run_path: Path) -> None:
    """Raise RunError where a run directory has a name that no manifest takes, or something that is no regular file."""
    try:
        check_run_id(run_path.resolve().name)
        for path in walk(run_path):
            check_key(path.relative_to(run_path).as_posix(), str(run_path))
            _check_regular(path)
    except StorageError as error:
        raise RunError(str(error)) from error


def best_of(measured: Iterable[Best]) -> Best | None:
    """Return the checkpoint with the least distance, the first of equals; None when there is none."""
    return min(measured, key=lambda each: each.distance, default=None)


def read_measured(metrics_path: Path) -> list[Best]:
    """Return the step and distance of each evaluation in a metrics.jsonl; skip lines without one or damaged."""
    measured = []
    lines = metrics_path.read_text(errors="replace").splitlines() if metrics_path.exists() else []
    for line in lines:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            fields = json.loads(line)
            measured.append(Best(step=fields["step"], distance=fields["evaluation"]["distance"]))
    return measured


def _check_regular(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise StorageError(
            f"{path} is not a regular file; a manifest can list only regular files. "
            "Replace it by what it points to, or remove it."
        )


def _entry(path: Path) -> FileEntry:
    _check_regular(path)
    content = HashedStream(read_chunks(path))
    sha256 = content.read_to_end()
    return FileEntry(size=content.num_bytes, sha256=sha256)


def _check_sidecars(run_path: Path, entries: Mapping[str, FileEntry]) -> None:
    """Raise CheckpointError where the SHA-256 of a checkpoint is not the one in its sidecar."""
    for step in layout.checkpoint_steps(entries):
        name = layout.checkpoint(step)
        sidecar = layout.sidecar(name)
        if sidecar not in entries:
            continue
        expected = layout.sha256_in((run_path / sidecar).read_bytes())
        if expected != entries[name].sha256:
            raise CheckpointError(
                f"{run_path / name} is damaged: SHA-256 expected {expected} by its sidecar, "
                f"found {entries[name].sha256}. Remove both files, then resume the run."
            )


def _content_hash(document: Mapping[str, Any]) -> str:
    return sha256_bytes(_canonical({name: document[name] for name in document if name != "sha256"}))


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _damaged(where: str, found: str) -> StorageError:
    return StorageError(
        f"{where} is damaged: {found}. Restore it from a copy; without it the run's files cannot be checked."
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")  # of the whole
    return f"it is not a JSON document ({error})"
