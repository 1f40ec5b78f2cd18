"""How do networks of linear layers go forward and back?

Everything is written out, because these networks are a dozen matrix products and a graph of autograd's costs as
much as half of them.
"""

from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.engine import R1_EVERY, Engine, aten, join
from gan.networks import MlpDiscriminator, dropout_masks
from gan.products import products_for
from gan.state import TrainState

SLOPE_G = 0.2  # of G's LeakyReLU


class Linear(NamedTuple):
    """A linear layer as the products read it."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class Normed(NamedTuple):
    """What the way back through a batch norm reads."""

    raw: Tensor  # (B, width), before the norm
    mean: Tensor  # (width,)
    inv_std: Tensor  # (width,)


class MlpEngine(Engine):
    """Take steps on `published` and `tuned`."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        rounded = config.precision == "bfloat16"
        dtype = torch.bfloat16 if rounded and state.device.type == "cuda" else state.fixed_z.dtype
        super().__init__(state, config, dtype)
        assert config.dropout is not None and isinstance(state.discriminator, MlpDiscriminator)
        self.dropout, self.slope, self.tell = config.dropout, state.discriminator.slope, state.discriminator.tell
        self.products = products_for(state.device, dtype, rounded=rounded)
        generator, discriminator = state.generator.layers, state.discriminator.layers
        linears = [layer for layer in (*generator, *discriminator) if isinstance(layer, nn.Linear)]
        self.masters = [parameter.data for layer in linears for parameter in (layer.weight, layer.bias)]
        self.copies = [parameter.to(dtype) for parameter in self.masters]  # in the same dtype: the masters themselves
        layers = [Linear(*pair) for pair in zip(self.copies[::2], self.copies[1::2], strict=True)]
        self.g_layers, self.d_layers = layers[:5], layers[5:]
        self.head = Linear(*self.masters[-2:])  # the last of D, one output wide, is always in the state's dtype
        self.norms = [layer for layer in generator if isinstance(layer, nn.BatchNorm1d)]
        g_grads = iter(self.g_adam.grads)  # by layer: a weight's, a bias's, and those of the norm after it
        self.g_grads = [list(islice(g_grads, count)) for count in (2, 4, 4, 4, 2)]
        self.d_grads = [*zip(self.d_adam.grads[::2], self.d_adam.grads[1::2], strict=True)]
        self.num_tracked = join([t for norm in self.norms if (t := norm.num_batches_tracked) is not None])

    def draw(self) -> Tensor:
        """Draw latents (B, latent_dim), and dropout masks (2B, width) for D's hidden layers or none."""
        z = super().draw()
        self.masks = dropout_masks(len(self.images), self.dropout, self.state.random, self.images)
        return z

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's input, and each norm's."""
        if self.dtype != self.master:
            torch._foreach_copy_(self.copies, self.masters)  # as the last step left them
        if self.config.conditional:
            self.fake_digits = self.state.generator.digits(z)
            z = self.state.generator.inputs(z, self.fake_digits)
        hidden = self.products.linear(z, *self.g_layers[0], "leaky_relu", SLOPE_G)
        self.g_inputs, self.normed = [z, hidden], []
        for layer, norm in zip(self.g_layers[1:4], self.norms, strict=True):
            assert norm.momentum is not None
            raw = self.products.linear(hidden, *layer)
            hidden, mean, inv_std = torch.native_batch_norm(
                raw, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
            )
            F.leaky_relu_(hidden, SLOPE_G)
            self.g_inputs.append(hidden)
            self.normed.append(Normed(raw, mean, inv_std))
        self.num_tracked.add_(1)
        self.fake = self.products.linear(hidden, *self.g_layers[4], "tanh")
        return self.fake

    def forward_d(self, digits: Tensor) -> Tensor:
        """Return the logits (2B,) of `images`, before a rectified head; keep each layer's input."""
        if self.config.conditional:
            self.tell(self.images, torch.cat([self.fake_digits, digits]))
        self.d_inputs = [self.images]
        for index, layer in enumerate(self.d_layers[:3]):
            hidden = self.products.linear(self.d_inputs[-1], *layer, "leaky_relu", self.slope)
            if self.masks:
                hidden.mul_(self.masks[index])
            self.d_inputs.append(hidden)
        return F.linear(self.d_inputs[-1].to(self.master), *self.head).squeeze(1)

    def backward_d(self, slopes: Tensor) -> Tensor:
        """Write d_loss's gradients by D's parameters; return those (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        slopes_, (weight_grad, bias_grad) = slopes.to(self.dtype), self.d_grads[3]
        torch.mm(slopes.t(), self.d_inputs[3].to(self.master), out=weight_grad)
        torch.sum(slopes, 0, out=bias_grad)
        delta = self.d_layers[3].weight.expand(len(slopes), -1)  # (2B, 128)
        self.d_deltas: list[Tensor] = []  # of the logits themselves, the first layer's first
        for index in (2, 1, 0):
            delta = aten.leaky_relu_backward(delta, self.d_inputs[index + 1], self.slope, True)
            if self.masks:
                delta.mul_(self.masks[index])
            self.d_deltas.insert(0, delta)
            self.write_grads(delta * slopes_, self.d_inputs[index], *self.d_grads[index])
            wanted = delta if index else delta[: self.config.batch_size]  # nobody reads the reals' pixels
            delta = self.products.multiply(wanted, self.d_layers[index].weight)
        return delta

    def penalty_grads(self) -> list[Tensor]:
        """Return the gradients by D's weights of R1, the reals' mean squared gradient by pixel times gamma / 2.

        That gradient is a product of weights with slopes of rectifiers between them, which are constants: its own
        gradients take one more way forward, that begins with what the way back ends with.
        """
        batch = self.config.batch_size
        deltas = [delta[batch:] for delta in self.d_deltas]
        ahead = self.products.multiply(deltas[0], self.d_layers[0].weight)  # (B, 784)
        ahead = ahead.mul_(self.r1_gamma * R1_EVERY / batch)
        grads = []
        for index, delta in enumerate(deltas):
            grads.append(self.products.multiply(delta.t(), ahead))
            ahead = self.products.multiply(ahead, self.d_layers[index].weight.t())
            inputs = self.d_inputs[index + 1][batch:]
            ahead = aten.leaky_relu_backward(ahead, inputs, self.slope, True)
            if self.masks:
                ahead.mul_(self.masks[index][batch:])
        return [*grads, ahead.sum(0, keepdim=True)]

    def backward_g(self, delta: Tensor) -> None:
        """Write g_loss's gradients by G's parameters, given those (B, 784) by the fakes."""
        delta = aten.tanh_backward(delta.to(self.dtype), self.fake)
        self.write_grads(delta, self.g_inputs[4], *self.g_grads[4])
        for index in (3, 2, 1):
            delta = self.products.multiply(delta, self.g_layers[index + 1].weight)
            delta = aten.leaky_relu_backward(delta, self.g_inputs[index + 1], SLOPE_G, True)
            norm, normed = self.norms[index - 1], self.normed[index - 1]
            delta, *norm_grads = aten.native_batch_norm_backward(
                delta, normed.raw, norm.weight, None, None, normed.mean, normed.inv_std, True, norm.eps, [True] * 3
            )
            weight_grad, _, *rest = self.g_grads[index]
            # The norm takes out what a bias before it adds: its gradient stays 0, and autograd's is a rounding error.
            self.write_grads(delta, self.g_inputs[index], weight_grad)
            torch._foreach_copy_(rest, norm_grads)
        delta = self.products.multiply(delta, self.g_layers[1].weight)
        delta = aten.leaky_relu_backward(delta, self.g_inputs[1], SLOPE_G, True)
        self.write_grads(delta, self.g_inputs[0], *self.g_grads[0])

    def write_grads(self, delta: Tensor, inputs: Tensor, weight_grad: Tensor, bias_grad: Tensor | None = None) -> None:
        """Write the gradients by a layer's weight (out, in) and bias (out,)."""
        if self.dtype == self.master:
            self.products.multiply(delta.t(), inputs, out=weight_grad)
        else:
            weight_grad.copy_(self.products.multiply(delta.t(), inputs))
        if bias_grad is not None:
            torch.sum(delta, 0, dtype=self.master, out=bias_grad)
