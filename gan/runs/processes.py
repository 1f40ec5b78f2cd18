"""Which processes have trained a run, on which hardware, and with which versions?

`processes.jsonl` beside provenance.json has a line for each process. A resume on other hardware, or with other
libraries, rounds differently: its bytes are not those of a run that was not stopped.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gan.errors import RunError
from gan.files import atomic_write
from gan.runs import layout
from gan.runs.journal import Journal
from gan.runs.provenance import git_commit, versions_here
from gan.runs.run_dir import RunDir

log = logging.getLogger(__name__)


class Process(BaseModel):
    """One line of processes.jsonl: a process that has trained the run."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    after_step: int = Field(description="The process has trained the steps after this one.")
    started: str = Field(description="ISO 8601, UTC.")
    hardware: str = Field(description="Name of the CPU, or of the GPU where the run uses one.")
    git_commit: str | None
    versions: dict[str, str]

    def differences(self, before: "Process") -> list[str]:
        """List how another process was different, in a few words each."""
        found = [] if self.hardware == before.hardware else [f"{self.hardware} instead of {before.hardware}"]
        for name, version in self.versions.items():
            if version != before.versions.get(name, version):
                found.append(f"{name} {version} instead of {before.versions[name]}")
        return found


def record_process(journal: Journal, step: int, hardware: str, libraries: Mapping[str, str]) -> None:
    """Add this process, which trains a run from a step on, to processes.jsonl.

    Where the steps so far were trained on other hardware or with other versions, this logs a warning of one line.
    """
    run = RunDir(journal.run_path)
    path = run.processes_path
    content = path.read_bytes() if path.exists() else b""
    now = Process(
        after_step=step,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware,
        git_commit=git_commit(),
        versions=versions_here(libraries),
    )
    before = _last_in(content) or _first(run, hardware)
    if step and before and (found := now.differences(before)):
        log.warning("resumed with %s: the steps after %d can have other bytes than in a run that was not stopped",
                    ", ".join(found), step)  # fmt: skip
    end = b"" if content.endswith(b"\n") or not content else b"\n"
    content += end + now.model_dump_json().encode() + b"\n"
    journal.enter(texts={layout.PROCESSES: content})
    atomic_write(path, content)


def _last_in(content: bytes) -> Process | None:
    """Return the last process in processes.jsonl; None where there is none, or the line is damaged."""
    with suppress(ValueError, IndexError):
        return Process.model_validate_json(content.splitlines()[-1])
    return None


def _first(run: RunDir, hardware: str) -> Process | None:
    """Return the process that began a run of a version without processes.jsonl; None where that is not known."""
    with suppress(RunError):
        made = run.read_provenance()
        # It has the hardware's name at the end of a sentence.
        name = hardware if made.device.endswith(hardware) else made.device
        return Process(
            after_step=0, started=made.created, hardware=name, git_commit=made.git_commit, versions=made.versions
        )
    return None
