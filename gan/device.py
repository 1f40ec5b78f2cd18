"""Which device, how many threads and which precision, and why?"""

import ctypes
import os
import platform
import re
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from gan.control_groups import max_cores
from gan.errors import DeviceError

MAX_THREADS = 8  # the matrices of a step are too small for more


class Device(NamedTuple):
    """A device that works, and a sentence that says why it was chosen."""

    kind: Literal["cpu", "cuda"]
    reason: str


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Device:
    """Return the device to train on. CUDA is chosen only after a computation on it worked.

    Raises:
        DeviceError: CUDA was requested and cannot be used. The message says why.
    """
    if asked == "cpu":
        return Device("cpu", f"cpu, as asked: {cpu_name()}")
    fault = cuda_fault()
    if fault is None:
        return Device("cuda", f"cuda: {torch.cuda.get_device_name()}")
    if asked == "cuda":
        raise DeviceError(f"cuda was requested but cannot be used: {fault}. Use --device cpu to train without it.")
    return Device("cpu", f"cpu, since cuda cannot be used: {fault}; {cpu_name()}")


def cuda_fault() -> str | None:
    """Return why CUDA cannot be used, or None if an addition on it gives the right result."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    set_numerics()
    try:
        with warnings.catch_warnings(action="ignore"):  # of a GPU that this torch does not support: the addition fails
            torch.cuda.init()  # type: ignore[no-untyped-call]  # unlike is_available, it names the cause each time
            is_right = int((torch.ones(2, device="cuda") + 1).sum()) == 4
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return _cause(str(error))
    return None if is_right else "an addition on it came out wrong"


def _cause(message: str) -> str:
    """Return in one sentence, without a full stop, what torch says about CUDA."""
    if message.startswith(("No CUDA GPUs are available", "Found no NVIDIA driver")):
        return _why_no_gpu()
    if found := re.search(r"driver .* is too old \(found version (\d+)\)", message):
        major, minor = divmod(int(found[1]), 1000)
        built_for = f"this torch was built for CUDA {torch.version.cuda}"
        return f"the NVIDIA driver is too old: it supports CUDA {major}.{minor // 10}, and {built_for}"
    if found := re.search(r"Error (\d+: .+)", message):  # torch asks first whether we did something wrong before
        message = f"CUDA error {found[1]}"
    return re.split(r"\.?(?: \(Triggered internally|\n|$)|\. (?=[A-Z])", message)[0]


def _why_no_gpu() -> str:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
    return f"there is a driver, but no usable GPU{hint}"


def set_numerics() -> None:
    """Choose, for the whole process, how a GPU computes: in the precision as asked, with the same bits each time.

    A CPU computes as before. docs/engine.md explains each choice.
    """
    with warnings.catch_warnings(action="ignore"):  # some versions advise names that the others cannot read back
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when its first product starts


def numerics() -> dict[str, str]:
    """Return by name how a GPU computes in this process."""
    return {
        "products in TF32": str(torch.backends.cuda.matmul.fp32_precision == "tf32"),
        "convolutions in TF32": str(torch.backends.cudnn.conv.fp32_precision == "tf32"),  # type: ignore[attr-defined]
        "sums of bfloat16 products in bfloat16": str(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction),
        "cuDNN deterministic": str(torch.backends.cudnn.deterministic),
        "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
    }


def library_versions(kind: Literal["cpu", "cuda"], root: Path = Path("/")) -> dict[str, str]:
    """Return the versions, by name, of what computes on a device: torch, and on a GPU CUDA, cuDNN and the driver."""
    torch_version = str(torch.__version__)  # of the module itself: it names the CUDA version, too
    if kind == "cpu":
        return {"torch": torch_version}
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"torch": torch_version, "cuda": str(torch.version.cuda), "cudnn": str(cudnn), "driver": _driver(root)}


def _driver(root: Path) -> str:
    """Return the version of the NVIDIA driver. Its file is missing on Windows' own Linux."""
    try:
        found = re.search(r"Kernel Module.*?  (\d[\d.]+) ", (root / "proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    return found[1] if found else "unknown"


def choose_num_threads() -> int:
    """Return how many cores this process may use, by its affinity and its control groups, but at most MAX_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_THREADS, max_cores() or MAX_THREADS))


def choose_precision(kind: Literal["cpu", "cuda"]) -> Literal["float32", "bfloat16"]:
    """Return the precision for `auto`: bfloat16 if the device multiplies faster in it, else float32."""
    if kind == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags = _cpu_info("flags").split()  # Intel's AVX512-bf16 has only half as many units as float32
        pays = "amx_bf16" in flags or ("avx512_bf16" in flags and not is_intel())
    return "bfloat16" if pays else "float32"


def hardware_name(kind: Literal["cpu", "cuda"]) -> str:
    """Return the name of the GPU or of the processor."""
    return torch.cuda.get_device_name() if kind == "cuda" else cpu_name()


def cpu_name() -> str:
    """Return the processor's name."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def is_intel() -> bool:
    """Return whether the processor is made by Intel. Always False on systems other than Linux."""
    return _cpu_info("vendor_id") == "GenuineIntel"


def _cpu_info(field: str) -> str:
    """Return a field of the first core in /proc/cpuinfo, or an empty string if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field), "")
