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
    monkeypatch.setattr(device, "_cgroup_cores", lambda: 1)
    assert choose_num_threads() == 1


GROUPS = {  # name -> (/proc/self/cgroup, files of the control groups, cores)
    "version 2, container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "version 2, own group": (
        "0::/user.slice/train.scope\n",
        {"user.slice/cpu.max": "max 100000\n", "user.slice/train.scope/cpu.max": "200000 100000\n"},
        2,
    ),
    "version 2, group above": (
        "0::/batch/job\n",
        {"batch/cpu.max": "300000 100000\n", "batch/job/cpu.max": "max 100000\n"},
        3,
    ),
    "version 1, container": (
        "3:cpuset:/\n2:cpu,cpuacct:/docker/0123\n0::/docker/0123\n",
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"},
        2,
    ),
    "version 1, own group": (
        "1:cpu:/job\n",
        {
            "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
            "cpu/job/cpu.cfs_quota_us": "1000\n", "cpu/job/cpu.cfs_period_us": "100000\n",
        },
        1,
    ),
    "version 1, no link": (
        "4:cpu,cpuacct:/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "a group of other controllers": (
        "1:memory:/job\n",
        {"cpu/job/cpu.cfs_quota_us": "100000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
        device.MAX_THREADS,
    ),
    "no limit": ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "0\n"}, device.MAX_THREADS),
    "lines of another form": ("\n0\n0::/a\n", {"a/cpu.max": "200000 100000\n"}, 2),
    "no groups": ("", {}, device.MAX_THREADS),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_of_each_control_group_counts(tmp_path: Path, name: str) -> None:
    own, files, cores = GROUPS[name]
    files = {f"sys/fs/cgroup/{path}": text for path, text in files.items()} | {"proc/self/cgroup": own}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert device._cgroup_cores(tmp_path) == cores


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
