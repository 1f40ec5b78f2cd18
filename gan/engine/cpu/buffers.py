"""What does an engine on a CPU keep of linear layers, on memory that is laid out once?"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan.engine.adam import Adam
from gan.engine.narrow_adam import NarrowAdam, bits


class Matrix(NamedTuple):
    """A matrix as torch multiplies it and, on the same memory, as kernels read it."""

    tensor: Tensor
    array: np.ndarray

    @classmethod
    def of(cls, rows: int, columns: int, dtype: torch.dtype) -> "Matrix":
        """Lay out a matrix of zeros."""
        tensor = torch.zeros(rows, columns, dtype=dtype)
        return cls(tensor, bits(tensor))

    def part(self, rows: slice) -> "Matrix":
        """Share some rows."""
        return Matrix(self.tensor[rows], self.array[rows])


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


class Rows(NamedTuple):
    """Some rows, R of 2B, of what D keeps."""

    which: slice
    images: Tensor  # (R, 784), as D sees them
    outputs: list[Matrix]  # (R, out) of each hidden layer
    deltas: list[Matrix]  # likewise
    logits: Matrix  # (R, 1)

    @classmethod
    def of(cls, which: slice, inputs: list[Matrix], deltas: list[Matrix], logits: Matrix) -> "Rows":
        """Share rows of each layer's inputs, the images first, of the hidden layers' deltas and of the logits."""
        images, *outputs = (matrix.part(which) for matrix in inputs)
        return cls(which, images.tensor, outputs, [delta.part(which) for delta in deltas], logits.part(which))


def linears_of(network: nn.Module) -> list[nn.Linear]:
    """List a network's linear layers in their order."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def layers_of(
    linears: list[nn.Linear], adam: Adam, counts: Sequence[int], rows: int, norms: Sequence[nn.BatchNorm1d | None]
) -> list[Layer]:
    """Lay out linear layers for so many rows, given how many parameters of each `adam` updates, and the norms after."""
    weights = adam.copies if isinstance(adam, NarrowAdam) else [linear.weight.data for linear in linears]
    grads = iter(adam.grads)
    return [
        Layer(weight, linear.bias.data, list(islice(grads, count)), rows, norm)
        for weight, linear, count, norm in zip(weights, linears, counts, norms, strict=True)
    ]
