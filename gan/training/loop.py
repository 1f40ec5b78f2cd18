"""How does a training run, step by step, and when does it yield a snapshot or end?"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gan.config import RunConfig
from gan.data.batches import Batches
from gan.engine.cuda_graphs import steps_for
from gan.engine.factory import engine_for
from gan.engine.state import NUM_FIXED, TrainState
from gan.errors import TrainingDivergedError
from gan.recipes.resolve import recipe_of


@dataclass(frozen=True)
class Snapshot:
    """The samples and losses of a training at a multiple of `snapshot_steps` or at its last step."""

    step: int
    images: Tensor  # (25, C, side, side) in [-1, 1], on the CPU
    g_loss: float  # means over the steps since the last snapshot
    d_loss: float
    num_steps: int  # number of steps done in `seconds`
    seconds: float  # of the loop itself, without its caller's work on snapshots


def train(
    state: TrainState, config: RunConfig, batches: Batches, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Snapshot]:
    """Train from `state.step` to `config.num_steps`. Yields a Snapshot every `snapshot_steps` and at the end.

    Changes `state` in place. Whenever the caller has control, `state` is consistent and can be saved. If `should_stop`
    returns True, the loop ends without a Snapshot after the current step, or on a GPU after the current CUDA graph.

    Raises:
        TrainingDivergedError: a loss or weight is NaN or infinite. The state since the last snapshot must be discarded.
    """
    losses = torch.empty(config.snapshot_steps, 2, device=state.device, dtype=state.fixed_z.dtype)
    engine = engine_for(state, config)
    steps = steps_for(engine, batches, losses)
    while state.step < config.num_steps and not should_stop():
        first = state.step
        goal = min(first - first % config.snapshot_steps + config.snapshot_steps, config.num_steps)
        began = time.perf_counter()
        with engine.running():
            while state.step < goal and not should_stop():
                fake = steps.take(goal)
        taken, row = state.step - first, first % config.snapshot_steps
        interval = losses[row : row + taken].cpu().numpy()  # waits for the device, once a snapshot
        seconds = time.perf_counter() - began
        _check_finite(state, interval, first)
        state.record(interval[:, 0], interval[:, 1])
        if state.step == goal:
            since = (goal - 1) // config.snapshot_steps * config.snapshot_steps
            g_loss, d_loss = float(state.g_losses[since:].mean()), float(state.d_losses[since:].mean())
            yield Snapshot(goal, _grid_images(state, config, fake), g_loss, d_loss, taken, seconds)


@torch.no_grad()
def _grid_images(state: TrainState, config: RunConfig, fake: Tensor) -> Tensor:
    images = fake[:NUM_FIXED] if recipe_of(config).grid == "batch" else state.sampler.eval()(state.fixed_z)
    state.generator.train()
    return images.float().cpu().clone()  # the engine overwrites these with its next fakes


def _check_finite(state: TrainState, losses: np.ndarray, first_step: int) -> None:
    bad = ~np.isfinite(losses).all(axis=1)
    if bad.any():
        step = first_step + int(bad.argmax()) + 1
        g_loss, d_loss = losses[bad.argmax()]
        found = f"g_loss is {g_loss}, d_loss is {d_loss}"
    else:
        tensors = [*state.generator.parameters(), *state.discriminator.parameters()]
        if bool(torch.stack([t.isfinite().all() for t in tensors]).all()):  # bool() waits for the device, once
            return
        step, found = state.step, "a weight is not finite"
    raise TrainingDivergedError(
        f"training diverged at step {step}: {found}. The checkpoint before it is intact; "
        "start another run with a lower --learning-rate or another --seed.",
        step,
        found,
    )
