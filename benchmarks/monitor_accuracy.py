"""Does the monitor report each dead discriminator in time, and no other? `python -m benchmarks.monitor_accuracy`

The program trains `published` on 16 seeds, `tuned` on 8 and `dcgan` on 2, and compares the monitor's diagnoses with the
losses of every step. No training is rolled back or restarted. This takes about 35 minutes on two cores. The program
exits with 1 if a dead discriminator is reported too late or never, or if a working one is reported.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from benchmarks.timing import Precision
from gan.config import RecipeName, TrainConfig
from gan.data.dataset import Dataset, load_dataset
from gan.health import HealthEvent, stuck_steps
from gan.training.runner import open_run

IN_TIME_STEPS = 2000


@dataclass(frozen=True)
class MonitoredTraining:
    """A finished training, and what the monitor reported about it."""

    recipe: str
    seed: int
    num_steps: int
    dead_since: int | None  # the first of the last steps at which both losses were ln 2; None if D works
    events: tuple[HealthEvent, ...]
    monitor_share: float  # time of the monitor's check of a snapshot, divided by the loop's time for its steps

    @property
    def verdict(self) -> str:
        """Describe whether the monitor was right."""
        reported = [event.step for event in self.events if event.event == "dead_discriminator"]
        if self.dead_since is None:
            return "false alarm" if reported or (self.events and self.recipe != "published") else "right"
        if not reported:
            return "missed" if self.num_steps - self.dead_since >= IN_TIME_STEPS else "too late to tell"
        return "right" if 0 < reported[0] - self.dead_since < IN_TIME_STEPS else "at the wrong time"

    def __str__(self) -> str:
        state = f"dead since {self.dead_since}" if self.dead_since else "works"
        events = "; ".join(f"{event.event} at {event.step}, since {event.since}" for event in self.events)
        cost = f"{self.monitor_share:.2%} of the time"
        return f"{self.recipe:9}  seed {self.seed:2}  {state:16}  {self.verdict:16}  {cost}  {events or 'no events'}"


def train_monitored(
    recipe: RecipeName,
    seed: int,
    num_steps: int,
    data: Dataset,
    precision: Precision = "float32",
    snapshot_steps: int = 1000,
) -> MonitoredTraining:
    """Train on one thread, in a temporary directory. Diagnoses are only recorded."""
    config = TrainConfig(recipe=recipe, seed=seed, num_steps=num_steps, precision=precision, num_threads=1,
                         snapshot_steps=snapshot_steps, on_collapse="ignore")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", config, data) as run:
        snapshot = list(run.train())[-1]
        events = run.state.health.events
        began = time.perf_counter()
        run.monitor.examine(run.state, run.batches, snapshot)
        seconds = time.perf_counter() - began
        stuck = stuck_steps(run.state.g_losses, run.state.d_losses)
    dead_since = num_steps - stuck + 1 if stuck else None
    return MonitoredTraining(recipe, seed, num_steps, dead_since, events, seconds / snapshot.seconds)


def main() -> int:
    """Print one line per training. Return 0 if the monitor was right each time, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--published", type=int, default=16, metavar="SEEDS")
    parser.add_argument("--published-steps", type=int, default=6000, metavar="N")
    parser.add_argument("--tuned", type=int, default=8, metavar="SEEDS")
    parser.add_argument("--tuned-steps", type=int, default=10_000, metavar="N")
    parser.add_argument("--dcgan", type=int, default=2, metavar="SEEDS")
    parser.add_argument("--dcgan-steps", type=int, default=6000, metavar="N")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--jobs", type=int, default=2, help="Trainings that run at the same time, each on one thread.")
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    trainings: list[tuple[RecipeName, int, int]] = [
        *(("published", seed, args.published_steps) for seed in range(args.published)),
        *(("tuned", seed, args.tuned_steps) for seed in range(args.tuned)),
        *(("dcgan", seed, args.dcgan_steps) for seed in range(args.dcgan)),
    ]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(train_monitored, *each, data, args.precision) for each in trainings]
        found = []
        for future in running:
            found.append(future.result())
            print(found[-1], flush=True)  # noqa: T201
    wrong = [each for each in found if each.verdict not in ("right", "too late to tell")]
    num_dead = sum(each.dead_since is not None for each in found)
    print(f"{len(found)} trainings, {num_dead} with a dead discriminator, {len(wrong)} wrong verdicts")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
