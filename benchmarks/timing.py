"""How are steps timed, and what do all benchmark cases have in common?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

WINDOW = 5  # a timed window has this many times the steps of its warm-up

Precision = Literal["float32", "bfloat16"]
TimeSteps = Callable[[int], float]  # takes that many steps and returns the seconds


@dataclass(frozen=True)
class Setting:
    """What is the same for every case."""

    device: Literal["cpu", "cuda"]
    num_threads: int
    warm_up_steps: int
    data_dir: Path  # with the idx files as gan-train stores them
    torchvision_dir: Path  # with the same files as torchvision stores them


def timed(step: Callable[[], object], device: str) -> TimeSteps:
    """Return a function that takes steps and times them. It waits for the device before it reads the clock."""

    def time_steps(num_steps: int) -> float:
        _wait_for(device)
        began = time.perf_counter()
        for _ in range(num_steps):
            step()
        _wait_for(device)
        return time.perf_counter() - began

    return time_steps


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
