"""Which functions does Numba compile for training? This program compiles them, so that the next process starts fast.

`make setup` runs it. Numba stores the compiled code beside the sources, and compiles again after a change.
"""

import logging
import sys

import numpy as np
import torch

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.training.loop import train

NUM_STEPS = 50  # at step 50, Adam's small moments are set to 0 for the first time
BATCH_SIZE = 25


def main() -> int:
    """Train on small batches for a few steps in each precision, and in float64, which the tests use."""
    logging.disable(logging.WARNING)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, 28, 28), np.uint8)
    labels = rng.integers(0, 10, BATCH_SIZE, np.uint8)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.float32), ("float32", torch.float64)):
        for recipe in ("published", "tuned"):
            asked = TrainConfig(recipe=recipe, precision=precision, num_steps=NUM_STEPS, batch_size=BATCH_SIZE)
            config = resolve(asked, seed=0, device="cpu", num_threads=1)
            batches = Batches(images, labels, BATCH_SIZE, 0, dtype=dtype)
            for _ in train(TrainState(config, dtype), config, batches):
                pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
