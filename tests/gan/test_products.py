"""Do both ways to multiply give the same, and is the quicker one taken?"""

import pytest
import torch
from torch.nn import functional as F

from gan import products
from gan.products import OneDnnProducts, Products, TorchProducts, products_for

CPU = torch.device("cpu")


@pytest.mark.parametrize("ours", [TorchProducts(), OneDnnProducts()])
def test_a_layer_and_what_follows_it_is_torchs(ours: Products) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random) for shape in ((4, 3), (5, 3), (5,)))
    plain = F.linear(x, weight, bias)
    torch.testing.assert_close(ours.linear(x, weight, bias), plain)
    torch.testing.assert_close(ours.linear(x, weight, bias, "leaky_relu", 0.2), F.leaky_relu(plain, 0.2))
    torch.testing.assert_close(ours.linear(x, weight, bias, "tanh"), plain.tanh())
    torch.testing.assert_close(ours.multiply(x.t(), plain), x.t() @ plain)


@pytest.mark.parametrize(
    ("intel", "dtype", "taken"),
    [
        (True, torch.float32, TorchProducts),
        (False, torch.float32, OneDnnProducts),
        (True, torch.bfloat16, OneDnnProducts),
        (False, torch.float64, TorchProducts),
    ],
)
def test_the_quicker_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, intel: bool, dtype: torch.dtype, taken: type[Products]
) -> None:
    monkeypatch.setattr(products, "is_intel", lambda: intel)
    assert isinstance(products_for(CPU, dtype), taken)
