"""Which code made a run, on which machine, and from which data?"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from gan import __version__


class Provenance(BaseModel):
    """The content of provenance.json, which is written once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    created: str  # ISO 8601, UTC
    device: str  # which one, and why it was chosen
    git_commit: str | None
    versions: dict[str, str]
    data: dict[str, str]  # SHA-256 of the raw content, by file name

    @classmethod
    def now(cls, run_id: str, device: str, torch_version: str, data: dict[str, str]) -> Self:
        """Return the provenance of a run that begins now."""
        return cls(
            run_id=run_id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            device=device,
            git_commit=git_commit(),
            versions={
                "gan-train": __version__,
                "python": platform.python_version(),
                "torch": torch_version,  # of the module itself: it names the CUDA version, too
                "numpy": version("numpy"),
                "numba": version("numba"),
            },
            data=data,
        )


def run_name(recipe: str | None, num_steps: int | None, seed: int | None, created: str | None) -> str:
    """Return what people call a run: what it trains and when it was begun, as far as that is known."""
    known = (
        recipe,
        None if num_steps is None else f"{num_steps:,} steps",
        None if seed is None else f"seed {seed}",
        None if created is None else f"{created[:16].replace('T', ' ')} UTC",
    )
    return ", ".join(filter(None, known))


def git_commit() -> str | None:
    """Return the commit of this code: GAN_GIT_COMMIT (set in a Docker image) or the checkout's; None if unknown."""
    if commit := os.environ.get("GAN_GIT_COMMIT"):
        return commit
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed from a wheel: a repository around it is another project's
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
