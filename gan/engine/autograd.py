"""How are networks without an engine of their own trained? By torch's autograd, for the gradients that are used."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gan.config import RunConfig
from gan.engine.base import R1_EVERY, BackwardD, BackwardG, Engine, StepInputs
from gan.engine.state import TrainState
from gan.recipes.mlp_networks import ScoredByClass


class Half(NamedTuple):
    """The fakes or the reals in D, with their autograd graph."""

    pixels: Tensor  # (B, C, side, side)
    logits: Tensor  # (B,)


class AutogradEngine(Engine):
    """Take steps on `dcgan`, and on `tuned` where the images are not of MNIST's form.

    D sees the fakes and the reals one after the other. So the gradients by the fakes' pixels cost no work on reals.
    """

    def __init__(self, state: TrainState, config: RunConfig) -> None:
        """List the parameters by autograd's order; R1 has gradients for the weights alone."""
        self.g_parameters = list(state.generator.parameters())
        self.d_parameters = list(state.discriminator.parameters())
        compute_dtype = torch.bfloat16 if config.precision == "bfloat16" else state.fixed_z.dtype
        super().__init__(state, config, compute_dtype, ([len(self.g_parameters)], [len(self.d_parameters)]))
        # R1 does not depend on biases: LeakyReLU is linear on each side of 0.
        is_weight = [parameter.dim() > 1 for parameter in self.d_parameters]
        self.d_weights = [p for p, is_one in zip(self.d_parameters, is_weight, strict=True) if is_one]
        self.d_weight_grads = [g for g, is_one in zip(self.d_adam.grads, is_weight, strict=True) if is_one]

    def forward_g(self, inputs: StepInputs) -> tuple[Tensor, BackwardG]:
        """Return fakes (B, pixels) in [-1, 1], and their backward pass."""
        with torch.enable_grad(), self.autocast():
            fake: Tensor = self.state.generator(inputs.z)
        return fake.detach().flatten(1), partial(self.backward_g, fake)

    def forward_d(self, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, BackwardD]:
        """Return the logits (2B,), and their backward pass. D's head has the state's own dtype."""
        discriminator = self.state.discriminator
        assert isinstance(discriminator, ScoredByClass)
        images = self.images_for_d(fake, inputs).view(-1, *self.image_shape)
        fake_pixels, real_pixels = (half.detach().requires_grad_() for half in torch.split(images, len(fake)))
        with torch.enable_grad():
            with self.autocast():
                fake_hidden = discriminator.layers(fake_pixels)
                real_hidden = discriminator.layers(real_pixels)
            fake_labels = inputs.real.labels if inputs.fake_labels is None else inputs.fake_labels  # None: not read
            fake_logits = discriminator.class_logits(fake_hidden.to(self.param_dtype), fake_labels)
            real_logits = discriminator.class_logits(real_hidden.to(self.param_dtype), inputs.real.labels)
        halves = Half(fake_pixels, fake_logits), Half(real_pixels, real_logits)
        return torch.cat([fake_logits, real_logits]).detach(), partial(self.backward_d, *halves, inputs.r1_due)

    def backward_d(self, fake: Half, real: Half, r1_due: bool, grad_logits: Tensor) -> Tensor:
        """Update D. Return the gradients (B, pixels) of the fakes' logits by their pixels."""
        (fake_grad,) = self.grads([fake.logits], [fake.pixels], [torch.ones_like(fake.logits)])
        self.update_d(fake, real, r1_due, grad_logits)
        return fake_grad.flatten(1)

    def update_d(self, fake: Half, real: Half, r1_due: bool, grad_logits: Tensor) -> None:
        """Update D, given d_loss's gradients (2B, 1) by the logits."""
        grad_halves = torch.split(grad_logits.squeeze(1), len(fake.logits))
        grads = self.grads([fake.logits, real.logits], self.d_parameters, grad_halves)
        torch._foreach_copy_(self.d_adam.grads, grads)
        if r1_due:
            torch._foreach_add_(self.d_weight_grads, self.penalty_grads(real))
        self.d_adam.update_all()

    def penalty_grads(self, real: Half) -> list[Tensor]:
        """Return R1's gradients by D's weights. R1 is the reals' mean squared gradient by pixel, times gamma / 2."""
        with torch.enable_grad():
            ones = [torch.ones_like(real.logits)]
            (real_grad,) = self.grads([real.logits], [real.pixels], ones, create_graph=True)
            weight = self.r1_gamma / 2 * R1_EVERY / len(real.logits)
            penalty = real_grad.to(self.param_dtype).square().sum() * weight
        return self.grads([penalty], self.d_weights)

    def grads(
        self,
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor] | None = None,
        *,
        create_graph: bool = False,
    ) -> list[Tensor]:
        """Return the gradients of the weighted outputs by the inputs, and keep the graph for more of them."""
        return list(torch.autograd.grad(outputs, inputs, weights, retain_graph=True, create_graph=create_graph))

    def backward_g(self, fake: Tensor, fake_grad: Tensor, grad_logits: Tensor) -> None:
        """Update G, given the logits' gradients (B, pixels) by the fakes and g_loss's (B, 1) by the logits."""
        grad = (fake_grad * grad_logits).view_as(fake).to(self.compute_dtype)
        torch._foreach_copy_(self.g_adam.grads, self.grads([fake], self.g_parameters, [grad]))
        self.g_adam.update_all()

    def autocast(self) -> torch.autocast:
        """Compute in the config's precision. Weights are cast anew each time, since they change in place."""
        enabled = self.compute_dtype != self.param_dtype
        return torch.autocast(self.state.device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
