"""Who multiplies the matrices, and at which precision?"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.device import is_intel


class Products(Protocol):
    """The two products that a network of linear layers needs, there and back, while they are `at_work`."""

    @staticmethod
    def at_work() -> AbstractContextManager[None]:
        """Multiply in this way within a `with`."""

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        """Return then(x @ weight.t() + bias); `then` is none, leaky_relu (of `slope`) or tanh."""

    @staticmethod
    def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        """Return a @ b, in `out` if given."""


class TorchProducts:
    """torch's own: cuBLAS on a GPU, MKL on the CPU."""

    @staticmethod
    def at_work() -> AbstractContextManager[None]:
        return nullcontext()

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        y = F.linear(x, weight, bias)
        if then == "leaky_relu":
            return F.leaky_relu_(y, slope)
        return y.tanh_() if then == "tanh" else y

    @staticmethod
    def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(a, b, out=out)


class OneDnnProducts:
    """oneDNN on the CPU, where what follows a layer costs nothing.

    In float32 on AMD twice as fast as MKL, on Intel a quarter slower.
    """

    @staticmethod
    def at_work() -> AbstractContextManager[None]:
        return nullcontext()

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor, then: str = "none", slope: float = 0.0) -> Tensor:
        scalars = [slope] if then == "leaky_relu" else []
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, scalars, "")
        return y

    @staticmethod
    def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
        return product if out is None else out.copy_(product)


class Bfloat16Products(OneDnnProducts):
    """oneDNN on the CPU, told to round the factors to bfloat16 as it reads them: sums and results stay float32.

    So no matrix is copied for it. A CPU without such a unit multiplies as in float32.
    """

    @staticmethod
    def at_work() -> AbstractContextManager[None]:
        return rounded_factors()

    @staticmethod
    def multiply(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(a, b, out=out)  # reads a transposed matrix where it lies


@contextmanager
def rounded_factors() -> Iterator[None]:
    """Let oneDNN round the factors of float32 products, in the whole process, for a while: the judge's are exact."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # type: ignore[attr-defined]


def products_for(device: torch.device, dtype: torch.dtype, *, rounded: bool = False) -> Products:
    """Choose by device, dtype, whether factors may be rounded, and the CPU's maker; oneDNN knows no float64."""
    if device.type == "cpu" and rounded:
        return Bfloat16Products()
    is_for_mkl = dtype == torch.float64 or (dtype == torch.float32 and is_intel())
    if device.type == "cpu" and not is_for_mkl and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return OneDnnProducts()
    return TorchProducts()
