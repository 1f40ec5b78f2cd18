"""How many steps a second does each case take?"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import click
from pydantic import BaseModel, ConfigDict

from benchmarks.cases import Case, Group
from benchmarks.process import CaseProcess, running
from benchmarks.timing import WINDOW, Precision, Setting

PAUSE_SECONDS = 0.5  # after a window, a DataLoader's workers still fill their queues


class Row(BaseModel):
    """A case's steps per second, one value per round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Group
    name: str
    precision: Precision
    num_steps: int  # of a window
    rates: list[float]
    first_seconds: float | None = None  # of the first warm-up, in which a compiler does its work

    @property
    def rate(self) -> float:
        """Return the median."""
        return median(self.rates)

    @property
    def compile_seconds(self) -> float:
        """Return how much longer the first warm-up took than later steps."""
        return max(0.0, (self.first_seconds or 0.0) - self.num_steps / WINDOW / self.rate)


def measure_rates(
    cases: list[Case], setting: Setting, rounds: int, tell: Callable[[Case, float], None] = lambda *_: None
) -> list[Row]:
    """Time one window of every case in each round, one case after the other, and tell each. A peer may drop out."""
    with ExitStack() as stack:
        started = [stack.enter_context(running(case, setting)) for case in cases]
        # One after the other: no window is timed, and nothing compiled, while another case is compiled.
        rates: dict[CaseProcess, list[float]] = {process: [] for process in started if _begins(process)}
        for number in range(rounds):
            for process, case_rates in rates.items():
                rate = process.time_window()
                case_rates.append(rate)
                tell(process.case, rate)
                name = f"{process.case.name}, {process.case.precision}"
                click.echo(f"round {number + 1} of {rounds}: {name}: {rate:.1f} steps/s", err=True)
                time.sleep(PAUSE_SECONDS)
    return [_row(process, case_rates) for process, case_rates in rates.items()]


def _begins(process: CaseProcess) -> bool:
    """Wait until a case has taken its first steps. Return False if it is a peer's and its process has ended."""
    try:
        process.begin()
    except click.ClickException as error:
        if process.case.group != "peer":
            raise
        click.echo(f"{error.message}. It is left out.", err=True)
        return False
    click.echo(f"{process.case.name}, {process.case.precision}: ready", err=True)
    return True


def _row(process: CaseProcess, rates: list[float]) -> Row:
    case = process.case
    return Row(
        group=case.group,
        name=case.name,
        precision=case.precision,
        num_steps=process.num_steps,
        rates=rates,
        first_seconds=process.first_seconds,
    )
