"""Which bytes is a run made of, and are they what they were?"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan.errors import CheckpointError, ChecksumError, StorageError
from gan.files import HashedStream, read_chunks, sha256_bytes, walk
from gan.runs.best import Best, best_of, read_measured
from gan.storage.base import Progress, Store, check_key

MANIFEST = "manifest.json"
SIDECAR = ".safetensors.sha256"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex.")]


class FileEntry(BaseModel):
    """Say what one file's content is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256

    def __str__(self) -> str:
        return f"{self.size:,} bytes with SHA-256 {self.sha256}"


class Manifest(BaseModel):
    """Name every file of a run with its size and SHA-256; the same run gives the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    run_id: str
    files: dict[str, FileEntry] = Field(description="By path in the run directory, with forward slashes.")
    best: Best | None = Field(None, description="Its best checkpoint; null where none was measured; old runs lack it.")
    sha256: Sha256 = Field(description="SHA-256 of the canonical JSON of the other fields.")

    @classmethod
    def of(cls, run_path: Path, run_id: str) -> Self:
        """Read every file of a run directory but its manifest and temporary files.

        Raises:
            CheckpointError: a checkpoint contradicts its .sha256 sidecar.
            StorageError: a file cannot be read, has an impossible name or is not a regular file.
        """
        check_run_id(run_id)
        try:
            entries = {path.relative_to(run_path).as_posix(): _entry(path) for path in sorted(walk(run_path))}
        except OSError as error:
            name = error.filename or run_path
            raise StorageError(f"{name} cannot be read ({error.strerror}). Check the run directory.") from error
        entries.pop(MANIFEST, None)
        for name in entries:
            check_key(name, str(run_path))
        _check_sidecars(run_path, entries)
        measured = read_measured(run_path / "metrics.jsonl")
        best = best_of(each for each in measured if f"checkpoints/step-{each.step:06d}.safetensors" in entries)
        files = {name: entry.model_dump() for name, entry in entries.items()}
        document = {"version": 1, "run_id": run_id, "files": files, "best": best and best.model_dump()}
        return cls(run_id=run_id, files=entries, best=best, sha256=_content_hash(document))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """Read a manifest and accept it only if every one of its bytes is as it was written.

        Raises:
            StorageError: another version, a damaged manifest, or a path that leaves the run directory.
        """
        try:
            document = json.loads(raw)
            if isinstance(document, dict) and document.get("version", 1) != 1:
                raise StorageError(
                    f"{where} has version {document['version']!r}, expected 1: it was written by another gan-train. "
                    "Use the one that wrote it."
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
            raise _damaged(where, "its content is intact but not the way it is written")
        return manifest

    def to_bytes(self) -> bytes:
        """Return the one way in which this manifest is written."""
        return _canonical(self._document())

    def _document(self) -> dict[str, Any]:
        """Return the fields that are written: manifests from before there was a best checkpoint stay as they are."""
        return self.model_dump(exclude=None if "best" in self.model_fields_set else {"best"})

    @property
    def num_bytes(self) -> int:
        """Return the size of all the files together."""
        return sum(entry.size for entry in self.files.values())

    def differences(self, found: "Manifest") -> list[str]:
        """List, one line each and in order, how another manifest differs from this one."""
        lines = [] if found.run_id == self.run_id else [f"run id: expected {self.run_id}, found {found.run_id}"]
        for name in sorted(self.files.keys() | found.files.keys()):
            here, there = self.files.get(name, "no such file"), found.files.get(name, "no such file")
            if here != there:
                lines.append(f"{name}: expected {here}, found {there}")
        return lines


class Problem(BaseModel):
    """Say how one file is not what the manifest says."""

    file: str
    problem: Literal["missing", "size", "sha256", "unlisted"]
    expected: str | int | None = Field(description="Bytes or SHA-256; null when the manifest does not list the file.")
    found: str | int | None = Field(description="Bytes or SHA-256; null when the file is missing.")

    def __str__(self) -> str:
        match self.problem:
            case "missing":
                return f"{self.file}: missing; expected {self.expected:,} bytes, found no regular file"
            case "size":
                return f"{self.file}: expected {self.expected:,} bytes, found {self.found:,}"
            case "sha256":
                return f"{self.file}: expected SHA-256 {self.expected}, found {self.found}"
            case "unlisted":
                return f"{self.file}: {self.found:,} bytes, not listed in {MANIFEST}"


class Verification(BaseModel):
    """Say what a check of every byte of a run has found."""

    version: Literal[1] = 1
    run_id: str
    num_files: int = Field(description="Files that the manifest lists.")
    num_bytes: int = Field(description="Their size together.")
    problems: list[Problem] = Field(description="Empty when every file is as it was published.")


def check_run_id(run_id: str) -> None:
    """Raise StorageError unless a run id can be the name of a folder."""
    check_key(run_id, "run id")
    if "/" in run_id:
        raise StorageError(f"run id: {run_id!r} has a slash in it. Choose an id that can be the name of a folder.")


def read_manifest(store: Store, prefix: str) -> Manifest | None:
    """Return the manifest of the run below a prefix, or None when the run is unfinished.

    Raises:
        StorageError: the manifest is damaged or of another version.
    """
    raw = store.read(prefix + MANIFEST)
    return None if raw is None else Manifest.parse(raw, f"{prefix}{MANIFEST} in {store.address}")


def verify(store: Store, prefix: str, progress: Progress | None = None) -> Verification:
    """Compare every byte below a prefix with the manifest there, streaming, and list every problem.

    For a run directory: `verify(LocalStore(run_path), "")`.

    Raises:
        StorageError: the run has no manifest, the manifest is damaged, or a file cannot be read.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        raise StorageError(
            f"{prefix}{MANIFEST} is missing in {store.address}: there is no such run, or it is unfinished. "
            "Check the address; give the command that trains the run again to finish and publish it."
        )
    sizes = {info.key.removeprefix(prefix): info.size for info in store.list(prefix)}
    del sizes[MANIFEST]
    problems = []
    num_done = 0
    for name, entry in manifest.files.items():
        if problem := _check_file(store, prefix, name, entry, sizes.pop(name, None)):
            problems.append(problem)
        num_done += entry.size
        if progress:
            progress(num_done, manifest.num_bytes)
    problems += [
        Problem(file=name, problem="unlisted", expected=None, found=size) for name, size in sorted(sizes.items())
    ]
    return Verification(
        run_id=manifest.run_id, num_files=len(manifest.files), num_bytes=manifest.num_bytes, problems=problems
    )


