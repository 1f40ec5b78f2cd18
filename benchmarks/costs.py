"""How much memory do the commands need, and how much time besides the training: start, snapshots, end?"""

import json
import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Self

import click
from pydantic import BaseModel, ConfigDict

from benchmarks import usage
from benchmarks.timing import Setting
from benchmarks.usage import Usage
from gan.recipes.published import NUM_STEPS
from gan.runs.run_dir import RunDir, SnapshotMetrics

SNAPSHOT_STEPS = 1000


class Workflow(BaseModel):
    """The parts of the wall time of one `gan-train`, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_steps: int
    num_snapshots: int
    start_up: float  # until the first step: imports, Prefect's server, reading the data
    loop: float
    snapshots: float  # the loop waits for grids, checkpoints and events
    end: float  # the last checkpoint, report, manifest, Prefect's server

    @classmethod
    def of(cls, command: Usage, metrics: list[SnapshotMetrics]) -> Self:
        """Divide a command's wall time into its parts, by the metrics that it wrote."""
        first, last = metrics[0], metrics[-1]
        loop_began_at = datetime.fromisoformat(first.time).timestamp() - first.seconds
        last_at = datetime.fromisoformat(last.time).timestamp()
        return cls(
            num_steps=last.step,
            num_snapshots=len(metrics),
            start_up=loop_began_at - command.began_at,
            loop=last.seconds,
            snapshots=max(0.0, last_at - loop_began_at - last.seconds),
            end=command.ended_at - last_at,
        )

    @property
    def overhead(self) -> float:
        """Return the time of snapshots and end, divided by the time of the loop. The start does not count."""
        return (self.snapshots + self.end) / self.loop

    @property
    def full_overhead(self) -> float:
        """Return the same ratio, estimated for the published number of steps with a snapshot every 1000 steps."""
        loop = self.loop * NUM_STEPS / self.num_steps
        # The last snapshot's checkpoint is part of the end.
        snapshots = self.snapshots / (self.num_snapshots - 1) * (NUM_STEPS // SNAPSHOT_STEPS)
        return (snapshots + self.end) / loop


class Costs(BaseModel):
    """What the commands cost besides the steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gan_train_peak_rss_bytes: int  # of `gan train`
    workflow_peak_rss_bytes: int  # of `gan-train`
    workflow: Workflow
    gan_help_seconds: float
    gan_train_help_seconds: float  # of `gan-train --help`


def measure_costs(setting: Setting, num_steps: int, rounds: int, scratch: Path) -> Costs:
    """Run `gan-train` for `num_steps`, `gan train` for 3 snapshots, and the help of both `rounds` times."""
    snapshot_steps = min(SNAPSHOT_STEPS, max(1, num_steps // 3))
    training = [
        "--snapshot-steps", str(snapshot_steps),
        "--device", setting.device, "--num-threads", str(setting.num_threads), "--data-dir", str(setting.data_dir),
    ]  # fmt: skip
    few, all_steps = ["--num-steps", str(3 * snapshot_steps)], ["--num-steps", str(num_steps)]
    helps = [(run("gan", "--help").seconds, run("gan-train", "--help").seconds) for _ in range(rounds)]
    gan_train = run("gan", "train", "--run-dir", str(scratch / "run"), *training, *few)
    env = {"PREFECT_HOME": str(scratch / "prefect"), "PREFECT_API_URL": ""}
    store = str(scratch / "store")
    flow = run("gan-train", "--run-id", "bench", "--store", store, *training, *all_steps, env=env)
    metrics = RunDir(scratch / "store" / "runs" / "bench").read_metrics()
    return Costs(
        gan_train_peak_rss_bytes=gan_train.peak_rss_bytes,
        workflow_peak_rss_bytes=flow.peak_rss_bytes,
        workflow=Workflow.of(flow, metrics),
        gan_help_seconds=median(seconds for seconds, _ in helps),
        gan_train_help_seconds=median(seconds for _, seconds in helps),
    )


def run(command: str, *options: str, env: dict[str, str] | None = None) -> Usage:
    """Run one of our commands. Raises click.ClickException with the end of its error output if it fails."""
    words = [sys.executable, usage.__file__, str(Path(sys.executable).parent / command), *options]
    done = subprocess.run(words, env=os.environ | (env or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{shlex.join([command, *options])} failed:\n{done.stderr[-2000:]}")
    return Usage(**json.loads(done.stdout))
