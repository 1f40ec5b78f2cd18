"""Do both ways to multiply give the same, and is the quicker one taken?"""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from gan import products
from gan.products import Bfloat16Products, OneDnnProducts, Products, TorchProducts, products_for

CPU = torch.device("cpu")
ROUNDED = {"rtol": 0.02, "atol": 0.05}  # bfloat16 has 8 bits


@pytest.mark.parametrize("ours", [TorchProducts(), OneDnnProducts(), Bfloat16Products()])
def test_a_layer_and_what_follows_it_is_torchs(ours: Products) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random) for shape in ((4, 3), (5, 3), (5,)))
    plain = F.linear(x, weight, bias)
    assert_close = partial(torch.testing.assert_close, **(ROUNDED if isinstance(ours, Bfloat16Products) else {}))
    product, out = x.t() @ plain, torch.empty(3, 5)
    with ours.at_work():
        assert_close(ours.linear(x, weight, bias), plain)
        assert_close(ours.linear(x, weight, bias, "leaky_relu", 0.2), F.leaky_relu(plain, 0.2))
        assert_close(ours.linear(x, weight, bias, "tanh"), plain.tanh())
        assert_close(ours.multiply(x.t(), plain), product)
        assert ours.multiply(x.t(), plain, out=out) is out
    assert_close(out, product)


def test_factors_are_rounded_where_the_cpu_can_and_nobody_elses() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=random) for shape in ((64, 128), (128, 256)))
    exact, rounded = a @ b, a.bfloat16().float() @ b.bfloat16().float()
    assert (rounded - exact).abs().max() > 1e-2
    expected = rounded if torch.ops.mkldnn._is_mkldnn_bf16_supported() else exact
    ours = Bfloat16Products()
    with ours.at_work():
        torch.testing.assert_close(ours.multiply(a, b), expected)
        torch.testing.assert_close(ours.linear(a, b.t(), torch.zeros(256)), expected)
    torch.testing.assert_close(a @ b, exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("intel", "dtype", "rounded", "taken"),
    [
        (True, torch.float32, False, TorchProducts),
        (False, torch.float32, False, OneDnnProducts),
        (True, torch.float32, True, Bfloat16Products),
        (False, torch.float64, False, TorchProducts),
    ],
)
def test_the_quicker_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, intel: bool, dtype: torch.dtype, rounded: bool, taken: type[Products]
) -> None:
    monkeypatch.setattr(products, "is_intel", lambda: intel)
    assert type(products_for(CPU, dtype, rounded=rounded)) is taken
