"""On which machine, and with which versions, is something measured?"""

import os
import platform
from importlib.metadata import version

import torch
from pydantic import BaseModel, ConfigDict

from gan import __version__
from gan.device import cpu_name
from gan.runs.provenance import git_commit

PACKAGES = ("torch", "torchvision", "numpy", "numba")


class Machine(BaseModel):
    """The machine and the versions of a benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    num_cores: int
    gpu: str | None
    load_average: float  # of the minute before; if it is not about 0, other processes were running
    versions: dict[str, str]
    git_commit: str | None


def describe_machine(device: str) -> Machine:
    """Return the hardware, the versions and the load of this machine."""
    return Machine(
        cpu=cpu_name(),
        num_cores=os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        load_average=os.getloadavg()[0],
        versions={
            "python": platform.python_version(),
            "gan-train": __version__,
            **{name: version(name) for name in PACKAGES},
        },
        git_commit=git_commit(),
    )
