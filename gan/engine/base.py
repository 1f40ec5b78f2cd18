"""How does a step go: latents, fakes, logits, losses, the way back, Adam, EMA?

This is what all recipes have in common; how networks of a kind go forward and back stands in an engine of their own.
B is the batch size; D sees 2B images a step, the fakes being the first half. A `delta` is the gradient by a layer's
output, a row an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.data.batches import Real
from gan.engine.adam import Adam
from gan.engine.state import TrainState
from gan.recipes.augment import Shifts
from gan.recipes.networks import IMAGE_SHAPE

aten = torch.ops.aten
NO_REDUCTION = 0  # as aten counts them
FLUSH_EVERY = 50  # steps on a CPU between two looks for Adam's moments that are too small to matter
R1_EVERY = 10  # steps between two gradient penalties, each as strong as all of them (Karras et al. 2020, lazily)


class Engine(ABC):
    """Take steps on a TrainState in place.

    Products are of the config's precision; weights, moments, averages and losses of the state's own dtype.
    """

    def __init__(
        self,
        state: TrainState,
        config: TrainConfig,
        dtype: torch.dtype,
        layers: tuple[Sequence[int], Sequence[int]],
        adam: type[Adam] = Adam,
    ) -> None:
        """Read the state as it is now: whoever changes it otherwise than by `step` makes another Engine.

        `dtype` is that of activations; `layers` says how many parameters of G, and of D, are updated at a time.
        """
        assert config.ema_decay is not None and config.r1_gamma is not None
        assert config.beta1 is not None and config.beta2 is not None
        self.state, self.config = state, config
        self.r1_gamma, self.ema_decay = config.r1_gamma, config.ema_decay
        self.period = R1_EVERY if config.r1_gamma else 1  # steps after which the same is done again
        self.master = state.fixed_z.dtype
        self.rounded = np.float32 if self.master == torch.float32 else np.float64
        self.dtype = dtype
        betas = config.beta1, config.beta2
        self.g_adam = adam(state.generator, state.g_moments, betas, layers[0], state.ema)
        self.d_adam = adam(state.discriminator, state.d_moments, betas, layers[1])
        batch = config.batch_size
        self.shifts = Shifts(config.augment_translate or 0, state.device)
        # Rows to judge: the fakes as G wants them, the fakes as D should see them, the reals; and each row's share
        # in g_loss and in d_loss.
        like = state.fixed_z
        self.labels = like.new_tensor([1, 0, 1]).repeat_interleave(batch)  # (3B,)
        self.shares = like.new_tensor([[1, 0, 0], [0, 0.5, 0.5]]).div(batch).repeat_interleave(batch, dim=1)  # (2, 3B)
        self.share = self.shares.sum(0)  # (3B,)
        self.ones = torch.ones_like(self.labels)
        # glibc returns freed memory at once, and each page costs a fault to get again, unless it is less than
        # twice the largest block it has yet seen freed, of 32 MB at most: here is one.
        torch.empty(31 << 20, dtype=torch.uint8)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute on the run's threads while steps are taken; the state is whole before and after."""
        torch.set_num_threads(self.config.num_threads or 1)
        yield

    @torch.no_grad()
    def step(self, real: Real, losses: Tensor, ahead: int = 0, rates: Iterable[float | Tensor] | None = None) -> Tensor:
        """Make one G update and one D update; return the fakes (B, 1, 28, 28) and write (g_loss, d_loss).

        It is the step after `state.step`, or so many `ahead` of that; to be taken `at_work`. `rates` are by default as
        that step says.
        """
        step = self.state.step + ahead
        learning_rate, ema_weight = rates or self.rates(step)
        self.penalised = self.r1_gamma > 0 and step % self.period == 0
        z = self.draw()  # (B, latent_dim)
        shifted = self.config.shifts_after(step)
        self.chosen = self.shifts.draw(2 * len(z), self.state.random) if shifted else None  # (2B,)
        self.show(real)
        fake = self.forward_g(z)  # (B, 784)
        logits = self.forward_d(fake)  # (2B,)
        g_slopes, d_slopes = self.judge(logits, losses)  # (B, 1), (2B, 1)
        self.g_adam.begin(learning_rate, ema_weight)
        self.d_adam.begin(learning_rate, ema_weight)
        fake_delta = self.backward_d(d_slopes)  # (B, 784)
        if self.chosen is not None:
            fake_delta = self.shifts.back(fake_delta, self.chosen[: len(fake)])
        self.backward_g(fake_delta, g_slopes)
        if self.state.device.type == "cpu" and (step + 1) % FLUSH_EVERY == 0:
            self.flush()
        return fake.view(-1, *IMAGE_SHAPE)

    def flush(self) -> None:
        """Set Adam's moments to 0 that are too small to matter."""
        self.g_adam.flush()
        self.d_adam.flush()

    def draw(self) -> Tensor:
        """Draw latents (B, latent_dim)."""
        shape = (self.config.batch_size, self.config.latent_dim)
        z = torch.randn(shape, generator=self.state.random, device=self.state.device, dtype=self.master)
        return z.to(self.dtype)

    def show(self, real: Real) -> None:
        """Let D see the reals, for which it need not wait for the fakes; shifted by the second half of `chosen`."""
        self.real = real

    @abstractmethod
    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1], without a graph; keep what the way back reads."""

    @abstractmethod
    def forward_d(self, fakes: Tensor) -> Tensor:
        """Return the logits (2B,) of fakes (B, 784) and of the reals, before a rectified head; keep what to go back by.

        A D that is told the digits of images judges the reals as their own, the fakes as what G was asked for.
        """

    def images_of(self, fakes: Tensor) -> Tensor:
        """Return what D sees, (2B, 784), shifted if it is to be, in an engine that takes fakes and reals together."""
        images = torch.cat([fakes, self.real.images.flatten(1)]).to(self.dtype)
        return images if self.chosen is None else self.shifts.there(images, self.chosen)

    def judge(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss); return the derivatives of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        batch = self.config.batch_size
        rows = torch.cat([logits[:batch], logits])  # (3B,)
        if self.config.recipe == "published":
            probability = torch.sigmoid(F.relu(rows))
            row_losses = F.binary_cross_entropy(probability, self.labels, reduction="none")
            # BCELoss divides by the sigmoid's own derivative, but by 1e-12 where that is less: at p = 1 all is 0.
            slopes = aten.binary_cross_entropy_backward(self.ones, probability, self.labels, None, NO_REDUCTION)
            slopes = aten.threshold_backward(aten.sigmoid_backward(slopes, probability), rows, 0)
        else:
            row_losses = F.binary_cross_entropy_with_logits(rows, self.labels, reduction="none")
            slopes = torch.sigmoid(rows) - self.labels
        torch.mv(self.shares, row_losses, out=losses)
        slopes = slopes.mul_(self.share).unsqueeze(1)
        return slopes[:batch], slopes[batch:]

    @abstractmethod
    def backward_d(self, slopes: Tensor) -> Tensor:
        """Update D by d_loss, given its derivatives (2B, 1) by the logits, and by R1 where it is `penalised`.

        R1 is the reals' mean squared gradient by pixel times gamma / 2 (Mescheder et al. 2018); it stands for R1_EVERY
        steps. Rectifiers have no curvature: by biases it is 0.

        Return the gradients (B, 784) by pixel of the fakes' logits, each logit's own, by D as it was.
        """

    @abstractmethod
    def backward_g(self, delta: Tensor, slopes: Tensor) -> None:
        """Update G, and its average, given the logits' gradients (B, 784) by the fakes, g_loss's (B, 1) by logits."""

    def rates(self, step: int) -> tuple[float, float]:
        """Return what changes from step to step: Adam's step size, and the live generator's weight in the average.

        That weight is greater in the first steps, when the average is still short. Both are numbers of the master's
        dtype, in which a GPU reads them.
        """
        learning_rate = self.config.learning_rate_after(step)
        ema_weight = 1 - min(self.ema_decay, (step + 1) / (step + 10))
        return float(self.rounded(learning_rate)), float(self.rounded(ema_weight))
