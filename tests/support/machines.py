"""How does a test get several machines on one? Each has its own host name, processes, home, work folder and /tmp.

They share the network of loopback alone: the API and the store. Needs root on Linux.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "GAN_TEST_MACHINE"
SCRIPT = """
hostname "$1"
mount --bind "$2/work" "$3"
cd "$3"
exec "${@:4}"
"""


def can_make_machines() -> bool:
    """Return whether this process may make namespaces and mounts."""
    command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    return os.geteuid() == 0 and bool(shutil.which("unshare")) and _succeeds(command)


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Machine:
    """A machine on which one command runs. It can be killed as a whole, and started again with the same disk."""

    def __init__(self, lab: Path, name: str, work_dir: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.disk = lab / name
        self.log = self.disk / "log"
        self._work_dir = work_dir
        for folder in ("home", "work", "tmp"):
            (self.disk / folder).mkdir(parents=True)
        own = {"HOME": str(self.disk / "home"), "TMPDIR": str(self.disk / "tmp"), MARK: str(self.disk)}
        self._environment = os.environ | environment | own | {"PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> None:
        """Run a Python module on the machine, such as "-m", "flows.worker"."""
        inner = ["bash", "-ec", SCRIPT, "machine", self.name, str(self.disk), str(self._work_dir)]
        namespaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*namespaces, *inner, sys.executable, *words], env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """End all processes of the machine at once, as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def environments(self) -> list[dict[str, str]]:
        """Return the environment of each process of the machine."""
        mark = f"{MARK}={self.disk}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                lines = path.read_bytes().split(b"\0")
                if mark in lines:
                    found.append(dict(line.decode().partition("=")[::2] for line in lines if line))
        return found
