"""Which code made a run, on which machine, and from which data?"""

import logging
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gan import __version__
from gan.data import mnist
from gan.data.data_note import DataNote
from gan.errors import ConfigMismatchError, DataError, RunError
from gan.runs import layout

log = logging.getLogger(__name__)


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
    numerics: dict[str, str] | None = None  # how the GPU computes, by gan.device; None on a CPU
    data_set: DataNote | None = None  # as its card was at the beginning; None: MNIST, or a folder's files

    @classmethod
    def now(
        cls,
        run_id: str,
        device: str,
        libraries: Mapping[str, str],
        data: dict[str, str],
        numerics: dict[str, str] | None = None,
        data_set: DataNote | None = None,
    ) -> Self:
        """Return the provenance of a run that begins now. `libraries` are gan.device's library_versions."""
        return cls(
            run_id=run_id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            device=device,
            git_commit=git_commit(),
            versions=versions_here(libraries),
            data=data,
            numerics=numerics,
            data_set=data_set,
        )


def versions_here(libraries: Mapping[str, str]) -> dict[str, str]:
    """Return the versions, by name, of all that decides the bytes of a run. `libraries` are those of the device."""
    return {
        "gan-train": __version__,
        "python": platform.python_version(),
        **libraries,
        "numpy": version("numpy"),
        "numba": version("numba"),
    }


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
    """Return the commit of this code; None if unknown.

    It is GAN_GIT_COMMIT, the content of the file GIT_COMMIT (in a Docker image), or the commit of the checkout.
    """
    if commit := os.environ.get("GAN_GIT_COMMIT"):
        return commit
    here = Path(__file__).resolve().parents[2]
    with suppress(FileNotFoundError):
        return (here / "GIT_COMMIT").read_text().strip() or None
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


def check_trained_on(sha256: Mapping[str, str], provenance: bytes | None, run: str, data: str = "mnist") -> None:
    """Check that a run was trained on a data set, whose parts have these SHA-256 by name: its judge knows nothing else.

    `provenance` is the content of the run's provenance.json. Without it, this logs a warning. `data` names the set.

    Raises:
        DataError: the run was trained on other data.
        RunError: provenance.json is damaged.
    """
    data = "MNIST" if data == "mnist" else data
    if provenance is None:
        log.warning("%s has no %s, so it is not known whether it was trained on %s; its samples are compared with "
                    "%s", run, layout.PROVENANCE, data, data)  # fmt: skip
        return
    found = _parse(provenance, run).data
    for name, expected in sha256.items():
        if found.get(name) != expected:
            knows = "MNIST's digits" if data == "MNIST" else "this data set"
            raise DataError(
                f"{run} was not trained on {data}: by its {layout.PROVENANCE}, its {name} has SHA-256 "
                f"{found.get(name)}, and {data}'s has {expected}. The judge knows only {knows}, so the run "
                "cannot be measured, and cannot become the champion."
            )


def note_of(address: str | None, provenance: bytes | None, run: str) -> DataNote | None:
    """Return what a run says about its data set, by the content of its provenance.json; else as `note_in`."""
    return note_in(_parse(provenance, run) if provenance else None, address, run)


def note_in(provenance: Provenance | None, address: str | None, run: str) -> DataNote | None:
    """Return what a run says about its data set, which its config names by NAME@SHA-256; None: it is no imported one.

    A run of before has only that name. Raises RunError where it is damaged.
    """
    if address is None:
        return None
    noted = provenance.data_set if provenance else None
    if noted and noted.address == address:
        return noted
    try:
        return DataNote.at(address)
    except ValidationError as error:
        raise RunError(f"{run}: its config names the data set {address}, expected NAME@SHA-256.") from error


def _parse(provenance: bytes, run: str) -> Provenance:
    try:
        return Provenance.model_validate_json(provenance)
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")  # of the whole
        raise RunError(f"{layout.PROVENANCE} of {run}: damaged ({wrong}). Restore it from a copy.") from error


def check_is_of_mnist(run_path: Path) -> None:
    """Raise ConfigMismatchError where a run was made from other data than MNIST, which is about to be downloaded.

    MNIST's files would take the place of the run's own, which would be renamed as if they were damaged.
    """
    with suppress(OSError, ValidationError):  # there is no run yet, or it is refused when it is opened
        found = Provenance.model_validate_json((run_path / layout.PROVENANCE).read_bytes()).data
        if any(found.get(file.name, file.sha256) != file.sha256 for file in mnist.FILES):
            raise ConfigMismatchError(
                f"{run_path} was made from other data than MNIST. Add --no-pinned-hash (or set GAN_NO_PINNED_HASH=1), "
                "and name the folder of that data with --data-dir. Nothing was downloaded."
            )


def provenance_beside(path: Path) -> bytes | None:
    """Return the content of the provenance.json of a run directory or of a checkpoint in it; None where it has none."""
    folder = path if path.is_dir() else path.absolute().parents[1]
    try:
        return (folder / layout.PROVENANCE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        name = folder / layout.PROVENANCE
        raise RunError(f"{name}: cannot be read ({error.strerror}). Check its permissions.") from error
