"""Does everything work on this machine's GPU, and how fast is it? `make gpu-check`, or `python -m benchmarks.gpu_check`

plan.py says what is checked, why, and for how long. CONTRIBUTING.md says which packages the check needs.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from benchmarks.gpu_check.plan import LIMIT_SECONDS, PLAN
from benchmarks.gpu_check.processes import Outcome, run_stage
from benchmarks.gpu_check.settings import Settings, Stage
from gan.cli.entry import debug_option, run_command
from gan.files import atomic_write

SCALES = {"cpu": 0.01, "cuda": 1.0}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cuda", show_default=True)
@click.option(
    "--scale", type=click.FloatRange(min=0, min_open=True), help=f"Share of the plan's steps. Default {SCALES}."
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=LIMIT_SECONDS / 60, show_default=True,
    help="Time of all stages. The limit of each stage grows or shrinks with it.",
)  # fmt: skip
@click.option(
    "--stage", "names", type=click.Choice([stage.name for stage in PLAN]), multiple=True,
    help="Run only this stage. May be given several times.",
)  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/gpu-check"), show_default=True)
@debug_option()
def gpu_check(
    device: Literal["cpu", "cuda"],
    scale: float | None,
    minutes: float,
    names: tuple[str, ...],
    data_dir: Path,
    out: Path,
) -> int:
    """Run the stages one after the other. Each writes OUT/STAGE.json; at the end OUT/gpu-check.md has them all.

    Exits with 1 if a stage has failed. A stage that fails does not stop the others.
    """
    settings = Settings(device=device, scale=scale or SCALES[device], data_dir=data_dir.resolve(), scratch=out)
    out.mkdir(parents=True, exist_ok=True)
    factor = 60 * minutes / LIMIT_SECONDS
    stages = [replace(stage, limit=stage.limit * factor) for stage in PLAN if not names or stage.name in names]
    outcomes = run_plan(stages, settings, out, 60 * minutes)
    click.echo(table(outcomes))
    return int(any(outcome.failed for outcome in outcomes))


def run_plan(stages: list[Stage], settings: Settings, out: Path, seconds: float) -> list[Outcome]:
    """Run stages until the time is over. The table is written anew after each."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for stage in stages:
        click.echo(f"{stage.name}: {stage.why}", err=True)
        left = seconds - (time.monotonic() - began)
        outcomes.append(run_stage(stage, settings, out, left))
        click.echo(f"{stage.name}: {outcomes[-1].status}, {outcomes[-1].seconds} s", err=True)
        atomic_write(out / "gpu-check.md", table(outcomes).encode())
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes in Markdown: a line for each stage, then the figures."""
    lines = ["| stage | status | seconds | limit |", "|---|---|---|---|"]
    lines += [f"| {each.stage} | {each.status} | {each.seconds} | {each.limit_seconds:.0f} |" for each in outcomes]
    for each in outcomes:
        if each.figures:
            lines += ["", f"**{each.stage}**: {each.why}", "", "| | |", "|---|---|"]
            lines += [f"| {name} | {value} |" for name, value in each.figures.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command(gpu_check))
