"""What is a stage of the GPU check, and what does it get?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Record = Callable[[str, float | int | str], None]  # writes a figure down at once, by its name


class Settings(BaseModel):
    """What is the same for every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cpu", "cuda"]
    scale: float  # 1: the lengths of the plan
    data_dir: Path  # with the four files of MNIST
    scratch: Path  # an empty folder, deleted after the stage

    def scaled(self, num_steps: int, least: int) -> int:
        """Return a number of steps in the scale of this check."""
        return max(least, round(num_steps * self.scale))


@dataclass(frozen=True)
class Stage:
    """A part of the check. It runs in a process of its own and fails by any exception."""

    name: str
    limit: float  # seconds, after which its process is killed
    why: str
    run: Callable[[Settings, Record], None]
    needs_gpu: bool = False


class NotRunError(Exception):
    """A stage cannot run here. The message says what is missing."""


class CheckFailedError(Exception):
    """What a stage checks is not so. The message says what was found."""
