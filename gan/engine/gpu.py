"""How do networks of linear layers go forward and back on a GPU?

By torch's operations, which a CUDA graph launches; they run on a CPU as well, for tests.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.engine.base import R1_EVERY, aten
from gan.engine.linear import G_LAYERS, SLOPE_G, MlpEngine
from gan.engine.state import TrainState


class Linear(NamedTuple):
    """A linear layer as the products read it."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class Normed(NamedTuple):
    """What the way back through a batch norm reads."""

    raw: Tensor  # (B, width), before the norm
    mean: Tensor  # (width,)
    inv_std: Tensor  # (width,)


class GpuEngine(MlpEngine):
    """Take steps on a GPU: products and activations of the config's precision."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Keep copies of the weights where products are of another dtype than these."""
        dtype = torch.bfloat16 if config.precision == "bfloat16" else state.fixed_z.dtype
        super().__init__(state, config, dtype)
        generator, discriminator = state.generator.layers, state.discriminator.layers
        linears = [layer for layer in (*generator, *discriminator) if isinstance(layer, nn.Linear)]
        self.masters = [parameter.data for layer in linears for parameter in (layer.weight, layer.bias)]
        self.copies = [parameter.to(dtype) for parameter in self.masters]  # in the same dtype: the masters themselves
        layers = [Linear(*pair) for pair in zip(self.copies[::2], self.copies[1::2], strict=True)]
        self.g_layers, self.d_layers = layers[:5], layers[5:]
        self.head = Linear(*self.masters[-2:])  # the last of D, one output wide, is always in the state's dtype
        g_grads = iter(self.g_adam.grads)
        self.g_grads = [list(islice(g_grads, count)) for count in G_LAYERS]
        self.d_grads = [*zip(self.d_adam.grads[::2], self.d_adam.grads[1::2], strict=True)]

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's input, and each norm's."""
        if self.dtype != self.master:
            torch._foreach_copy_(self.copies, self.masters)  # as the last step left them
        if self.config.conditional:
            self.fake_digits = self.state.generator.digits(z)
            z = self.state.generator.inputs(z, self.fake_digits)
        hidden = F.leaky_relu_(F.linear(z, *self.g_layers[0]), SLOPE_G)
        self.g_inputs, self.normed = [z, hidden], []
        for layer, norm in zip(self.g_layers[1:4], self.norms, strict=True):
            assert norm.momentum is not None
            raw = F.linear(hidden, *layer)
            hidden, mean, inv_std = torch.native_batch_norm(
                raw, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps
            )
            F.leaky_relu_(hidden, SLOPE_G)
            self.g_inputs.append(hidden)
            self.normed.append(Normed(raw, mean, inv_std))
        self.num_tracked.add_(1)
        self.fake = F.linear(hidden, *self.g_layers[4]).tanh_()
        return self.fake

    def forward_d(self, fakes: Tensor) -> Tensor:
        """Return the logits (2B,), before a rectified head; keep each layer's input."""
        images = self.images_of(fakes)
        if self.config.conditional:
            self.tell(images, torch.cat([self.fake_digits, self.real.digits]))
        self.d_inputs = [images]
        for index, layer in enumerate(self.d_layers[:3]):
            hidden = F.leaky_relu_(F.linear(self.d_inputs[-1], *layer), self.slope)
            if self.masks:
                hidden.mul_(self.masks[index])
            self.d_inputs.append(hidden)
        return (self.d_inputs[-1].to(self.master) * self.head.weight).sum(1).add_(self.head.bias)

    def backward_d(self, slopes: Tensor) -> Tensor:
        """Update D; return the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        layers = self.deltas_d()
        penalties: list[Tensor | None] = [None] * 4
        if self.penalised:
            layers = iter([*layers])  # all of the way back first: the penalty reads every layer as it was
            penalties = [*self.penalty_grads()]
        narrow = slopes.to(self.dtype)
        for index, delta in layers:
            self.update_d(index, delta, slopes if index == 3 else narrow, penalties[index])
        return self.fake_delta

    def deltas_d(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each layer, the last first, with the deltas of the logits themselves, once its weight is not needed."""
        self.d_deltas: list[Tensor] = []  # of the hidden layers, the first one's first
        delta = self.ones[: 2 * self.config.batch_size].unsqueeze(1)
        for index in (3, 2, 1, 0):
            weight = self.d_layers[index].weight
            wanted = delta if index else delta[: self.config.batch_size]  # nobody reads the reals' pixels
            below = torch.mm(wanted, weight) if index < 3 else weight.expand(len(delta), -1)
            if index:
                below = aten.leaky_relu_backward(below, self.d_inputs[index], self.slope, True)
                if self.masks:
                    below.mul_(self.masks[index - 1])
                self.d_deltas.insert(0, below)
            yield index, delta
            delta = below
        self.fake_delta = delta

    def penalty_grads(self) -> list[Tensor]:
        """Return R1's gradients by D's weights.

        The reals' gradient by pixel is a product of weights with slopes of rectifiers between them, which are
        constants: its own gradients take one more way forward, that begins with what the way back ends with.
        """
        batch = self.config.batch_size
        deltas = [delta[batch:] for delta in self.d_deltas]
        ahead = torch.mm(deltas[0], self.d_layers[0].weight)  # (B, 784)
        ahead = ahead.mul_(self.r1_gamma * R1_EVERY / batch)
        grads = []
        for index, delta in enumerate(deltas):
            grads.append(torch.mm(delta.t(), ahead))
            ahead = torch.mm(ahead, self.d_layers[index].weight.t())
            inputs = self.d_inputs[index + 1][batch:]
            ahead = aten.leaky_relu_backward(ahead, inputs, self.slope, True)
            if self.masks:
                ahead.mul_(self.masks[index][batch:])
        return [*grads, ahead.sum(0, keepdim=True)]

    def update_d(self, index: int, delta: Tensor, slopes: Tensor, penalty: Tensor | None) -> None:
        """Update a layer, given the deltas (2B, out) of the logits, d_loss's slopes (2B, 1) and R1's gradient."""
        weight_grad, bias_grad = self.d_grads[index]
        if index == 3:
            torch.sum(slopes * self.d_inputs[index].to(self.master), 0, keepdim=True, out=weight_grad)
            torch.sum(slopes, 0, out=bias_grad)
        else:
            self.write_grads(delta * slopes, self.d_inputs[index], weight_grad, bias_grad)
        if penalty is not None:
            weight_grad.add_(penalty)
        self.d_adam.update(index)

    def backward_g(self, delta: Tensor, slopes: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        delta = aten.tanh_backward((delta * slopes).to(self.dtype), self.fake)
        norm_grads: list[Tensor] = []
        for index in (4, 3, 2, 1, 0):
            inputs = self.g_inputs[index]
            below = torch.mm(delta, self.g_layers[index].weight) if index else delta
            self.update_g(index, delta, norm_grads)
            if index:
                delta, norm_grads = aten.leaky_relu_backward(below, inputs, SLOPE_G, True), []
            if index > 1:
                norm, normed = self.norms[index - 2], self.normed[index - 2]
                delta, *norm_grads = aten.native_batch_norm_backward(
                    delta, normed.raw, norm.weight, None, None, normed.mean, normed.inv_std, True, norm.eps, [True] * 3
                )

    def update_g(self, index: int, delta: Tensor, norm_grads: list[Tensor]) -> None:
        """Update a layer, given g_loss's gradients by its output (B, out) and by the norm after it, if there is one."""
        weight_grad, bias_grad, *rest = self.g_grads[index]
        # A norm takes out what a bias before it adds: its gradient stays 0, and autograd's is a rounding error.
        self.write_grads(delta, self.g_inputs[index], weight_grad, None if norm_grads else bias_grad)
        if norm_grads:
            torch._foreach_copy_(rest, norm_grads)
        self.g_adam.update(index)

    def write_grads(self, delta: Tensor, inputs: Tensor, weight_grad: Tensor, bias_grad: Tensor | None = None) -> None:
        """Write the gradients by a layer's weight (out, in) and bias (out,)."""
        if self.dtype == self.master:
            torch.mm(delta.t(), inputs, out=weight_grad)
        else:
            weight_grad.copy_(torch.mm(delta.t(), inputs))
        if bias_grad is not None:
            torch.sum(delta, 0, dtype=self.master, out=bias_grad)
