"""What does one training step compute, whichever networks and device it has?

An Engine does the parts that all recipes share: draw the inputs, compute the losses, schedule Adam and the average.
Its subclasses compute the forward and backward passes. docs/engine.md explains the formulae.

B is the batch size. D sees 2B images in a step, the first half of which are fakes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import RunConfig
from gan.data.batches import Real
from gan.device import set_numerics
from gan.engine.adam import Adam
from gan.engine.custom_loss import loss_grads
from gan.engine.state import TrainState
from gan.recipes.augment import Translation
from gan.recipes.base import CustomLoss
from gan.recipes.resolve import recipe_of

aten = torch.ops.aten
NO_REDUCTION = 0  # aten's number for reduction="none"
ZERO_SMALL_EVERY = 50  # steps on a CPU between two searches for moments of Adam that are too small to matter
R1_EVERY = 10  # steps between two gradient penalties, each of which counts for all ten (Karras et al. 2020)

# Update D, given d_loss's gradients (2B, 1) by the logits, and by R1 on steps where it is due.
# Return each fake's logit's gradients (B, pixels) by the fake's pixels, computed with D's weights before the update.
BackwardD = Callable[[Tensor], Tensor]
# Update G and its average, given the logits' gradients (B, pixels) by the fakes and g_loss's (B, 1) by the logits.
BackwardG = Callable[[Tensor, Tensor], None]


class StepInputs(NamedTuple):
    """What one step computes from, besides the state."""

    real: Real
    z: Tensor  # (B, latent_dim), of the activations' dtype
    fake_labels: Tensor | None  # (B,) the classes that z decides; None where the networks are not class-conditional
    masks: list[Tensor]  # dropout masks (2B, width) of D's hidden layers; empty without dropout
    translations: Tensor | None  # (2B,) which translation each of D's images gets; None before augmentation starts
    r1_due: bool  # whether this step updates D by R1, too


class Engine(ABC):
    """Take training steps on a TrainState, in place.

    Matrix products and activations have the config's precision. Weights, moments, averages and losses have the
    state's own dtype.
    """

    def __init__(
        self,
        state: TrainState,
        config: RunConfig,
        compute_dtype: torch.dtype,
        layer_sizes: tuple[Sequence[int], Sequence[int]],
        adam_class: type[Adam] = Adam,
    ) -> None:
        """Prepare for steps on `state`. Make a new Engine after changing the state other than by `step`.

        `compute_dtype` is the activations' dtype; `layer_sizes` holds, for G and for D, how many parameters each
        update of Adam changes.
        """
        set_numerics()
        self.state, self.config = state, config
        self.r1_gamma, self.ema_decay = config.r1_gamma, config.ema_decay
        self.period = R1_EVERY if config.r1_gamma else 1  # steps after which the same operations repeat
        self.param_dtype = state.fixed_z.dtype
        self.compute_dtype = compute_dtype
        betas = config.beta1, config.beta2
        self.g_adam = adam_class(state.generator, state.g_moments, betas, layer_sizes[0], state.ema)
        self.d_adam = adam_class(state.discriminator, state.d_moments, betas, layer_sizes[1])
        batch = config.batch_size
        self.image_shape = state.generator.image_shape
        shape = config.data_shape
        background = [value / 127.5 - 1 for value in shape.background[: shape.channels]]
        self.translation = Translation(config.augment_translate, state.device, shape.side, background)
        # The losses are weighted sums of 3B cross-entropies: the fakes with G's label, the fakes with D's label, the
        # reals. A row of loss_weights is one loss.
        like = state.fixed_z
        self.labels = like.new_tensor([1, 0, 1]).repeat_interleave(batch)  # (3B,)
        loss_weights = like.new_tensor([[1, 0, 0], [0, 0.5, 0.5]])
        self.loss_weights = loss_weights.div(batch).repeat_interleave(batch, dim=1)  # (2, 3B): g_loss, d_loss
        self.grad_weights = self.loss_weights.sum(0)  # (3B,) each entry's weight in its own loss
        self.ones = torch.ones_like(self.labels)
        # glibc returns a freed block to the system at once, and each of its pages costs a page fault when it is needed
        # again, unless a block at least half as large was freed before (32 MB at most). So free such a block here.
        torch.empty(31 << 20, dtype=torch.uint8)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set torch's threads as the run has them. Take steps inside; the state is complete before and after."""
        torch.set_num_threads(self.config.num_threads)
        yield

    @torch.no_grad()
    def step(
        self, real: Real, losses: Tensor, offset: int = 0, rates: Iterable[float | Tensor] | None = None
    ) -> Tensor:
        """Make one G update and one D update. Return the fakes (B, C, side, side), and write both losses to `losses`.

        Call it inside `running`. The caller counts `state.step`. A CUDA graph of several steps passes each step's
        `offset` from it, and `rates` as tensors; by default they are `self.rates(step)`.
        """
        step = self.state.step + offset
        learning_rate, ema_weight = rates or self.rates(step)
        inputs = self.draw_inputs(step, real)
        self.start_on_reals(inputs)
        fake, backward_g = self.forward_g(inputs)  # (B, pixels)
        logits, backward_d = self.forward_d(fake, inputs)  # (2B,)
        g_grad_logits, d_grad_logits = self.compute_losses(logits, losses)  # (B, 1), (2B, 1)
        self.g_adam.begin(learning_rate, ema_weight)
        self.d_adam.begin(learning_rate, ema_weight)
        fake_grad = backward_d(d_grad_logits)  # (B, pixels)
        if inputs.translations is not None:
            fake_grad = self.translation.backward(fake_grad, inputs.translations[: len(fake)])
        backward_g(fake_grad, g_grad_logits)
        if self.state.device.type == "cpu" and (step + 1) % ZERO_SMALL_EVERY == 0:
            self.zero_small_moments()
        return fake.view(-1, *self.image_shape)

    def draw_inputs(self, step: int, real: Real) -> StepInputs:
        """Draw latents, dropout masks and translations, in this order, from the state's random stream."""
        batch, rng = self.config.batch_size, self.state.rng
        shape = batch, self.config.latent_dim
        z = torch.randn(shape, generator=rng, device=self.state.device, dtype=self.param_dtype).to(self.compute_dtype)
        return StepInputs(
            real=real,
            z=z,
            fake_labels=self.state.generator.labels(z) if self.config.conditional else None,
            masks=self.draw_masks(like=z),
            translations=self.translation.draw(2 * batch, rng) if self.config.translates_after(step) else None,
            r1_due=self.r1_gamma > 0 and step % self.period == 0,
        )

    def draw_masks(self, like: Tensor) -> list[Tensor]:
        """Draw dropout masks (2B, width) for D's hidden layers in `like`'s dtype. By default there is no dropout."""
        return []

    def zero_small_moments(self) -> None:
        """Set to 0 the moments of Adam that are too small to matter."""
        self.g_adam.zero_small_moments()
        self.d_adam.zero_small_moments()

    def start_on_reals(self, inputs: StepInputs) -> None:  # noqa: B027 - a hook
        """Start what D computes of the reals, which does not depend on the fakes. By default `forward_d` does it."""

    @abstractmethod
    def forward_g(self, inputs: StepInputs) -> tuple[Tensor, BackwardG]:
        """Return fakes (B, pixels) in [-1, 1], without an autograd graph, and their backward pass."""

    @abstractmethod
    def forward_d(self, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, BackwardD]:
        """Return the logits (2B,) of fakes (B, pixels) and reals, before a rectified head, and their backward pass.

        A class-conditional D sees the reals with their own classes, and the fakes with those that z decides.
        """

    def images_for_d(self, fake: Tensor, inputs: StepInputs) -> Tensor:
        """Return fakes and reals as D sees them, (2B, pixels): translated, if augmentation has started."""
        images = torch.cat([fake, inputs.real.images.flatten(1)]).to(self.compute_dtype)
        return images if inputs.translations is None else self.translation.apply(images, inputs.translations)

    def compute_losses(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss). Return the gradients of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        batch = self.config.batch_size
        loss = recipe_of(self.config).loss
        if isinstance(loss, CustomLoss):
            return loss_grads(loss, f"recipe {self.config.recipe}", logits, losses)
        entries = torch.cat([logits[:batch], logits])  # (3B,)
        if loss == "rectified_bce":
            probability = torch.sigmoid(F.relu(entries))
            entropies = F.binary_cross_entropy(probability, self.labels, reduction="none")
            # BCELoss divides by the sigmoid's derivative, or by 1e-12 where that is less: the gradient is 0 at p = 1.
            grads = aten.binary_cross_entropy_backward(self.ones, probability, self.labels, None, NO_REDUCTION)
            grads = aten.threshold_backward(aten.sigmoid_backward(grads, probability), entries, 0)
        else:
            entropies = F.binary_cross_entropy_with_logits(entries, self.labels, reduction="none")
            grads = torch.sigmoid(entries) - self.labels
        torch.mv(self.loss_weights, entropies, out=losses)
        grads = grads.mul_(self.grad_weights).unsqueeze(1)
        return grads[:batch], grads[batch:]

    def rates(self, step: int) -> tuple[float, float]:
        """Return Adam's step size, and the live generator's weight in the average, after `step` steps.

        The weight is greater in the first steps, while the average is short. Both are rounded to the parameters'
        dtype, since a GPU reads them as tensors of it.
        """
        round_to = np.float32 if self.param_dtype == torch.float32 else np.float64
        learning_rate = self.config.learning_rate_after(step)
        ema_weight = 1 - min(self.ema_decay, (step + 1) / (step + 10))
        return float(round_to(learning_rate)), float(round_to(ema_weight))
