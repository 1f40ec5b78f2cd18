"""Is the device chosen by a computation on it, and is the reason given?"""

import warnings

import pytest
import torch

from gan import device
from gan.device import choose_device, choose_num_threads, choose_precision
from gan.errors import DeviceError

OLD_DRIVER = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch answer as it does where the driver is older than its CUDA: False, and a warning."""

    def is_available() -> bool:
        warnings.warn(OLD_DRIVER, UserWarning, stacklevel=2)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", is_available)


def test_cpu_on_request() -> None:
    chosen = choose_device("cpu")
    assert chosen.kind == "cpu" and chosen.reason.startswith("cpu, as asked: ")


@pytest.mark.usefixtures("old_driver")
def test_auto_is_the_cpu_if_the_driver_is_too_old() -> None:
    chosen = choose_device("auto")
    assert chosen.kind == "cpu" and "driver on your system is too old" in chosen.reason


@pytest.mark.usefixtures("old_driver")
def test_cuda_that_cannot_be_used_is_refused_with_the_reason() -> None:
    with pytest.raises(DeviceError, match=r"too old.*--device cpu"):
        choose_device("cuda")


def test_a_cuda_that_computes_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", _out_of_order)
    assert "CUDA error: no kernel image is available" in choose_device("auto").reason


def _out_of_order(*_args: object, **_kwargs: object) -> torch.Tensor:
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")


def test_threads_are_at_most_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cgroup_cores", lambda: 1)
    assert choose_num_threads() == 1


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("AuthenticAMD", "fpu avx512f avx512_bf16", "bfloat16"),
        ("GenuineIntel", "fpu avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "fpu avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("AuthenticAMD", "fpu avx2", "float32"),
        ("", "", "float32"),
    ],
)
def test_auto_is_bfloat16_if_the_cpu_multiplies_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: str, precision: str
) -> None:
    monkeypatch.setattr(device, "_cpu_info", {"flags": flags, "vendor_id": vendor}.__getitem__)
    assert choose_precision("cpu") == precision


def test_torch_can_use_the_precision_of_auto() -> None:
    can = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert choose_precision("cpu") == "float32" or can


@pytest.mark.gpu
def test_auto_is_the_gpu() -> None:
    assert choose_device("auto").kind == "cuda"
