"""How do convolutional networks go forward and back? By autograd, which is asked for what is read and no more."""

import torch
from torch import Tensor

from gan.config import TrainConfig
from gan.engine.base import R1_EVERY, Engine
from gan.engine.state import TrainState
from gan.recipes.networks import IMAGE_SHAPE, ConvDiscriminator


class ConvEngine(Engine):
    """Take steps on `dcgan`.

    D sees the fakes and the reals one after the other, so that the way back to the fakes' pixels passes no reals.
    """

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Make cuDNN, for the whole process, choose none but kernels that give the same bits again."""
        self.g_parameters = list(state.generator.parameters())
        self.d_parameters = list(state.discriminator.parameters())
        dtype = torch.bfloat16 if config.precision == "bfloat16" else state.fixed_z.dtype
        super().__init__(state, config, dtype, ([len(self.g_parameters)], [len(self.d_parameters)]))
        assert isinstance(state.discriminator, ConvDiscriminator)
        self.discriminator = state.discriminator
        torch.backends.cudnn.deterministic = True

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep their graph, and which digits they are to be."""
        self.fake_digits = self.state.generator.digits(z)
        with torch.enable_grad(), self.autocast():
            self.fake: Tensor = self.state.generator(z)
        images: Tensor = self.fake.detach().flatten(1)
        return images

    def forward_d(self, fakes: Tensor) -> Tensor:
        """Return the logits (2B,); keep the graphs of both halves. The head is in the state's own dtype."""
        halves = torch.split(self.images_of(fakes).view(-1, *IMAGE_SHAPE), self.config.batch_size)
        self.pixels = [half.detach().requires_grad_() for half in halves]
        with torch.enable_grad():
            with self.autocast():
                hidden = [self.discriminator.layers(pixels) for pixels in self.pixels]
            self.logits = [
                self.discriminator.judge(each.to(self.master), of_half)
                for each, of_half in zip(hidden, (self.fake_digits, self.real.digits), strict=True)
            ]
        return torch.cat(self.logits).detach()

    def backward_d(self, slopes: Tensor) -> Tensor:
        """Update D; return the gradients (B, 784) of the fakes' logits by pixel."""
        fake, by_logit = self.logits[0], torch.split(slopes.squeeze(1), self.config.batch_size)
        (delta,) = torch.autograd.grad(fake, self.pixels[0], torch.ones_like(fake), retain_graph=True)
        grads = torch.autograd.grad(self.logits, self.d_parameters, by_logit, retain_graph=True)
        torch._foreach_copy_(self.d_adam.grads, grads)
        if self.penalised:
            torch._foreach_add_(self.d_adam.grads[::2], self.penalty_grads())
        self.d_adam.update(0)
        return delta.flatten(1)

    def penalty_grads(self) -> list[Tensor]:
        """Return the gradients by D's weights of R1, the reals' mean squared gradient by pixel times gamma / 2."""
        real = self.logits[1]
        with torch.enable_grad():
            (delta,) = torch.autograd.grad(real, self.pixels[1], torch.ones_like(real), create_graph=True)
            penalty = delta.to(self.master).square().sum() * (self.r1_gamma / 2 * R1_EVERY / len(real))
        return list(torch.autograd.grad(penalty, self.d_parameters[::2]))

    def backward_g(self, delta: Tensor, slopes: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        delta = delta * slopes
        grads = torch.autograd.grad(self.fake, self.g_parameters, delta.view_as(self.fake).to(self.dtype))
        torch._foreach_copy_(self.g_adam.grads, grads)
        self.g_adam.update(0)

    def autocast(self) -> torch.autocast:
        """Compute in the config's precision; weights are cast anew each time, since they change in place."""
        narrow = self.dtype != self.master
        return torch.autocast(self.state.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False)
