"""Which device, how many threads and which precision, and why?"""

import os
import platform
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from gan.errors import DeviceError

MAX_THREADS = 8  # the matrices of a step are too small for more


class Device(NamedTuple):
    """A device that was found usable, and the sentence that says why it was taken."""

    kind: Literal["cpu", "cuda"]
    reason: str


def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Device:
    """Find the device to train on, by using it.

    Raises:
        DeviceError: CUDA was asked for and cannot be used; says why.
    """
    if asked == "cpu":
        return Device("cpu", f"cpu, as asked: {cpu_name()}")
    fault = _cuda_fault()
    if fault is None:
        return Device("cuda", f"cuda: {torch.cuda.get_device_name()}")
    if asked == "cuda":
        raise DeviceError(f"cuda was asked for and cannot be used: {fault}. Give --device cpu to train without it.")
    return Device("cpu", f"cpu, since cuda cannot be used: {fault}; {cpu_name()}")


def _cuda_fault() -> str | None:
    """Say why CUDA cannot be used, or None after one addition on it came out right."""
    if torch.version.cuda is None:
        return "this torch was built without it"
    with warnings.catch_warnings(record=True) as caught:  # a driver too old is only a warning of torch's
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        said = "; ".join(str(warning.message).split("\n")[0] for warning in caught)
        driver = Path("/proc/driver/nvidia/version").exists()
        return said or ("there is a driver, but no usable GPU" if driver else "there is no NVIDIA driver")
    try:
        if int((torch.ones(2, device="cuda") + 1).sum()) == 4:
            return None
        return "an addition on it came out wrong"
    except RuntimeError as error:
        return str(error).split("\n")[0]


def choose_num_threads() -> int:
    """Return the cores that this process may use, by affinity and by control group, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_THREADS, _cgroup_cores()))


def _cgroup_cores() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return MAX_THREADS if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return MAX_THREADS


def choose_precision(kind: Literal["cpu", "cuda"]) -> Literal["float32", "bfloat16"]:
    """Return what precision `auto` stands for: bfloat16 where the device multiplies faster in it, else float32."""
    if kind == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags = _cpu_info("flags").split()  # Intel's AVX512-bf16 has half the units that its float32 has
        pays = "amx_bf16" in flags or ("avx512_bf16" in flags and not is_intel())
    return "bfloat16" if pays else "float32"


def cpu_name() -> str:
    """Return the processor's name for people."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def is_intel() -> bool:
    """Tell whether Linux says that Intel made the processor."""
    return _cpu_info("vendor_id") == "GenuineIntel"


def _cpu_info(field: str) -> str:
    """Return what Linux says of the first core; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field), "")
