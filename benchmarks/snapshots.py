"""Does a snapshot cost more as a run gets longer? `python -m benchmarks.snapshots [--count 10000]`

The program writes snapshots of 10 steps each into a run directory, as a training does, but trains nothing. The state
has 10 weights. So the files which could grow with the run are the largest part. It prints, for each tenth of the
snapshots, the bytes that one writes and its CPU time. 10,000 snapshots take about ten minutes.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from gan.config import TrainConfig
from gan.health import Health
from gan.recipes.resolve import resolve
from gan.runs.journal import Journal
from gan.runs.run_dir import RunDir
from gan.runs.tensorboard import EventLog
from gan.training.loop import Snapshot
from gan.training.writer import SnapshotWriter

STEPS = 10  # of a snapshot
NUM_ROWS = 10


class Cost(NamedTuple):
    """What this process has written and computed so far."""

    num_bytes: int  # given to write(2)
    cpu_seconds: float


def main(count: int) -> None:
    """Write the snapshots and print the table."""
    config = resolve(TrainConfig(num_steps=count * STEPS, snapshot_steps=STEPS), seed=0, device="cpu", num_threads=1)
    state: Any = SimpleNamespace(step=0, health=Health(), g_losses=np.empty(0), d_losses=np.empty(0))
    state.tensors = lambda: _tensors(state)
    images = torch.rand(25, 1, 28, 28) * 2 - 1
    print("| snapshots | kB a snapshot | CPU ms a snapshot |\n|---|---|---|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.write_config(config)
        journal = Journal(run_dir.path)
        journal.begin({}, {})
        with EventLog(run_dir.tensorboard_dir, 0) as events:
            writer = SnapshotWriter(run_dir, journal, config, events, state)
            per_row = max(count // NUM_ROWS, 1)
            for first in range(0, count, per_row):
                before = cost()
                for _ in range(per_row):
                    _train(state)
                    writer.write(Snapshot(state.step, images, 1.0, 1.0, STEPS, 1.0), state)
                after = cost()
                kb = (after.num_bytes - before.num_bytes) / per_row / 1000
                milliseconds = 1000 * (after.cpu_seconds - before.cpu_seconds) / per_row
                print(f"| {first + 1:,} to {first + per_row:,} | {kb:.1f} | {milliseconds:.1f} |", flush=True)  # noqa: T201


def cost() -> Cost:
    """Return what this process has cost so far."""
    written = re.search(r"^wchar: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    assert written
    return Cost(int(written[1]), time.process_time())


def _train(state: Any) -> None:
    state.step += STEPS
    losses = np.full(state.step, 0.7, np.float32)
    state.g_losses = state.d_losses = losses


def _tensors(state: Any) -> dict[str, torch.Tensor]:
    losses = torch.from_numpy(state.g_losses)
    return {"step": torch.tensor(state.step), "weights": torch.zeros(10), "g_losses": losses, "d_losses": losses}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Does a snapshot cost more as a run gets longer?")
    parser.add_argument("--count", type=int, default=10_000, help="snapshots to write")
    main(parser.parse_args().count)
