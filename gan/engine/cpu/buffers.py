"""Where does the CPU engine keep what a step computes?

In memory that is laid out once and overwritten by every step: to allocate it anew would cost page faults.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan.compiled import Array
from gan.engine.adam import Adam, MixedPrecisionAdam
from gan.engine.cpu.kernels import as_array
from gan.engine.linear import Block, grads_by_block


class Matrix(NamedTuple):
    """The same memory as a tensor for torch and as an array for kernels."""

    tensor: Tensor
    array: Array

    @classmethod
    def zeros(cls, num_rows: int, num_columns: int, dtype: torch.dtype) -> "Matrix":
        """Lay out a matrix of zeros."""
        return cls.of(torch.zeros(num_rows, num_columns, dtype=dtype))

    @classmethod
    def of(cls, tensor: Tensor) -> "Matrix":
        """Share a tensor's memory."""
        return cls(tensor, as_array(tensor))

    def part(self, rows: slice) -> "Matrix":
        """Share the memory of some rows."""
        return Matrix(self.tensor[rows], self.array[rows])


class Norm(NamedTuple):
    """A batch norm, its gradients, and what its backward pass reads; each array (width,)."""

    momentum: float
    eps: float
    scale: Array
    shift: Array
    running_mean: Array
    running_var: Array
    scale_grad: Array
    shift_grad: Array
    mean: Array
    inv_std: Array

    @classmethod
    def of(cls, norm: nn.BatchNorm1d, scale_grad: Tensor, shift_grad: Tensor) -> "Norm":
        """Share the memory of a norm and of its gradients."""
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        mean, inv_std = norm.weight.data.new_zeros(2, norm.num_features)
        return cls(
            momentum=norm.momentum,
            eps=norm.eps,
            scale=norm.weight.data.numpy(),
            shift=norm.bias.data.numpy(),
            running_mean=norm.running_mean.numpy(),
            running_var=norm.running_var.numpy(),
            scale_grad=scale_grad.numpy(),
            shift_grad=shift_grad.numpy(),
            mean=mean.numpy(),
            inv_std=inv_std.numpy(),
        )


class Layer:
    """A linear layer's parameters and gradients, and buffers for its B or 2B rows of activations."""

    def __init__(self, block: Block, weight: Tensor, grads: list[Tensor], num_rows: int) -> None:
        """Take the weight (out, in) in the dtype that the products read."""
        self.weight_grad, bias_grad, *norm_grads = grads
        self.weight, self.weight_t = weight, weight.t()
        self.bias, self.bias_grad = block.linear.bias.data.numpy(), bias_grad.numpy()
        self.norm = Norm.of(block.norm, *norm_grads) if block.norm else None
        self.output = Matrix.zeros(num_rows, len(weight), weight.dtype)  # as the next layer reads it
        # The product before the norm. Without a norm the product is turned into the output in place.
        self.raw = Matrix.zeros(num_rows, len(weight), weight.dtype) if self.norm else self.output
        self.grad = Matrix.zeros(num_rows, len(weight), weight.dtype)  # by raw: of G's loss, or of D's logits
        self.loss_grad = Matrix.zeros(num_rows, len(weight), weight.dtype)  # by raw: of D's loss


class Head(NamedTuple):
    """D's last layer, one output wide, and its gradients; of the parameters' dtype."""

    weight: Array  # (1, in)
    bias: Array  # (1,)
    weight_grad: Matrix
    bias_grad: Array

    @classmethod
    def of(cls, linear: nn.Linear, weight_grad: Tensor, bias_grad: Tensor) -> "Head":
        """Share the memory of a linear layer and of its gradients."""
        weight, bias = linear.weight.data.numpy(), linear.bias.data.numpy()
        return cls(weight, bias, Matrix.of(weight_grad), bias_grad.numpy())


class BatchPart(NamedTuple):
    """The fakes, the reals or both in D's buffers: R of 2B rows."""

    rows: slice
    images: Tensor  # (R, 784), as D sees them
    outputs: list[Matrix]  # (R, out) of each hidden layer
    grads: list[Matrix]  # (R, out) of D's logits by each hidden layer
    logits: Matrix  # (R, 1)

    @classmethod
    def of(cls, rows: slice, images: Matrix, hidden: list[Layer], logits: Matrix) -> "BatchPart":
        """Share the memory of some rows."""
        outputs, grads = [layer.output.part(rows) for layer in hidden], [layer.grad.part(rows) for layer in hidden]
        return cls(rows, images.tensor[rows], outputs, grads, logits.part(rows))


def make_layers(blocks: list[Block], adam: Adam, num_rows: int) -> list[Layer]:
    """Lay out layers for `num_rows` rows of activations; D's blocks without its head."""
    weights = [block.linear.weight.data for block in blocks]
    if isinstance(adam, MixedPrecisionAdam):
        weights = adam.copies
    grads = grads_by_block(adam, blocks)
    return [Layer(*each, num_rows) for each in zip(blocks, weights, grads, strict=True)]