def _check_file(store: Store, prefix: str, name: str, entry: FileEntry, size: int | None) -> Problem | None:
    """Read one file to its end, unless its size tells already."""
    if size is None:
        return Problem(file=name, problem="missing", expected=entry.size, found=None)
    if size != entry.size:
        return Problem(file=name, problem="size", expected=entry.size, found=size)
    content = HashedStream(store.get(prefix + name))
    with suppress(ChecksumError):  # raised after the last chunk; what counts is the SHA-256 in the manifest
        content.read_to_end()
    if content.sha256 != entry.sha256:
        return Problem(file=name, problem="sha256", expected=entry.sha256, found=content.sha256)
    return None


def _entry(path: Path) -> FileEntry:
    if path.is_symlink() or not path.is_file():
        raise StorageError(
            f"{path} is not a regular file, so that a manifest cannot vouch for it. "
            "Put what it points to in its place, or remove it."
        )
    content = HashedStream(read_chunks(path))
    sha256 = content.read_to_end()
    return FileEntry(size=content.num_bytes, sha256=sha256)


def _check_sidecars(run_path: Path, entries: Mapping[str, FileEntry]) -> None:
    """Raise CheckpointError where a checkpoint is not what its sidecar, in sha256sum's format, says."""
    for sidecar in entries:
        checkpoint = entries.get(sidecar.removesuffix(".sha256"))
        if not sidecar.endswith(SIDECAR) or checkpoint is None:
            continue
        expected = (run_path / sidecar).read_bytes().partition(b" ")[0].decode("ascii", "backslashreplace")
        if expected != checkpoint.sha256:
            raise CheckpointError(
                f"{run_path / sidecar.removesuffix('.sha256')} is damaged: SHA-256 expected {expected} "
                f"by its sidecar, found {checkpoint.sha256}. Remove both files, then resume the run."
            )


def _content_hash(document: Mapping[str, Any]) -> str:
    return sha256_bytes(_canonical({name: document[name] for name in document if name != "sha256"}))


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _damaged(where: str, found: str) -> StorageError:
    return StorageError(f"{where} is damaged: {found}. Restore it from a copy; the run cannot be trusted without it.")


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"it is no JSON document ({error})"
