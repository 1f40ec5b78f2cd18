"""How do networks of linear layers go forward and back?

Everything is written out, because these networks are a dozen matrix products and a graph of autograd's costs as
much as half of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.adam import join
from gan.config import TrainConfig
from gan.engine import R1_EVERY, Engine, aten
from gan.lanes import lanes_of
from gan.networks import MlpDiscriminator, dropout_masks
from gan.products import products_for
from gan.state import TrainState

SLOPE_G = 0.2  # of G's LeakyReLU
G_LAYERS = (2, 4, 4, 4, 2)  # parameters of each: a weight, a bias, and those of the norm after it
D_LAYERS = (2, 2, 2, 2)


class Linear(NamedTuple):
    """A linear layer as the products read it."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


class Normed(NamedTuple):
    """What the way back through a batch norm reads."""

    raw: Tensor  # (B, width), before the norm
    mean: Tensor  # (width,)
    inv_std: Tensor  # (width,)


def is_gpu(device: torch.device) -> bool:
    """Tell a GPU, whose activations take the products' dtype; on a CPU, products round what they read."""
    return device.type == "cuda"


class MlpEngine(Engine):
    """Take steps on `published` and `tuned`."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Start a thread in bfloat16 on two or more of a CPU's: it takes half of these, and half of the work.

        In float32, whose products take longer, it is quicker to spread each of them over all threads.
        """
        on_gpu, rounded = is_gpu(state.device), config.precision == "bfloat16"
        dtype = torch.bfloat16 if rounded and on_gpu else state.fixed_z.dtype
        self.num_threads = config.num_threads or 1
        self.num_helping = self.num_threads // 2 if rounded and not on_gpu else 0
        by_layer = (G_LAYERS, D_LAYERS) if self.num_helping else ([sum(G_LAYERS)], [sum(D_LAYERS)])
        super().__init__(state, config, dtype, by_layer)
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
        g_grads = iter(self.g_adam.grads)
        self.g_grads = [list(islice(g_grads, count)) for count in G_LAYERS]
        self.d_grads = [*zip(self.d_adam.grads[::2], self.d_adam.grads[1::2], strict=True)]
        self.num_tracked = join([t for norm in self.norms if (t := norm.num_batches_tracked) is not None])
        self.g_updates, self.d_updates = lanes_of(self, 2, self.num_helping)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute on the run's threads and at its precision while steps are taken; then finish all updates."""
        torch.set_num_threads(self.num_threads - self.num_helping)
        try:
            with self.products.at_work():
                yield
                self.g_updates.settle()
                self.d_updates.settle()
        finally:
            torch.set_num_threads(self.num_threads)

    def draw(self) -> Tensor:
        """Draw latents (B, latent_dim), and dropout masks (2B, width) for D's hidden layers or none."""
        z = super().draw()
        self.masks = dropout_masks(len(self.images), self.dropout, self.state.random, self.images)
        return z

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's input, and each norm's."""
        self.g_updates.settle()
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
        self.d_updates.settle()
        self.images = self.images.to(self.dtype)  # fakes come in it, reals in the state's
        if self.config.conditional:
            self.tell(self.images, torch.cat([self.fake_digits, digits]))
        self.d_inputs = [self.images]
        for index, layer in enumerate(self.d_layers[:3]):
            hidden = self.products.linear(self.d_inputs[-1], *layer, "leaky_relu", self.slope)
            if self.masks:
                hidden.mul_(self.masks[index])
            self.d_inputs.append(hidden)
        # A sum of products, not a product of matrices: of these, the factors may be rounded.
        return (self.d_inputs[-1].to(self.master) * self.head.weight).sum(1).add_(self.head.bias)

    def backward_d(self, slopes: Tensor, *, penalised: bool) -> Tensor:
        """Update D; return the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        layers = self.deltas_d()
        penalties: list[Tensor | None] = [None] * 4
        if penalised:
            layers = iter([*layers])  # all of the way back first: the penalty reads every layer as it was
            penalties = [*self.penalty_grads()]
        narrow = slopes.to(self.dtype)
        for index, delta in layers:
            self.d_updates.add(partial(self.update_d, index, delta, slopes if index == 3 else narrow, penalties[index]))
        return self.fake_delta

    def deltas_d(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each layer, the last first, with the deltas of the logits themselves, once its weight is not needed."""
        self.d_deltas: list[Tensor] = []  # of the hidden layers, the first one's first
        delta = self.ones[: 2 * self.config.batch_size].unsqueeze(1)
        for index in (3, 2, 1, 0):
            weight = self.d_layers[index].weight
            wanted = delta if index else delta[: self.config.batch_size]  # nobody reads the reals' pixels
            below = self.products.multiply(wanted, weight) if index < 3 else weight.expand(len(delta), -1)
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

    def backward_g(self, delta: Tensor) -> None:
        """Update G, given g_loss's gradients (B, 784) by the fakes."""
        delta = aten.tanh_backward(delta.to(self.dtype), self.fake)
        norm_grads: list[Tensor] = []
        for index in (4, 3, 2, 1, 0):
            inputs = self.g_inputs[index]
            below = self.products.multiply(delta, self.g_layers[index].weight) if index else delta
            self.g_updates.add(partial(self.update_g, index, delta, norm_grads))
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
            self.products.multiply(delta.t(), inputs, out=weight_grad)
        else:
            weight_grad.copy_(self.products.multiply(delta.t(), inputs))
        if bias_grad is not None:
            torch.sum(delta, 0, dtype=self.master, out=bias_grad)
