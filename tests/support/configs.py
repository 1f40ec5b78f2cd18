"""What is the config of a run that a test makes up?"""

from typing import Any

from gan.config import RunConfig, TrainConfig
from gan.recipes.resolve import resolve


def resolved(asked: TrainConfig, seed: int = 0, num_threads: int = 1) -> RunConfig:
    """Return the config of a run on the CPU for a TrainConfig."""
    return resolve(asked, seed=seed, device="cpu", num_threads=num_threads)


def run_config(seed: int = 0, num_threads: int = 1, **fields: Any) -> RunConfig:
    """Return the config of a run on the CPU for these fields of a TrainConfig."""
    return resolved(TrainConfig(**fields), seed, num_threads)
