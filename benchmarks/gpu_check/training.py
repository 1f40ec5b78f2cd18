"""How long do whole trainings take, how good are their samples, and how much memory do they need?"""

import resource
import time

import torch

from benchmarks.gpu_check.settings import CheckFailedError, Record, Settings
from gan.config import RecipeName, TrainConfig
from gan.data.dataset import Dataset, load_dataset
from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
from gan.recipes.draw import draw
from gan.runs.sampling import load_sampler
from gan.training.runner import Run, open_run

SNAPSHOT_STEPS = 1000
# A distance that is worse fails. docs/results.md: dcgan has 1.82 ± 0.28, and tuned after 20,000 steps at most 5.4.
MAX_DISTANCE: dict[RecipeName, float] = {"tuned": 5.4, "dcgan": 2.7}


def train_tuned(settings: Settings, record: Record) -> None:
    """Train and judge the default recipe."""
    train_and_judge("tuned", 92_763, settings, record)


def train_dcgan(settings: Settings, record: Record) -> None:
    """Train and judge the convolutions."""
    train_and_judge("dcgan", 30_000, settings, record)


def train_and_judge(recipe: RecipeName, num_steps: int, settings: Settings, record: Record) -> None:
    """Train a run and evaluate it, as `gan train` and `gan evaluate` do."""
    asked = TrainConfig(
        recipe=recipe, device=settings.device, num_steps=settings.scaled(num_steps, least=10),
        snapshot_steps=settings.scaled(SNAPSHOT_STEPS, least=10),
    )  # fmt: skip
    data = load_dataset(settings.data_dir)
    with open_run(settings.scratch / "run", asked, data) as run:
        record("computed in", run.config.precision)
        record_training(run, record)
    record_memory(settings.device, record)
    distance = judge(settings, data, record)
    if settings.scale >= 1 and distance > MAX_DISTANCE[recipe]:
        raise CheckFailedError(f"the distance is {distance:.2f}, and should be at most {MAX_DISTANCE[recipe]}")


def record_training(run: Run, record: Record) -> None:
    """Train to the end. Record the times after each snapshot."""
    began, loop = time.perf_counter(), 0.0
    for snapshot in run.train():
        loop += snapshot.seconds
        record("steps", snapshot.step)
        record("loop, s", round(loop, 2))
        record("steps/s", round(snapshot.step / loop, 1))
        record("loop and snapshots, s", round(time.perf_counter() - began, 2))
    record("restarts", len(run.state.health.rewinds))


def record_memory(device: str, record: Record) -> None:
    """Record the peaks of this process."""
    record("peak memory, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)  # kilobytes on Linux
    if device == "cuda":
        record("peak GPU memory of tensors, MB", torch.cuda.max_memory_allocated() // 10**6)
        record("peak GPU memory as reserved, MB", torch.cuda.max_memory_reserved() // 10**6)


def judge(settings: Settings, data: Dataset, record: Record) -> float:
    """Record the figures of the samples that `gan evaluate` measures. Return the Fréchet distance."""
    began = time.perf_counter()
    network, config, _ = load_sampler(settings.scratch / "run")
    found = Evaluator(data, settings.device).evaluate(draw(network, config.latent_dim, NUM_SAMPLES, seed=0))
    record("judging, s", round(time.perf_counter() - began, 1))
    for name in ("distance", "score", "precision", "recall"):
        metric = getattr(found, name)
        record(name, round(metric.value, 3))
    record("distance: error", round(found.distance.error, 3))
    record("distance of real images", round(found.distance.floor, 3))
    record("classes covered", found.classes_covered or 0)
    return found.distance.value
