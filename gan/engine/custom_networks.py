"""How are the networks of somebody else's recipe trained? By torch's autograd, without an assumption about them."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gan.config import RunConfig
from gan.engine.autograd import AutogradEngine, Half
from gan.engine.base import BackwardD, StepInputs
from gan.engine.state import TrainState
from gan.recipes.base import CustomNetworks
from gan.recipes.custom.wrapped import call
from gan.recipes.resolve import recipe_of


class CustomEngine(AutogradEngine):
    """Take steps on CustomNetworks.

    An image may reach the logits of others in its batch, as through a batch norm. So the gradient of g_loss by the
    pixels is taken at once, and not as the product of each image's two derivatives.
    """

    def __init__(self, state: TrainState, config: RunConfig) -> None:
        """Let R1 have gradients by all of D's parameters, unless the recipe says that it reaches the weights alone."""
        super().__init__(state, config)
        networks = recipe_of(config).networks
        assert isinstance(networks, CustomNetworks)
        if not networks.piecewise_linear:
            self.d_weights, self.d_weight_grads = self.d_parameters, self.d_adam.grads
        self.scratch = torch.empty(2, device=state.device, dtype=self.param_dtype)  # for losses that are not kept

    def forward_d(self, fake: Tensor, inputs: StepInputs) -> tuple[Tensor, BackwardD]:
        """Return the logits (2B,), and their backward pass."""
        images = self.images_for_d(fake, inputs).view(-1, *self.image_shape)
        labels = self.state.generator.labels(inputs.z)
        fake_half, real_half = torch.split(images, len(fake))
        halves = self.half(fake_half, labels), self.half(real_half, inputs.real.labels)
        logits = torch.cat([half.logits for half in halves]).detach()
        g_grad_logits, _ = self.compute_losses(logits, self.scratch)  # (B, 1); D's update comes before G's
        return logits, partial(self.custom_backward_d, *halves, inputs.r1_due, g_grad_logits)

    def half(self, images: Tensor, labels: Tensor) -> Half:
        """Return images (B, C, side, side), and their logits (B,) in the state's own dtype."""
        pixels = images.detach().requires_grad_()
        with torch.enable_grad(), self.autocast():
            logits = self.state.discriminator(pixels, labels)
        with torch.enable_grad():
            return Half(pixels, logits.to(self.param_dtype))

    def custom_backward_d(
        self, fake: Half, real: Half, r1_due: bool, g_grad_logits: Tensor, grad_logits: Tensor
    ) -> Tensor:
        """Update D. Return the gradients (B, pixels) of g_loss by the fakes' pixels."""
        (fake_grad,) = self.grads([fake.logits], [fake.pixels], [g_grad_logits.squeeze(1)])
        self.update_d(fake, real, r1_due, grad_logits)
        return fake_grad.flatten(1)

    def backward_g(self, fake: Tensor, fake_grad: Tensor, grad_logits: Tensor) -> None:
        """Update G, given g_loss's gradients (B, pixels) by the fakes."""
        grad = fake_grad.view_as(fake).to(fake.dtype)
        torch._foreach_copy_(self.g_adam.grads, self.grads([fake], self.g_parameters, [grad]))
        self.g_adam.update_all()

    def grads(
        self,
        outputs: Sequence[Tensor],
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor] | None = None,
        *,
        create_graph: bool = False,
    ) -> list[Tensor]:
        """Return the gradients of the weighted outputs by the inputs; zeros where an output does not depend on one.

        Raises RecipeError where autograd cannot take them.
        """

        def differentiate() -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                outputs, inputs, weights, retain_graph=True, create_graph=create_graph, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip

        return list(call(f"recipe {self.config.recipe}: its backward pass", differentiate))
