"""Who multiplies the matrices, and at which precision?"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.device import is_intel


class Products(Protocol):
    """The two products that a network of linear layers needs, there and back."""

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        """Return then(x @ weight.t() + bias); `then` is none, leaky_relu (of `slope`) or tanh."""

    @staticmethod
    def multiply(a: Tensor, b: Tensor) -> Tensor:
        """Return a @ b."""


class TorchProducts:
    """torch's own: cuBLAS on a GPU, MKL on the CPU."""

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        y = F.linear(x, weight, bias)
        if then == "leaky_relu":
            return F.leaky_relu_(y, slope)
        return y.tanh_() if then == "tanh" else y

    @staticmethod
    def multiply(a: Tensor, b: Tensor) -> Tensor:
        return torch.mm(a, b)


class OneDnnProducts:
    """oneDNN on the CPU, where what follows a layer costs nothing.

    In float32 on AMD twice as fast as MKL, on Intel a quarter slower; in bfloat16 it is what torch takes, too.
    """

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        scalars = [slope] if then == "leaky_relu" else []
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, scalars, "")
        return y

    @staticmethod
    def multiply(a: Tensor, b: Tensor) -> Tensor:
        if a.dtype == torch.bfloat16:
            return torch.mm(a, b)  # oneDNN too, and reads a transposed matrix where it lies
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
        return product


def products_for(device: torch.device, dtype: torch.dtype) -> Products:
    """Choose by device, dtype and, for float32, the CPU's maker; oneDNN knows no float64."""
    is_for_mkl = dtype == torch.float64 or (dtype == torch.float32 and is_intel())
    if device.type == "cpu" and not is_for_mkl and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return OneDnnProducts()
    return TorchProducts()
