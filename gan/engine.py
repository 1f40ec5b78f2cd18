"""How does a step go: latents, fakes, logits, losses, the way back, Adam, EMA?

This is what all recipes have in common; how networks of a kind go forward and back stands in an engine of their own.
B is the batch size; D sees 2B images at once, first the fakes, then the reals. A `delta` is the gradient by a layer's
output, a row an image.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.batches import Real
from gan.config import TrainConfig
from gan.networks import IMAGE_SHAPE, NUM_PIXELS
from gan.shifts import Shifts
from gan.state import TrainState

aten = torch.ops.aten
NO_REDUCTION = 0  # as aten counts them
R1_EVERY = 10  # steps between two gradient penalties, each as strong as all of them (Karras et al. 2020, lazily)


class Engine(ABC):
    """Take steps on a TrainState in place.

    Products are of the config's precision; weights, moments, averages and losses of the state's own dtype.
    """

    def __init__(self, state: TrainState, config: TrainConfig, dtype: torch.dtype) -> None:
        """Read the state as it is now: whoever changes it otherwise than by `step` makes another Engine.

        `dtype` is that of activations.
        """
        assert config.ema_decay is not None and config.r1_gamma is not None
        self.state, self.config = state, config
        self.r1_gamma, self.ema_decay = config.r1_gamma, config.ema_decay
        self.period = R1_EVERY if config.r1_gamma else 1  # steps after which the same is done again
        self.master = state.fixed_z.dtype
        self.dtype = dtype
        self.live = join(floats(state.generator))
        self.averages = join(floats(state.ema)) if state.ema is not None else None
        self.g_adam = Adam(state.g_optimizer, self.live)
        self.d_adam = Adam(state.d_optimizer, join(floats(state.discriminator)))
        batch = config.batch_size
        self.images = torch.empty(2 * batch, NUM_PIXELS, device=state.device, dtype=self.dtype)
        self.shifts = Shifts(config.max_shift, self.images) if config.max_shift else None
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

    @torch.no_grad()
    def step(self, real: Real, losses: Tensor, ahead: int = 0, rates: Iterable[float | Tensor] | None = None) -> Tensor:
        """Make one G update and one D update; return the fakes (B, 1, 28, 28) and write (g_loss, d_loss).

        It is the step after `state.step`, or so many `ahead` of that. `rates` are by default as that step says.
        """
        step = self.state.step + ahead
        learning_rate, ema_weight = rates or self.rates(step)
        fake = self.forward_g(self.draw())  # (B, 784)
        torch.cat([fake, real.images.flatten(1)], out=self.images)
        shifts = self.shifts if self.config.shifts_after(step) else None
        if shifts:
            chosen = shifts.draw(len(self.images), self.state.random)
            self.images = shifts.there(self.images, chosen)
        logits = self.forward_d(real.digits)  # (2B,)
        g_slopes, d_slopes = self.judge(logits, losses)  # (B, 1), (2B, 1)
        fake_delta = self.backward_d(d_slopes)  # (B, 784)
        if shifts:
            fake_delta = shifts.back(fake_delta, chosen[: len(fake)])
        self.backward_g(fake_delta * g_slopes)
        if step % self.period == 0 and self.r1_gamma:
            torch._foreach_add_(self.d_adam.grads[::2], self.penalty_grads())
        self.g_adam.step(learning_rate)
        self.d_adam.step(learning_rate)
        if self.averages is not None:
            self.averages.lerp_(self.live, ema_weight)
        return fake.view(-1, *IMAGE_SHAPE)

    def draw(self) -> Tensor:
        """Draw latents (B, latent_dim)."""
        shape = (self.config.batch_size, self.config.latent_dim)
        z = torch.randn(shape, generator=self.state.random, device=self.state.device, dtype=self.master)
        return z.to(self.dtype)

    @abstractmethod
    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1], without a graph; keep what the way back reads."""

    @abstractmethod
    def forward_d(self, digits: Tensor) -> Tensor:
        """Return the logits (2B,) of `images`, before a rectified head; keep what the way back reads.

        A D that is told the digits of images judges the reals as these (B,), the fakes as what G was asked for.
        """

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
        """Write d_loss's gradients into `d_adam.grads`, given those (2B, 1) by the logits.

        Return the gradients (B, 784) by pixel of the fakes' logits, each logit's own.
        """

    @abstractmethod
    def penalty_grads(self) -> list[Tensor]:
        """Return the gradients by D's weights of R1, the reals' mean squared gradient by pixel times gamma / 2.

        (Mescheder et al. 2018.) It stands for R1_EVERY steps. Rectifiers have no curvature: by biases it is 0.
        """

    @abstractmethod
    def backward_g(self, delta: Tensor) -> None:
        """Write g_loss's gradients into `g_adam.grads`, given those (B, 784) by the fakes."""

    def rates(self, step: int) -> tuple[float, float]:
        """Return what changes from step to step: Adam's step size, and the live generator's weight in the average.

        That weight is greater in the first steps, when the average is still short. Both are numbers of the master's
        dtype, in which a GPU reads them.
        """
        config = self.config
        learning_rate = config.refine_learning_rate if config.refines_after(step) else config.learning_rate
        ema_weight = 1 - min(self.ema_decay, (step + 1) / (step + 10))
        rounded = torch.tensor([learning_rate, ema_weight], dtype=self.master).tolist()
        return rounded[0], rounded[1]


class Adam:
    """Adam on one network as one long tensor, without the optimizer's bookkeeping, on the optimizer's own tensors."""

    def __init__(self, optimizer: torch.optim.Adam, joined: Tensor) -> None:
        """Take the network's floats as they are joined, parameters last; join the moments likewise."""
        group = optimizer.param_groups[0]
        self.betas, self.eps = group["betas"], group["eps"]
        states = [optimizer.state[parameter] for parameter in group["params"]]
        means, squares, self.num_steps = (join([s[k] for s in states]) for k in ("exp_avg", "exp_avg_sq", "step"))
        grads = torch.zeros_like(means)
        self.tensors: tuple[list[Tensor], ...] = (
            [joined[-len(means) :]], [grads], [means], [squares], [], [self.num_steps[0]],
        )  # fmt: skip
        self.grads = split_like(grads, group["params"])  # in the order of parameters()

    def step(self, learning_rate: float | Tensor) -> None:
        """Update the parameters by `grads`."""
        self.num_steps.add_(1)
        beta1, beta2 = self.betas
        torch._fused_adam_(
            *self.tensors, lr=learning_rate, beta1=beta1, beta2=beta2, eps=self.eps, weight_decay=0.0, amsgrad=False,
            maximize=False,
        )  # fmt: skip


def floats(network: nn.Module) -> list[Tensor]:
    """Return a network's running statistics and, after them, its parameters, themselves."""
    tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
    return sorted(tensors, key=lambda t: isinstance(t, nn.Parameter))


def join(tensors: Sequence[Tensor]) -> Tensor:
    """Make tensors views of one new tensor, so that one operation changes them all."""
    joined = torch.cat([t.data.flatten() for t in tensors])
    for t, view in zip(tensors, split_like(joined, tensors), strict=True):
        t.data = view
    return joined


def split_like(joined: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a joined tensor, each in the shape of one of `tensors`."""
    parts = torch.split(joined, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
