"""How is a window of steps timed, and under which setting?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

WINDOW = 5  # a window is so many times its warm-up

Precision = Literal["float32", "bfloat16"]
Run = Callable[[int], float]  # takes so many steps, returns the seconds


@dataclass(frozen=True)
class Setting:
    """Hold what is the same for every contender."""

    device: Literal["cpu", "cuda"]
    num_threads: int
    warm_up_steps: int
    data_dir: Path  # of the idx files as we keep them
    torchvision_dir: Path  # of the same files as torchvision keeps them


def timed(step: Callable[[], object], device: str) -> Run:
    """Make a step into a Run, which waits for the device before it looks at the clock."""

    def run(num_steps: int) -> float:
        _wait_for(device)
        began = time.perf_counter()
        for _ in range(num_steps):
            step()
        _wait_for(device)
        return time.perf_counter() - began

    return run


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
