"""How is the data of the stack saved to a folder and put back, also on another machine?

`python3 -m stack.backup save FOLDER` stops the stack, copies its volumes and starts it again; a run in training goes on
where it was. `python3 -m stack.backup restore FOLDER` fills the volumes of a stack that has none. Both run on the host,
with any Python.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
VOLUMES = ("credentials", "postgres", "minio", "prefect", "runs")  # the others are made anew at each start

DONE = {
    "save": "saved in {folder}. It holds all passwords: keep it where only you can read it.\n",
    "restore": "restored from {folder}. Start the stack: docker compose up -d --wait\n",
}


class BackupError(Exception):
    """A backup that cannot be saved or restored."""


def save(folder: Path) -> None:
    """Stop the stack, copy its volumes into a new folder, and start what ran before.

    Raises:
        BackupError: the folder exists, there is no stack, or a volume cannot be copied. The folder is not made then.
    """
    if folder.exists():
        raise BackupError(f"{folder} exists already. Name a new folder.")
    names, image = _volumes()
    if missing := [name for name in names.values() if not _exists(name)]:
        raise BackupError(f"there is no volume {missing[0]}. Start the stack first: docker compose up -d --wait")
    ran = _compose("ps", "--services", "--status", "running").strip()
    part = folder.with_name(folder.name + ".part")
    try:
        _compose("stop")
        part.mkdir(mode=0o700, parents=True)
        for volume, name in names.items():
            _copy_out(name, image, part / f"{volume}.tgz")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if ran:
            _compose("up", "--detach", "--wait", "--no-build", "--no-recreate")


def restore(folder: Path) -> None:
    """Make the volumes of the stack and fill them from a folder. The stack is not started.

    Raises:
        BackupError: a file is missing, the stack has data, or a volume cannot be filled. No volume is left then.
    """
    if missing := [name for name in VOLUMES if not (folder / f"{name}.tgz").is_file()]:
        raise BackupError(f"{folder / missing[0]}.tgz is missing: this is no backup of the stack.")
    names, image = _volumes()
    if present := [name for name in names.values() if _exists(name)]:
        raise BackupError(
            f"the volume {present[0]} exists: this stack has data. Delete the data first, if you do not need it "
            "(docker compose down --volumes), or set COMPOSE_PROJECT_NAME in .env to a new name."
        )
    try:
        _compose("create")
        for volume, name in names.items():
            with (folder / f"{volume}.tgz").open("rb") as archive:
                _run("docker", *_tar(name, image, "rw"), "-xz", stdin=archive)
    except BaseException:
        _compose("down", "--volumes")
        raise


def _copy_out(name: str, image: str, path: Path) -> None:
    with path.open("wb") as archive:
        os.fchmod(archive.fileno(), 0o600)  # it holds passwords
        _run("docker", *_tar(name, image, "ro"), "-cz", ".", stdout=archive)


def _tar(name: str, image: str, mode: str) -> list[str]:
    """Return the words that run tar in a volume, as root, because a volume's files belong to several users."""
    run = ["run", "--rm", "--interactive", "--network", "none", "--user", "0", "--volume", f"{name}:/volume:{mode}"]
    return [*run, "--workdir", "/volume", image, "tar", "--numeric-owner", "--same-owner", "--same-permissions"]


def _volumes() -> tuple[dict[str, str], str]:
    """Return Docker's name of each volume of VOLUMES, and the image of the app."""
    config: dict[str, Any] = json.loads(_compose("config", "--format", "json"))
    return {volume: config["volumes"][volume]["name"] for volume in VOLUMES}, config["services"]["secrets"]["image"]


def _exists(name: str) -> bool:
    return name in _run("docker", "volume", "ls", "--quiet").split()


def _compose(*words: str) -> str:
    return _run("docker", "compose", *words)


def _run(*words: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> str:
    """Run a command in the checkout; return its output unless that goes to a file."""
    try:
        done = subprocess.run(
            words, cwd=ROOT, stdin=stdin or subprocess.DEVNULL, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise BackupError("the command docker is missing. Install Docker with Compose 2.") from error
    if done.returncode:
        raise BackupError(f"{' '.join(words)}:\n{done.stderr.decode(errors='replace').strip()}")
    return (done.stdout or b"").decode()


def main(words: list[str]) -> None:
    """Do what the words say; print one sentence at the end."""
    parser = argparse.ArgumentParser(prog="python3 -m stack.backup", description="Save and restore the stack's data.")
    parser.add_argument("action", choices=["save", "restore"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(words)
    try:
        (save if given.action == "save" else restore)(given.folder)
    except (BackupError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    sys.stdout.write(DONE[given.action].format(folder=given.folder))


if __name__ == "__main__":
    main(sys.argv[1:])
