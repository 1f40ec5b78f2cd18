"""How fast is training, beside the published loop and beside what the hardware can do? `make bench`"""

import os
import platform
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click
import torch

from benchmarks.chart import svg
from benchmarks.contenders import contenders
from benchmarks.costs import measure
from benchmarks.process import PACES, running
from benchmarks.published_loop import lay_out
from benchmarks.results import Machine, Results, Row
from benchmarks.timing import WINDOW, Setting
from gan.cli.entry import debug_option, run_command
from gan.data.dataset import load_dataset
from gan.data.download import download_dataset
from gan.device import choose_device, choose_num_threads, cpu_name
from gan.runs.provenance import git_commit

STEPS = {"cpu": 200, "cuda": 1000}
WORKFLOW_STEPS = {"cpu": 3000, "cuda": 30_000}
SETTLE_SECONDS = 0.5  # a DataLoader's workers fill their queues after a window
PACKAGES = ("gan-train", "torch", "torchvision", "numpy", "numba")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(min=WINDOW),
    help=f"Of a window; a {WINDOW}th as many warm up. Ours and the limit take {PACES['cpu']} times as many, "
    f"on a GPU {PACES['cuda']} times. Default {STEPS}.",
)
@click.option("--workflow-steps", type=click.IntRange(min=3), help=f"Of the gan-train run. Default {WORKFLOW_STEPS}.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: as training chooses.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True)
@debug_option()
def bench(
    device: Literal["cpu", "cuda"],
    rounds: int,
    steps: int | None,
    workflow_steps: int | None,
    threads: int | None,
    data_dir: Path,
    out: Path,
) -> None:
    """Measure, print a table, and write bench.json, bench.md and bench.svg."""
    choose_device(device)  # says so when it cannot be used
    machine = describe_machine(device)
    download_dataset(data_dir)
    with tempfile.TemporaryDirectory() as scratch:
        warm_up_steps = (steps or STEPS[device]) // WINDOW
        torchvision_dir = Path(scratch) / "torchvision"
        lay_out(load_dataset(data_dir), torchvision_dir)
        setting = Setting(device, threads or choose_num_threads(), warm_up_steps, data_dir, torchvision_dir)
        rows = race(setting, rounds)
        click.echo("gan train, gan-train, --help", err=True)
        costs = measure(setting, workflow_steps or WORKFLOW_STEPS[device], rounds, Path(scratch))
    results = Results(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=f"make bench ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else "make bench",
        device=device,
        num_threads=setting.num_threads,
        machine=machine,
        rows=rows,
        costs=costs,
    )
    write(results, out)
    click.echo(results.table())


def race(setting: Setting, rounds: int) -> list[Row]:
    """Give every contender a window in each round, one after the other."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(contender, setting)) for contender in contenders(setting.device)]
        rates: list[list[float]] = [[] for _ in processes]
        for number in range(rounds):
            for process, found in zip(processes, rates, strict=True):
                found.append(process.window())
                name = f"{process.contender.name}, {process.contender.precision}"
                click.echo(f"round {number + 1} of {rounds}: {name}: {found[-1]:.1f} steps/s", err=True)
                time.sleep(SETTLE_SECONDS)
    return [
        Row(
            group=process.contender.group,
            name=process.contender.name,
            precision=process.contender.precision,
            num_steps=process.num_steps,
            rates=found,
        )
        for process, found in zip(processes, rates, strict=True)
    ]


def describe_machine(device: str) -> Machine:
    """Say what runs here, and how busy others keep it."""
    return Machine(
        cpu=cpu_name(),
        num_cores=os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        load_average=os.getloadavg()[0],
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        git_commit=git_commit(),
    )


def write(results: Results, out: Path) -> None:
    """Write the three files of a benchmark."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(results.model_dump_json(indent=2) + "\n")
    (out / "bench.md").write_text(results.table())
    (out / "bench.svg").write_text(svg(results))


if __name__ == "__main__":
    sys.exit(run_command(bench))
