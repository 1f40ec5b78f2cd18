"""How many steps a second does each case take?"""

import time
from contextlib import ExitStack
from statistics import median

import click
from pydantic import BaseModel, ConfigDict

from benchmarks.cases import Group, list_cases
from benchmarks.process import running
from benchmarks.timing import Precision, Setting

PAUSE_SECONDS = 0.5  # after a window, a DataLoader's workers still fill their queues


class Row(BaseModel):
    """A case's steps per second, one value per round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Group
    name: str
    precision: Precision
    num_steps: int  # of a window
    rates: list[float]

    @property
    def rate(self) -> float:
        """Return the median."""
        return median(self.rates)


def measure_rates(setting: Setting, rounds: int) -> list[Row]:
    """Time one window of every case in each round, one case after the other."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(case, setting)) for case in list_cases(setting.device)]
        rates: list[list[float]] = [[] for _ in processes]
        for number in range(rounds):
            for process, case_rates in zip(processes, rates, strict=True):
                case_rates.append(process.time_window())
                name = f"{process.case.name}, {process.case.precision}"
                click.echo(f"round {number + 1} of {rounds}: {name}: {case_rates[-1]:.1f} steps/s", err=True)
                time.sleep(PAUSE_SECONDS)
    return [
        Row(
            group=process.case.group,
            name=process.case.name,
            precision=process.case.precision,
            num_steps=process.num_steps,
            rates=case_rates,
        )
        for process, case_rates in zip(processes, rates, strict=True)
    ]
