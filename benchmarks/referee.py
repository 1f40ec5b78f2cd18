"""Does the referee report each death in time, and nothing that lives? `python -m benchmarks.referee --data-dir data`

Trains published on 16 seeds, tuned on 8 and dcgan on 2, none of them sent back, and holds what the referee said against
the losses of every step. Some 35 minutes on two cores; exits 1 when a death is reported late, or a living one at all.
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
from gan.runs.runner import open_run

IN_TIME_STEPS = 2000


@dataclass(frozen=True)
class Watched:
    """Say how a training went, and what the referee said of it."""

    recipe: str
    seed: int
    num_steps: int
    died: int | None  # the first step from which both losses were ln 2 to the end
    events: tuple[HealthEvent, ...]
    share: float  # of the loop's time that the referee's look at a snapshot takes

    @property
    def verdict(self) -> str:
        """Say in a word whether the referee was right."""
        reported = [event.step for event in self.events if event.event == "dead_discriminator"]
        if self.died is None:
            return "false alarm" if reported or (self.events and self.recipe != "published") else "right"
        if not reported:
            return "missed" if self.num_steps - self.died >= IN_TIME_STEPS else "too late to tell"
        return "right" if 0 < reported[0] - self.died < IN_TIME_STEPS else "at the wrong time"

    def __str__(self) -> str:
        died = f"died at {self.died}" if self.died else "lives"
        said = "; ".join(f"{event.event} at {event.step}, since {event.since}" for event in self.events)
        cost = f"{self.share:.2%} of the time"
        return f"{self.recipe:9}  seed {self.seed:2}  {died:14}  {self.verdict:12}  {cost}  {said or 'nothing said'}"


def watch(
    recipe: RecipeName,
    seed: int,
    num_steps: int,
    data: Dataset,
    precision: Precision = "float32",
    snapshot_steps: int = 1000,
) -> Watched:
    """Train on one thread, without being sent back, in a directory that is thrown away."""
    config = TrainConfig(recipe=recipe, seed=seed, num_steps=num_steps, precision=precision, num_threads=1,
                         snapshot_steps=snapshot_steps, on_collapse="ignore")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", config, data) as run:
        snapshot = list(run.train())[-1]
        events = run.state.health.events
        began = time.perf_counter()
        run.monitor.examine(run.state, run.batches, snapshot)
        seconds = time.perf_counter() - began
        stuck = stuck_steps(run.state.g_losses, run.state.d_losses)
    died = num_steps - stuck + 1 if stuck else None
    return Watched(recipe, seed, num_steps, died, events, seconds / snapshot.seconds)


def main() -> int:
    """Print a line a training; return 1 unless the referee was right each time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--published", type=int, default=16, metavar="SEEDS")
    parser.add_argument("--published-steps", type=int, default=6000, metavar="N")
    parser.add_argument("--tuned", type=int, default=8, metavar="SEEDS")
    parser.add_argument("--tuned-steps", type=int, default=10_000, metavar="N")
    parser.add_argument("--dcgan", type=int, default=2, metavar="SEEDS")
    parser.add_argument("--dcgan-steps", type=int, default=6000, metavar="N")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--jobs", type=int, default=2, help="Trainings at a time, one thread each.")
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    plan: list[tuple[RecipeName, int, int]] = [
        *(("published", seed, args.published_steps) for seed in range(args.published)),
        *(("tuned", seed, args.tuned_steps) for seed in range(args.tuned)),
        *(("dcgan", seed, args.dcgan_steps) for seed in range(args.dcgan)),
    ]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(watch, *each, data, args.precision) for each in plan]
        found = []
        for future in running:
            found.append(future.result())
            print(found[-1], flush=True)  # noqa: T201
    wrong = [each for each in found if each.verdict not in ("right", "too late to tell")]
    print(f"{len(found)} trainings, {sum(each.died is not None for each in found)} died, {len(wrong)} judged wrongly")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
