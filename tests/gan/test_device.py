"""Is the device chosen by a computation on it, and is the reason given?"""

import warnings
from pathlib import Path

import pytest
import torch

from gan import device
from gan.device import (
    choose_device,
    choose_num_threads,
    choose_precision,
    library_versions,
    numerics,
    set_numerics,
)


def test_cpu_on_request() -> None:
    chosen = choose_device("cpu")
    assert chosen.kind == "cpu" and chosen.reason.startswith("cpu, as asked: ")


def test_a_cuda_that_computes_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", _warn_of_an_old_gpu)
    monkeypatch.setattr(torch, "ones", _out_of_order)
    cause = "CUDA error: no kernel image is available for execution on the device"
    assert choose_device("auto").reason.startswith(f"cpu, since cuda cannot be used: {cause}; ")


def _warn_of_an_old_gpu() -> None:
    warnings.warn("Found GPU0 of compute capability 5.0 (Triggered internally at a.cpp:1.)", UserWarning, stacklevel=2)


def _out_of_order(*_args: object, **_kwargs: object) -> torch.Tensor:
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")


def test_how_a_gpu_computes_is_set_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    assert numerics()["products in TF32"] == numerics()["convolutions in TF32"] == "True"
    set_numerics()
    assert numerics() == {
        "products in TF32": "False",
        "convolutions in TF32": "False",
        "sums of bfloat16 products in bfloat16": "False",
        "cuDNN deterministic": "True",
        "cuDNN benchmark": "False",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_cublas_workspace_of_the_user_is_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_numerics()
    assert numerics()["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("content", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root@a)\n"
            "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
            "580.65.06",
        ),
        ("another form\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_libraries_of_a_gpu_are_named(tmp_path: Path, content: str | None, driver: str) -> None:
    path = tmp_path / "proc/driver/nvidia/version"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    found = library_versions("cuda", tmp_path)
    assert found.keys() == {"torch", "cuda", "cudnn", "driver"} and found["driver"] == driver
    assert library_versions("cpu", tmp_path) == {"torch": torch.__version__}


def test_threads_are_at_most_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "max_cores", lambda: 1)
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
