"""Do both ways to multiply give the same, and is the quicker one taken?"""

import pytest
import torch

from gan.engine.cpu import matmul as products
from gan.engine.cpu.matmul import Multiply, by_onednn, multiply_for


@pytest.mark.parametrize(
    ("multiply", "dtype", "error"),
    [(torch.mm, torch.float32, 1e-5), (torch.mm, torch.bfloat16, 0.02), (by_onednn, torch.float32, 1e-5)],
)
def test_a_product_is_the_exact_one_also_of_transposed_matrices_and_into_one(
    multiply: Multiply, dtype: torch.dtype, error: float
) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, delta = (torch.randn(shape, generator=random).to(dtype) for shape in ((4, 3), (5, 3), (4, 5)))
    out = torch.empty(5, 3, dtype=dtype)
    assert multiply(delta.t(), x, out=out) is out
    for a, b, found in (
        (x, weight.t(), multiply(x, weight.t())),
        (delta, weight, multiply(delta, weight)),
        (delta.t(), x, out),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), a.double() @ b.double(), rtol=error, atol=error)


@pytest.mark.parametrize(
    ("intel", "dtype", "taken"),
    [
        (True, torch.float32, torch.mm),
        (False, torch.float32, by_onednn),
        (False, torch.bfloat16, torch.mm),
        (False, torch.float64, torch.mm),
    ],
)
def test_the_quicker_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, intel: bool, dtype: torch.dtype, taken: Multiply
) -> None:
    monkeypatch.setattr(products, "is_intel", lambda: intel)
    assert multiply_for(dtype) is taken
