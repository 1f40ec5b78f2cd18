"""What does a benchmark write, as JSON and as a table?"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.cases import Group
from benchmarks.costs import Costs
from benchmarks.machine import Machine
from benchmarks.rates import Row
from benchmarks.timing import Precision

NOTES = """\
The table shows steps per second: the median, the lowest and the highest value of {rounds} rounds. In a round, each row
runs once, in a process of its own. The published loop reads both losses at every step and writes no TensorBoard events.
The limit is every matrix product of our step and one fused Adam, nothing else. If a precision has two limits, the
faster one counts. torch.compile and JAX take the published loop's step with the data in memory, and do not read the
losses; the times of their compilers are below, and not in the table."""


class Results(BaseModel):
    """The results of a benchmark: the content of bench.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    created: str  # ISO 8601, UTC
    command: str
    device: Literal["cpu", "cuda"]
    num_threads: int
    machine: Machine
    rows: list[Row]
    costs: Costs | None  # None if only some cases were timed
    left_out: dict[str, str] = {}  # peers by name: what was missing

    def best(self, group: Group, precision: Precision) -> Row | None:
        """Return the fastest row of a group at a precision; None if there is none."""
        rows = [row for row in self.rows if (row.group, row.precision) == (group, precision)]
        return max(rows, key=lambda row: row.rate, default=None)

    def table(self) -> str:
        """Return the results in Markdown."""
        head = [
            "| | precision | steps/s | least..greatest | x DataLoader | x in memory | of the limit |",
            "|---|---|---|---|---|---|---|",
        ]
        notes = NOTES.format(rounds=len(self.rows[0].rates))
        lists = [*self._peers(), *self._costs()]
        return "\n".join([*head, *map(self._line, self.rows), "", notes, "", *lists, "", *self._machine(), ""])

    def _line(self, row: Row) -> str:
        ratios = ["", "", ""]
        if row.group in ("peer", "ours"):
            bases = self.best("loader", "float32"), self.best("memory", "float32"), self.best("limit", row.precision)
            formats = (".1f", ".1f", ".0%")
            ratios = [format(row.rate / base.rate, f) if base else "" for base, f in zip(bases, formats, strict=True)]
        spread = f"{min(row.rates):.1f}..{max(row.rates):.1f}"
        return f"| {row.name} | {row.precision} | {row.rate:.1f} | {spread} | " + " | ".join(ratios) + " |"

    def _peers(self) -> list[str]:
        compiled = [
            f"- {row.name}, {row.precision}: compiling took {row.compile_seconds:.1f} s."
            for row in self.rows
            if row.group == "peer"
        ]
        return compiled + [f"- {name} was left out: {missing}." for name, missing in self.left_out.items()]

    def _costs(self) -> list[str]:
        if self.costs is None:
            return []
        costs, flow = self.costs, self.costs.workflow
        return [
            f"- Peak memory: `gan train` {costs.gan_train_peak_rss_bytes / 1e6:,.0f} MB, "
            f"`gan-train` {costs.workflow_peak_rss_bytes / 1e6:,.0f} MB.",
            f"- `gan-train` of {flow.num_steps:,} steps with {flow.num_snapshots} snapshots: start-up "
            f"{flow.start_up:.1f} s, loop {flow.loop:.1f} s, snapshots {flow.snapshots:.2f} s, end {flow.end:.1f} s. "
            f"Snapshots and end: {flow.overhead:.1%} of the loop; {flow.full_overhead:.1%} estimated for a full run.",
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
