"""How does a GAN train: one step, and the loop over steps?"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gan.batches import Batches
from gan.config import TrainConfig
from gan.errors import TrainingDivergedError
from gan.losses import loss_of
from gan.networks import dropout_masks
from gan.state import NUM_FIXED, TrainState


@dataclass(frozen=True)
class Snapshot:
    """What a training shows at a multiple of `snapshot_steps` and at its last step."""

    step: int
    images: Tensor  # (25, 1, 28, 28) in [-1, 1], on the CPU
    g_loss: float  # means over the steps since the last snapshot
    d_loss: float
    num_steps: int  # steps that `seconds` were spent on
    seconds: float  # of the loop alone, without what its caller does with snapshots


def train(
    state: TrainState, config: TrainConfig, batches: Batches, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Snapshot]:
    """Train from `state.step` to `config.num_steps`, yielding a Snapshot every `snapshot_steps` and at the end.

    Changes `state` in place; between two snapshots and after the end it is whole, and may be saved. When
    `should_stop` answers true the loop ends after the step in hand, without a Snapshot.

    Raises:
        TrainingDivergedError: a loss or weight is NaN or infinite; nothing since the last snapshot should be kept.
    """
    assert config.num_steps is not None
    torch.set_num_threads(config.num_threads or 1)
    losses = torch.empty(config.snapshot_steps, 2, device=state.device, dtype=state.fixed_z.dtype)
    while state.step < config.num_steps and not should_stop():
        first = state.step
        goal = min(first - first % config.snapshot_steps + config.snapshot_steps, config.num_steps)
        began = time.perf_counter()
        while state.step < goal and not should_stop():
            fake = train_step(state, config, batches(state.step + 1), losses[state.step - first])
            state.step += 1
        taken = state.step - first
        interval = losses[:taken].cpu().numpy()  # waits for the device, once a snapshot
        seconds = time.perf_counter() - began
        _check_finite(state, interval, first)
        state.record(interval[:, 0], interval[:, 1])
        if state.step == goal:
            since = (goal - 1) // config.snapshot_steps * config.snapshot_steps
            g_loss, d_loss = float(state.g_losses[since:].mean()), float(state.d_losses[since:].mean())
            yield Snapshot(goal, _grid_images(state, config, fake), g_loss, d_loss, taken, seconds)


def train_step(state: TrainState, config: TrainConfig, real: Tensor, losses: Tensor) -> Tensor:
    """Make one G update and one D update; return the fakes (B, 1, 28, 28) and write (g_loss, d_loss) to `losses`.

    D has not changed between its two losses, so one pass over the fakes serves both; the gradients that nobody
    reads (of g_loss to D, of d_loss to G) are never computed.
    """
    assert config.dropout is not None
    generator, discriminator, loss = state.generator, state.discriminator, loss_of(config.recipe)
    z = torch.randn(
        len(real), config.latent_dim, generator=state.random, device=state.device, dtype=state.fixed_z.dtype
    )
    fake_dropout = dropout_masks(len(real), config.dropout, state.random, z)
    real_dropout = dropout_masks(len(real), config.dropout, state.random, z)

    fake: Tensor = generator(z)  # (B, 1, 28, 28)
    fake_logits = discriminator(fake, fake_dropout)  # (B,)
    g_loss = loss(fake_logits, 1.0)
    g_grads = torch.autograd.grad(g_loss, list(generator.parameters()), retain_graph=True)

    real_logits = discriminator(real, real_dropout)  # (B,)
    d_loss = 0.5 * (loss(real_logits, 1.0) + loss(fake_logits, 0.0))
    d_grads = torch.autograd.grad(d_loss, list(discriminator.parameters()))

    _update(state.g_optimizer, g_grads)
    _update(state.d_optimizer, d_grads)
    _average(state, config)
    losses[0], losses[1] = g_loss.detach(), d_loss.detach()
    return fake.detach()


def _update(optimizer: torch.optim.Optimizer, grads: tuple[Tensor, ...]) -> None:
    parameters = optimizer.param_groups[0]["params"]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    optimizer.step()


@torch.no_grad()
def _average(state: TrainState, config: TrainConfig) -> None:
    """Move the EMA generator towards the live one, faster in the first steps, when the average is still short."""
    if state.ema is None or config.ema_decay is None:
        return
    decay = min(config.ema_decay, (state.step + 1) / (state.step + 10))
    targets = [t for t in state.ema.state_dict().values() if t.is_floating_point()]
    sources = [t for t in state.generator.state_dict().values() if t.is_floating_point()]
    torch._foreach_lerp_(targets, sources, 1 - decay)


@torch.no_grad()
def _grid_images(state: TrainState, config: TrainConfig, fake: Tensor) -> Tensor:
    images = fake[:NUM_FIXED] if config.recipe == "published" else state.sampler.eval()(state.fixed_z)
    state.generator.train()
    return images.float().cpu()


def _check_finite(state: TrainState, losses: np.ndarray, first_step: int) -> None:
    bad = ~np.isfinite(losses).all(axis=1)
    if bad.any():
        step = first_step + int(bad.argmax()) + 1
        g_loss, d_loss = losses[bad.argmax()]
        found = f"g_loss is {g_loss}, d_loss is {d_loss}"
    else:
        tensors = [*state.generator.parameters(), *state.discriminator.parameters()]
        if all(bool(t.isfinite().all()) for t in tensors):
            return
        step, found = state.step, "a weight is not finite"
    raise TrainingDivergedError(
        f"training diverged at step {step}: {found}. The checkpoint before it is intact; "
        "start another run with a lower --learning-rate or another --seed."
    )
