"""How does a stage run in a process of its own, no longer than its limit, and what is written about it?"""

import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.gpu_check.settings import NotRunError, Settings, Stage
from gan.files import atomic_write

NOT_RUN = 75  # the exit code of a stage that cannot run here
LEAST_SECONDS = 10  # with less time left, a stage is not started
ROOT = Path(__file__).parents[2]


class Outcome(BaseModel):
    """What came of a stage: the content of its JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    stage: str
    why: str
    status: str  # "passed", "failed: ..." or "not run: ..."
    seconds: float
    limit_seconds: float
    figures: dict[str, float | int | str]

    @property
    def failed(self) -> bool:
        """Return whether the stage ran and did not pass."""
        return self.status.startswith("failed")


def run_stage(stage: Stage, settings: Settings, out: Path, seconds_left: float) -> Outcome:
    """Run a stage for at most its limit and the seconds left. Write NAME.json, and what it prints to NAME.log."""
    began, limit = time.monotonic(), min(stage.limit, seconds_left)
    figures = out / f"{stage.name}.figures"
    figures.write_bytes(b"")
    if stage.needs_gpu and settings.device == "cpu":
        status = "not run: needs a GPU"
    elif limit < LEAST_SECONDS:
        status = "not run: no time was left"
    else:
        with tempfile.TemporaryDirectory() as scratch:
            status = _run_process(stage, settings.model_copy(update={"scratch": Path(scratch)}), out, limit)
    outcome = Outcome(
        stage=stage.name,
        why=stage.why,
        status=status,
        seconds=round(time.monotonic() - began, 1),
        limit_seconds=round(limit, 1),
        figures=dict(json.loads(line) for line in figures.read_text().splitlines()),
    )
    atomic_write(out / f"{stage.name}.json", outcome.model_dump_json(indent=2).encode() + b"\n")
    figures.unlink()
    return outcome


def _run_process(stage: Stage, settings: Settings, out: Path, limit: float) -> str:
    """Run a stage's process, and kill it and its children at the limit. Return the status."""
    name = f"{stage.run.__module__}:{stage.run.__qualname__}"
    words = [sys.executable, "-m", __name__, name, settings.model_dump_json(), str(out / f"{stage.name}.figures")]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    log = out / f"{stage.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": path}, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"failed: it took longer than {limit:.0f} s"
        finally:
            _kill(process)
    said = log.read_text(errors="replace").strip().split("\n")[-1]
    return {0: "passed", NOT_RUN: f"not run: {said}"}.get(code, f"failed: {said or f'it ended with {code}'}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


class Figures:
    """Write each figure down as soon as it is known: the process may be killed at any time."""

    def __init__(self, path: Path) -> None:
        """Append to a file."""
        self.path = path

    def __call__(self, name: str, value: float | int | str) -> None:
        """Append a figure, a line of JSON."""
        with self.path.open("a") as file:
            file.write(json.dumps([name, value]) + "\n")


def main(run: str, settings: str, figures: str) -> int:
    """Run a stage in this process. Return its exit code; the last line that it prints says what was wrong."""
    try:
        pkgutil.resolve_name(run)(Settings.model_validate_json(settings), Figures(Path(figures)))
    except NotRunError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_RUN
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
