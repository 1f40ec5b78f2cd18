"""What came out of a benchmark: as JSON, and as a table for people?"""

from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.contenders import Group
from benchmarks.costs import Costs
from benchmarks.timing import Precision

NOTES = """\
Steps per second, the median of all rounds ({rounds}) with the least and the greatest. In a round all take turns, each
in a process of its own. The published loop reads both losses at every step and writes no TensorBoard. The limit is
every matrix product of a step of ours and one fused Adam, nothing else; of two multipliers the quicker counts."""


class Machine(BaseModel):
    """Say what ran where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    num_cores: int
    gpu: str | None
    load_average: float  # over the minute before: others' work, unless it is about 0
    versions: dict[str, str]
    git_commit: str | None


class Row(BaseModel):
    """Hold a contender's steps a second, one figure a round."""

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


class Results(BaseModel):
    """Hold a benchmark: bench.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    created: str  # ISO 8601, UTC
    command: str
    device: Literal["cpu", "cuda"]
    num_threads: int
    machine: Machine
    rows: list[Row]
    costs: Costs

    def best(self, group: Group, precision: Precision) -> Row:
        """Return the quickest of a group at a precision."""
        return max((row for row in self.rows if (row.group, row.precision) == (group, precision)), key=lambda r: r.rate)

    def table(self) -> str:
        """Return it in Markdown."""
        head = [
            "| | precision | steps/s | least..greatest | x DataLoader | x in memory | of the limit |",
            "|---|---|---|---|---|---|---|",
        ]
        notes = NOTES.format(rounds=len(self.rows[0].rates))
        return "\n".join([*head, *map(self._line, self.rows), "", notes, "", *self._costs(), "", *self._machine(), ""])

    def _line(self, row: Row) -> str:
        against = ["", "", ""]
        if row.group == "ours":
            loader, memory = self.best("loader", "float32"), self.best("memory", "float32")
            limit = self.best("limit", row.precision)
            against = [f"{row.rate / loader.rate:.1f}", f"{row.rate / memory.rate:.1f}", f"{row.rate / limit.rate:.0%}"]
        spread = f"{min(row.rates):.1f}..{max(row.rates):.1f}"
        return f"| {row.name} | {row.precision} | {row.rate:.1f} | {spread} | " + " | ".join(against) + " |"

    def _costs(self) -> list[str]:
        costs, flow = self.costs, self.costs.workflow
        return [
            f"- Peak memory: `gan train` {costs.gan_train_peak_rss_bytes / 1e6:,.0f} MB, "
            f"`gan-train` {costs.workflow_peak_rss_bytes / 1e6:,.0f} MB.",
            f"- `gan-train` of {flow.num_steps:,} steps with {flow.num_snapshots} snapshots: start-up "
            f"{flow.start_up:.1f} s, loop {flow.loop:.1f} s, snapshots {flow.snapshots:.2f} s, end {flow.end:.1f} s. "
            f"Snapshots and end: {flow.overhead:.1%} of the loop; {flow.full_overhead:.1%} reckoned for a full run.",
            f"- `gan --help` {costs.gan_help_seconds:.2f} s, `gan-train --help` {costs.gan_train_help_seconds:.2f} s.",
        ]

    def _machine(self) -> list[str]:
        machine = self.machine
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        gpu = f", {machine.gpu}" if machine.gpu else ""
        return [
            f"{machine.cpu}, {machine.num_cores} cores{gpu}; {self.num_threads} threads, on {self.device}; load "
            f"average {machine.load_average:.1f} before the first round. {versions}. `{self.command}`, {self.created}."
        ]
