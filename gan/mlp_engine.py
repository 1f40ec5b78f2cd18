"""How do networks of linear layers go forward and back?

Everything is written out, because these networks are a dozen matrix products and a graph of autograd's costs as
much as half of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.engine import R1_EVERY, Engine, join
from gan.networks import MlpDiscriminator, dropout_masks
from gan.products import products_for
from gan.state import TrainState

aten = torch.ops.aten
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
        super().__init__(state, config)
        assert config.dropout is not None and isinstance(state.discriminator, MlpDiscriminator)
        self.dropout, self.slope, dtype = config.dropout, state.discriminator.slope, self.dtype
        self.products = products_for(state.device, dtype)
        generator, discriminator = state.generator.layers, state.discriminator.layers
        linears = [layer for layer in (*generator, *discriminator) if isinstance(layer, nn.Linear)]
        self.masters = [parameter.data for layer in linears for parameter in (layer.weight, layer.bias)]
        self.copies = [parameter.to(dtype) for parameter in self.masters]  # in the same dtype: the masters themselves
        layers = [Linear(*pair) for pair in zip(self.copies[::2], self.copies[1::2], strict=True)]
        self.g_layers, self.d_layers = layers[:5], layers[5:]
        self.head = Linear(*self.masters[-2:])  # the last of D, one output wide, is always in the state's dtype
        self.norms = [layer for layer in generator if isinstance(layer, nn.BatchNorm1d)]
        self.zero_grads = [torch.zeros_like(norm.bias) for norm in self.norms]
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

    def forward_d(self) -> Tensor:
        """Return the logits (2B,) of `images`, before a rectified head; keep each layer's input."""
        self.d_inputs = [self.images]
        for index, layer in enumerate(self.d_layers[:3]):
            hidden = self.products.linear(self.d_inputs[-1], *layer, "leaky_relu", self.slope)
            if self.masks:
                hidden.mul_(self.masks[index])
            self.d_inputs.append(hidden)
        return F.linear(self.d_inputs[-1].to(self.master), *self.head).squeeze(1)

    def backward_d(self, slopes: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return d_loss's gradients by D's parameters, and the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        last, slopes_ = self.d_inputs[-1].to(self.master), slopes.to(self.dtype)
        grads = [[torch.mm(slopes.t(), last), slopes.sum(0)]]
        delta = self.d_layers[3].weight.expand(len(slopes), -1)  # (2B, 128)
        self.d_deltas: list[Tensor] = []  # of the logits themselves, the first layer's first
        for index in (2, 1, 0):
            delta = aten.leaky_relu_backward(delta, self.d_inputs[index + 1], self.slope, True)
            if self.masks:
                delta.mul_(self.masks[index])
            self.d_deltas.insert(0, delta)
            grads.append(self.layer_grads(delta * slopes_, self.d_inputs[index]))
            wanted = delta if index else delta[: self.config.batch_size]  # nobody reads the reals' pixels
            delta = self.products.multiply(wanted, self.d_layers[index].weight)
        return in_order(grads), delta

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

    def backward_g(self, delta: Tensor) -> list[Tensor]:
        """Return g_loss's gradients by G's parameters, given those (B, 784) by the fakes."""
        delta = aten.tanh_backward(delta.to(self.dtype), self.fake)
        grads = [self.layer_grads(delta, self.g_inputs[4])]
        for index in (3, 2, 1, 0):
            delta = self.products.multiply(delta, self.g_layers[index + 1].weight)
            delta = aten.leaky_relu_backward(delta, self.g_inputs[index + 1], SLOPE_G, True)
            if index == 0:
                grads.append(self.layer_grads(delta, self.g_inputs[0]))
                break
            norm, normed = self.norms[index - 1], self.normed[index - 1]
            delta, *norm_grads = aten.native_batch_norm_backward(
                delta, normed.raw, norm.weight, None, None, normed.mean, normed.inv_std, True, norm.eps, [True] * 3
            )
            # The norm takes out what a bias before it adds: its gradient is 0, and autograd's a rounding error.
            weight_grad = self.products.multiply(delta.t(), self.g_inputs[index]).to(self.master)
            grads.append([weight_grad, self.zero_grads[index - 1], *norm_grads])
        return in_order(grads)

    def layer_grads(self, delta: Tensor, inputs: Tensor) -> list[Tensor]:
        """Return the gradients by a layer's weight (out, in) and bias (out,)."""
        weight_grad = self.products.multiply(delta.t(), inputs)
        return [weight_grad.to(self.master), delta.sum(0).to(self.master)]


def in_order(grads: list[list[Tensor]]) -> list[Tensor]:
    """Flatten gradients, found from the last layer to the first, into the order of parameters()."""
    return [grad for layer in reversed(grads) for grad in layer]
