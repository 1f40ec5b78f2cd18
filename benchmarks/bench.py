"""How fast is training, compared with the published loop and with the limit of the hardware? `make bench`"""

import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from benchmarks.cases import Case, list_cases, missing_peers, peer_cases
from benchmarks.chart import svg
from benchmarks.costs import measure_costs
from benchmarks.machine import describe_machine
from benchmarks.process import STEP_FACTORS
from benchmarks.published_loop import write_torchvision_files
from benchmarks.rates import Row, measure_rates
from benchmarks.results import Results
from benchmarks.timing import WINDOW, Setting
from gan.cli.entry import debug_option, run_command
from gan.data.dataset import load_dataset
from gan.data.download import download_dataset
from gan.device import choose_device, choose_num_threads

STEPS = {"cpu": 200, "cuda": 1000}
WORKFLOW_STEPS = {"cpu": 3000, "cuda": 30_000}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(min=WINDOW),
    help=f"Steps of a window; the warm-up has one {WINDOW}th of them. Our recipes and the limit take "
    f"{STEP_FACTORS['cpu']} times as many, on a GPU {STEP_FACTORS['cuda']} times as many. Default {STEPS}.",
)
@click.option("--workflow-steps", type=click.IntRange(min=3), help=f"Steps of gan-train. Default {WORKFLOW_STEPS}.")
@click.option(
    "--case", "words", multiple=True,
    help="Time only the cases that have this text in NAME, PRECISION, and no command. May be given several times.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: as in training.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True)
@debug_option()
def bench(
    device: Literal["cpu", "cuda"],
    rounds: int,
    steps: int | None,
    workflow_steps: int | None,
    words: tuple[str, ...],
    threads: int | None,
    data_dir: Path,
    out: Path,
) -> None:
    """Measure, print a table, and write bench.json, bench.md and bench.svg."""
    choose_device(device)  # raises if it cannot be used
    machine = describe_machine(device)
    download_dataset(data_dir)
    with tempfile.TemporaryDirectory() as scratch:
        warm_up_steps = (steps or STEPS[device]) // WINDOW
        torchvision_dir = Path(scratch) / "torchvision"
        write_torchvision_files(load_dataset(data_dir), torchvision_dir)
        setting = Setting(device, threads or choose_num_threads(), warm_up_steps, data_dir, torchvision_dir)
        cases = [case for case in list_cases(device) if is_asked(case, words)]
        rows = measure_rates(cases, setting, rounds)
        costs = None
        if not words:
            click.echo("running gan train, gan-train and their --help", err=True)
            costs = measure_costs(setting, workflow_steps or WORKFLOW_STEPS[device], rounds, Path(scratch))
    results = Results(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=f"make bench ARGS={shlex.quote(shlex.join(sys.argv[1:]))}" if sys.argv[1:] else "make bench",
        device=device,
        num_threads=setting.num_threads,
        machine=machine,
        rows=rows,
        costs=costs,
        left_out=left_out(rows, cases, words),
    )
    write(results, out)
    click.echo(results.table())


def is_asked(case: Case, words: tuple[str, ...]) -> bool:
    """Return whether a case is to be timed: all are, unless --case gives words."""
    return not words or any(word in f"{case.name}, {case.precision}" for word in words)


def left_out(rows: list[Row], cases: list[Case], words: tuple[str, ...]) -> dict[str, str]:
    """Return the cases without a row by name, and why."""
    asked = {case.name for case in peer_cases() if is_asked(case, words)}
    missing = {name: why for name, why in missing_peers().items() if name in asked}
    ended = {case.name: "its process ended" for case in cases}
    return missing | {name: why for name, why in ended.items() if name not in {row.name for row in rows}}


def write(results: Results, out: Path) -> None:
    """Write the three files of a benchmark."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(results.model_dump_json(indent=2) + "\n")
    (out / "bench.md").write_text(results.table())
    (out / "bench.svg").write_text(svg(results))


if __name__ == "__main__":
    sys.exit(run_command(bench))
