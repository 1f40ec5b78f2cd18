"""Do both matrix multiplications give the product, and is the faster one chosen?"""

import pytest
import torch

from gan.engine.cpu import matmul as matmul_module
from gan.engine.cpu.matmul import Matmul, choose_matmul, onednn_matmul


@pytest.mark.parametrize(
    ("matmul", "dtype", "error"),
    [(torch.mm, torch.float32, 1e-5), (torch.mm, torch.bfloat16, 0.02), (onednn_matmul, torch.float32, 1e-5)],
)
def test_it_equals_the_exact_product_also_for_transposed_views_and_with_out(
    matmul: Matmul, dtype: torch.dtype, error: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight, grad = (torch.randn(shape, generator=rng).to(dtype) for shape in ((4, 3), (5, 3), (4, 5)))
    out = torch.empty(5, 3, dtype=dtype)
    assert matmul(grad.t(), x, out=out) is out
    for a, b, found in (
        (x, weight.t(), matmul(x, weight.t())),
        (grad, weight, matmul(grad, weight)),
        (grad.t(), x, out),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), a.double() @ b.double(), rtol=error, atol=error)


@pytest.mark.parametrize(
    ("intel", "dtype", "expected"),
    [
        (True, torch.float32, torch.mm),
        (False, torch.float32, onednn_matmul),
        (False, torch.bfloat16, torch.mm),
        (False, torch.float64, torch.mm),
    ],
)
def test_the_faster_one_is_chosen(
    monkeypatch: pytest.MonkeyPatch, intel: bool, dtype: torch.dtype, expected: Matmul
) -> None:
    monkeypatch.setattr(matmul_module, "is_intel", lambda: intel)
    assert choose_matmul(dtype) is expected
