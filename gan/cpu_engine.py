"""How do networks of linear layers go forward and back on a CPU?

By torch's products and compiled kernels, on memory that is laid out once: what a step allocates, and what it tells
torch to do in small pieces, costs as much as half of its products.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan import kernels
from gan.adam import Adam
from gan.config import TrainConfig
from gan.engine import R1_EVERY
from gan.lanes import lanes_of
from gan.mlp_engine import D_LAYERS, G_LAYERS, SLOPE_G, MlpEngine
from gan.narrow_adam import NARROW, NarrowAdam, bits
from gan.networks import NUM_PIXELS
from gan.products import multiply_for
from gan.state import TrainState


class Matrix(NamedTuple):
    """A matrix as torch multiplies it and, on the same memory, as kernels read it."""

    tensor: Tensor
    array: np.ndarray

    @classmethod
    def of(cls, rows: int, columns: int, dtype: torch.dtype) -> "Matrix":
        """Lay out a matrix of zeros."""
        tensor = torch.zeros(rows, columns, dtype=dtype)
        return cls(tensor, bits(tensor))


class Norm(NamedTuple):
    """A batch norm as kernels read it, its gradients, and what its way back needs; each (width,)."""

    momentum: float
    eps: float
    scale: np.ndarray
    shift: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray
    scale_grad: np.ndarray
    shift_grad: np.ndarray
    mean: np.ndarray
    inv_std: np.ndarray

    @classmethod
    def of(cls, norm: nn.BatchNorm1d, grads: list[Tensor]) -> "Norm":
        """Share the memory of a norm and of its gradients."""
        running_mean, running_var, momentum = norm.running_mean, norm.running_var, norm.momentum
        assert running_mean is not None and running_var is not None and momentum is not None
        scale, shift = norm.weight.data, norm.bias.data
        tensors = scale, shift, running_mean, running_var, *grads, *scale.new_zeros(2, len(scale))
        return cls(momentum, norm.eps, *(tensor.numpy() for tensor in tensors))


class Layer:
    """A linear layer, its gradients, and room for what goes through it: B or 2B rows."""

    def __init__(
        self, weight: Tensor, bias: Tensor, grads: list[Tensor], rows: int, norm: nn.BatchNorm1d | None = None
    ) -> None:
        """Take the weight (out, in) in the dtype that products are to be of."""
        self.weight_grad, bias_grad, *norm_grads = grads
        self.weight, self.weight_t, self.bias, self.bias_grad = weight, weight.t(), bias.numpy(), bias_grad.numpy()
        self.norm = Norm.of(norm, norm_grads) if norm else None
        output, delta, weighted = (Matrix.of(rows, len(weight), weight.dtype) for _ in range(3))
        self.output = output  # as the next layer reads it
        self.raw = Matrix.of(rows, len(weight), weight.dtype) if norm else output  # before the norm
        self.delta, self.delta_t = delta, delta.tensor.t()  # gradients by raw
        self.weighted, self.weighted_t = weighted, weighted.tensor.t()  # the same, by d_loss


class Head(NamedTuple):
    """D's last layer, one output wide, as kernels read it; of the weights' own dtype."""

    weight: np.ndarray  # (1, in)
    bias: np.ndarray  # (1,)
    weight_grad: np.ndarray
    bias_grad: np.ndarray
    logits: Matrix  # (2B, 1)


class CpuEngine(MlpEngine):
    """Take steps on a CPU: products of the config's precision, everything between them in the weights' own."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        """Start a thread in bfloat16 on two or more threads: it takes half of these, and half of the work.

        In float32, whose products take longer, it is quicker to spread each of them over all threads.
        """
        narrow = config.precision == "bfloat16"
        self.num_threads = config.num_threads or 1
        self.num_helping = self.num_threads // 2 if narrow else 0
        if narrow:
            super().__init__(state, config, NARROW, (G_LAYERS, D_LAYERS), NarrowAdam)
        else:
            super().__init__(state, config, state.fixed_z.dtype)
        self.multiply = multiply_for(self.dtype)
        batch, of_g, (*of_d, head) = config.batch_size, _linears(state.generator), _linears(state.discriminator)
        self.g_layers = _layers(of_g, self.g_adam, G_LAYERS, batch, [None, *self.norms, None])
        self.d_layers = _layers(of_d, self.d_adam, D_LAYERS[:3], 2 * batch, [None] * 3)
        self.d_weight_grads = self.d_adam.grads[::2]
        weight_grad, bias_grad = (grad.numpy() for grad in self.d_adam.grads[-2:])
        logits = Matrix.of(2 * batch, 1, self.master)
        self.head = Head(head.weight.data.numpy(), head.bias.data.numpy(), weight_grad, bias_grad, logits)
        self.fake_delta = Matrix.of(batch, NUM_PIXELS, self.dtype)
        self.g_slopes, self.d_slopes = Matrix.of(batch, 1, self.master), Matrix.of(2 * batch, 1, self.master)
        self.judge_kernel = kernels.judge_rectified if config.recipe == "published" else kernels.judge
        self.g_updates, self.d_updates = lanes_of(self, 2, self.num_helping)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute on the run's threads while steps are taken; then finish all updates."""
        torch.set_num_threads(self.num_threads - self.num_helping)
        try:
            yield
            self.settle()
        finally:
            torch.set_num_threads(self.num_threads)

    def settle(self) -> None:
        """Finish all updates of the steps taken."""
        self.g_updates.settle()
        self.d_updates.settle()

    def flush(self) -> None:
        """Finish all updates, then set Adam's moments to 0 that are too small to matter."""
        self.settle()
        super().flush()

    def forward_g(self, z: Tensor) -> Tensor:
        """Return fakes (B, 784) in [-1, 1]; keep each layer's output."""
        self.g_updates.settle()
        if self.config.conditional:
            self.fake_digits = self.state.generator.digits(z)
            z = self.state.generator.inputs(z, self.fake_digits)
        self.z, inputs = z, z
        for layer in self.g_layers:
            self.multiply(inputs, layer.weight_t, out=layer.raw.tensor)
            inputs = layer.output.tensor
            if norm := layer.norm:
                kernels.normalise(
                    layer.raw.array, layer.bias, norm.scale, norm.shift, norm.momentum, norm.eps, SLOPE_G,
                    norm.running_mean, norm.running_var, layer.output.array, norm.mean, norm.inv_std,
                )  # fmt: skip
            elif layer is self.g_layers[-1]:
                kernels.add(layer.bias, layer.output.array)
            else:
                kernels.rectify(layer.bias, SLOPE_G, layer.output.array)
        self.num_tracked.add_(1)
        return inputs.tanh_()

    def forward_d(self, digits: Tensor) -> Tensor:
        """Return the logits (2B,) of `images`, before a rectified head; keep each layer's output."""
        self.d_updates.settle()
        self.images = self.images.to(self.dtype)  # the reals come in the state's
        if self.config.conditional:
            self.tell(self.images, torch.cat([self.fake_digits, digits]))
        self.d_inputs = [self.images, *(layer.output.tensor for layer in self.d_layers)]
        for index, layer in enumerate(self.d_layers):
            self.multiply(self.d_inputs[index], layer.weight_t, out=layer.output.tensor)
            kernels.rectify(layer.bias, self.slope, layer.output.array)
            if self.masks:
                layer.output.tensor.mul_(self.masks[index])
        kernels.head(self.d_layers[2].output.array, self.head.weight, self.head.bias, self.head.logits.array)
        return self.head.logits.tensor.squeeze(1)

    def judge(self, logits: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Write (g_loss, d_loss); return the derivatives of g_loss (B, 1) and of d_loss (2B, 1) by the logits."""
        self.judge_kernel(logits.numpy(), self.g_slopes.array, self.d_slopes.array, losses.numpy())
        return self.g_slopes.tensor, self.d_slopes.tensor

    def backward_d(self, slopes: Tensor, *, penalised: bool) -> Tensor:
        """Update D; return the gradients (B, 784) of the fakes' logits by pixel.

        D does not mix rows, so one way back, of each logit on its own, serves both losses: times d_loss's slope by
        that logit a row is D's, times g_loss's it is G's.
        """
        layers, penalties = self.deltas_d(), list[Tensor | None]([None] * 4)
        if penalised:
            layers = iter([*layers])  # all of the way back first: the penalty reads every layer as it was
            penalties = [*self.penalty_grads()]
        for index in layers:
            self.d_updates.add(partial(self.update_d, index, self.d_inputs[index], slopes.numpy(), penalties[index]))
        return self.fake_delta.tensor

    def deltas_d(self) -> Iterator[int]:
        """Yield each layer, the last first, once the deltas by its output are there and its weight was read."""
        last = self.d_layers[2]
        kernels.head_back(last.output.array, self.head.weight, self.slope, last.delta.array)
        yield 3
        for index in (2, 1, 0):
            layer = self.d_layers[index]
            if self.masks:
                layer.delta.tensor.mul_(self.masks[index])
            if index:
                below = self.d_layers[index - 1]
                self.multiply(layer.delta.tensor, layer.weight, out=below.delta.tensor)
                kernels.rectify_back(below.output.array, self.slope, below.delta.array)
            else:
                fakes = layer.delta.tensor[: self.config.batch_size]  # nobody reads the reals' pixels
                self.multiply(fakes, layer.weight, out=self.fake_delta.tensor)
            yield index

    def penalty_grads(self) -> list[Tensor]:
        """Return R1's gradients by D's weights.

        The reals' gradient by pixel is a product of weights with slopes of rectifiers between them, which are
        constants: its own gradients take one more way forward, that begins with what the way back ends with.
        """
        batch = self.config.batch_size
        ahead = self.multiply(self.d_layers[0].delta.tensor[batch:], self.d_layers[0].weight)  # (B, 784)
        ahead = ahead.mul_(self.r1_gamma * R1_EVERY / batch)
        grads = []
        for index, layer in enumerate(self.d_layers):
            grads.append(self.multiply(layer.delta.tensor[batch:].t(), ahead))
            ahead = self.multiply(ahead, layer.weight_t)
            kernels.rectify_back(layer.output.array[batch:], self.slope, bits(ahead))
            if self.masks:
                ahead.mul_(self.masks[index][batch:])
        return [*grads, ahead.sum(0, keepdim=True)]

    def update_d(self, index: int, inputs: Tensor, slopes: np.ndarray, penalty: Tensor | None) -> None:
        """Update a layer, given its inputs (2B, in), d_loss's slopes (2B, 1) and R1's gradient."""
        if index == 3:
            kernels.head_grads(bits(inputs), slopes, self.head.weight_grad, self.head.bias_grad)
        else:
            layer = self.d_layers[index]
            kernels.weigh(layer.delta.array, slopes, layer.weighted.array, layer.bias_grad)
            self.multiply(layer.weighted_t, inputs, out=layer.weight_grad)
        if penalty is not None:
            self.d_weight_grads[index].add_(penalty)
        self.d_adam.update(index)

    def backward_g(self, delta: Tensor, slopes: Tensor) -> None:
        """Update G, given the logits' gradients (B, 784) by the fakes and g_loss's (B, 1) by the logits."""
        last = self.g_layers[-1]
        kernels.weigh_tanh(bits(delta), slopes.numpy(), last.output.array, last.delta.array)
        for index in (4, 3, 2, 1):
            layer, below = self.g_layers[index], self.g_layers[index - 1]
            self.multiply(layer.delta.tensor, layer.weight, out=below.delta.tensor)
            self.g_updates.add(partial(self.update_g, index))
            if norm := below.norm:
                kernels.normalise_back(
                    below.raw.array, below.output.array, norm.scale, norm.mean, norm.inv_std, SLOPE_G,
                    below.delta.array, norm.scale_grad, norm.shift_grad,
                )  # fmt: skip
            else:
                kernels.rectify_back(below.output.array, SLOPE_G, below.delta.array)
        self.g_updates.add(partial(self.update_g, 0))

    def update_g(self, index: int) -> None:
        """Update a layer, given g_loss's gradients by its output and by the norm after it, if there is one."""
        layer = self.g_layers[index]
        inputs = self.g_layers[index - 1].output.tensor if index else self.z
        self.multiply(layer.delta_t, inputs, out=layer.weight_grad)
        if not layer.norm:  # which takes out what a bias before it adds: its gradient stays 0
            kernels.add_rows(layer.delta.array, layer.bias_grad)
        self.g_adam.update(index)


def _linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def _layers(
    linears: list[nn.Linear], adam: Adam, counts: Sequence[int], rows: int, norms: Sequence[nn.BatchNorm1d | None]
) -> list[Layer]:
    weights = adam.copies if isinstance(adam, NarrowAdam) else [linear.weight.data for linear in linears]
    grads = iter(adam.grads)
    return [
        Layer(weight, linear.bias.data, list(islice(grads, count)), rows, norm)
        for weight, linear, count, norm in zip(weights, linears, counts, norms, strict=True)
    ]
