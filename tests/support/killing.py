"""How are commands killed at random moments, and which files must be the same afterwards?"""

import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

MARK = "GAN_TEST_MARK"  # in the environment of a command and of all that it starts
PROMISED = ("checkpoints/*", "grids/*", "losses.npz")


def promised_bytes(run_dir: Path) -> dict[str, bytes]:
    """Read the files of a run whose bytes no interruption may change."""
    paths = [path for pattern in PROMISED for path in run_dir.glob(pattern)]
    return {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in paths}


def differing(ours: Path, undisturbed: Path) -> list[str]:
    """List the promised files that differ between two runs."""
    a, b = promised_bytes(ours), promised_bytes(undisturbed)
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


class Command:
    """A command, whose processes can all be found, also those in other sessions."""

    def __init__(self, command: Sequence[str | Path], cwd: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = cwd / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **environment, MARK: self.mark}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=_heed_interrupts,
            )  # fmt: skip

    def processes(self) -> list[int]:
        """List the running processes of this command and of its children."""
        wanted = f"{MARK}={self.mark}".encode()
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if wanted in _environment(pid)]

    def wait_until_all_are_gone(self, seconds: float = 15) -> list[int]:
        """Wait until every process has ended. Return those that still run."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def kill_until_done(
    command: Sequence[str | Path], cwd: Path, num_kills: int, max_delay: float, chance: random.Random, **env: str
) -> int:
    """Run a command again and again until it ends by itself, with SIGKILL after a random delay the first times.

    Returns how often it was killed. Raises AssertionError when a process outlives its command, or the command fails.
    """
    killed = 0
    while True:
        running = Command(command, cwd, **env)
        try:
            code = running.process.wait(timeout=chance.uniform(0, max_delay) if killed < num_kills else None)
        except subprocess.TimeoutExpired:
            running.process.send_signal(signal.SIGKILL)
            code = running.process.wait()
            killed += 1
        assert running.wait_until_all_are_gone() == []
        if code != -signal.SIGKILL:
            assert code == 0, running.log.read_text()[-2000:]
            return killed


def _heed_interrupts() -> None:
    """Let a command end at SIGINT, also if a shell started the tests in the background and ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended, or is a zombie
        return b""
