"""What ran, on which machine, from which data?"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from gan import __version__

PACKAGES = {"torch": torch.__version__, "numpy": np.__version__, "numba": version("numba")}


class Provenance(BaseModel):
    """Hold what is worth knowing of a run beside its config; written once, as provenance.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    created: str  # ISO 8601, UTC
    device: str  # which, and why
    git_commit: str | None
    versions: dict[str, str]
    data: dict[str, str]  # SHA-256 of the raw content, by file name

    @classmethod
    def now(cls, run_id: str, device: str, data: dict[str, str]) -> Self:
        """Describe a run that begins here and now."""
        return cls(
            run_id=run_id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            device=device,
            git_commit=git_commit(),
            versions={"gan-train": __version__, "python": platform.python_version(), **PACKAGES},
            data=data,
        )


def git_commit() -> str | None:
    """Return the commit of this code: GAN_GIT_COMMIT where an image was built with it, else the checkout's."""
    if commit := os.environ.get("GAN_GIT_COMMIT"):
        return commit
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed from a wheel: a surrounding repository is not ours
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
