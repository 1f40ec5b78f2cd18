"""Is every byte of a published run what its manifest says?"""

from contextlib import suppress
from typing import Literal

from pydantic import BaseModel, Field

from gan.errors import ChecksumError
from gan.files import HashedStream
from gan.runs import layout
from gan.runs.manifest import FileEntry
from gan.storage.base import Progress
from gan.sync.stored_run import StoredRun


class Problem(BaseModel):
    """How one file differs from the manifest."""

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
                return f"{self.file}: {self.found:,} bytes, not listed in {layout.MANIFEST}"


class Verification(BaseModel):
    """The result of reading every byte of a run."""

    version: Literal[1] = 1
    run_id: str
    num_files: int = Field(description="Files that the manifest lists.")
    num_bytes: int = Field(description="Their size together.")
    problems: list[Problem] = Field(description="Empty when every file is as it was published.")


def verify(run: StoredRun, progress: Progress | None = None) -> Verification:
    """Read every file of a run and list each difference from its manifest.

    Raises:
        StorageError: the run has no manifest, the manifest is damaged, or a file cannot be read.
    """
    manifest = run.published_manifest()
    sizes = {info.key: info.size for info in run.files()}
    problems = []
    if sizes.pop(layout.MANIFEST, None) is None:  # a link, or deleted since it was read
        problems.append(_missing(layout.MANIFEST, len(manifest.to_bytes())))
    num_done = 0
    for name, entry in manifest.files.items():
        if problem := _check_file(run, name, entry, sizes.pop(name, None)):
            problems.append(problem)
        num_done += entry.size
        if progress:
            progress(num_done, manifest.num_bytes)
    for name, size in sorted(sizes.items()):
        problems.append(Problem(file=name, problem="unlisted", expected=None, found=size))
    return Verification(
        run_id=manifest.run_id, num_files=len(manifest.files), num_bytes=manifest.num_bytes, problems=problems
    )


def _missing(name: str, size: int) -> Problem:
    return Problem(file=name, problem="missing", expected=size, found=None)


def _check_file(run: StoredRun, name: str, entry: FileEntry, size: int | None) -> Problem | None:
    """Compare one file with its entry; read it only where its size is right."""
    if size is None:
        return _missing(name, entry.size)
    if size != entry.size:
        return Problem(file=name, problem="size", expected=entry.size, found=size)
    content = HashedStream(run.get(name))
    with suppress(ChecksumError):  # raised after the last chunk; what counts is the SHA-256 in the manifest
        content.read_to_end()
    if content.sha256 != entry.sha256:
        return Problem(file=name, problem="sha256", expected=entry.sha256, found=content.sha256)
    return None
