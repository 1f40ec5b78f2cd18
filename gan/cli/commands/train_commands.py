"""What do `gan download`, `gan validate` and `gan train` do? Heavy imports wait until a command runs."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from gan.cli.common_options import (
    DATA_DIR,
    DRY_RUN,
    FROM_SCRATCH,
    JSON,
    MIRROR,
    NO_PINNED_HASH,
    PATH,
    SETS_DIR,
    data_words,
)
from gan.cli.entry import Invocation, pass_invocation
from gan.cli.options import TrainCommand, config_from, config_options, recipe_words
from gan.config import MNIST_SHAPE, TrainConfig


@click.command()
@DATA_DIR
@MIRROR
@NO_PINNED_HASH
def download(data_dir: Path, mirrors: tuple[str, ...], no_pinned_hash: bool) -> None:
    """Download the four MNIST files. A file that is there and good is not downloaded again."""
    from gan.cli.progress import show_download
    from gan.data.download import download_dataset

    with show_download() as progress:
        for path in download_dataset(data_dir, mirrors, pinned=not no_pinned_hash, progress=progress):
            click.echo(path)


@click.command()
@DATA_DIR
@NO_PINNED_HASH
@JSON
def validate(data_dir: Path, no_pinned_hash: bool, as_json: bool) -> None:
    """Read every byte of the four MNIST files and check them."""
    from gan.data.dataset import validate_dataset

    checks = validate_dataset(data_dir, pinned=not no_pinned_hash)
    if as_json:
        return click.echo(json.dumps({name: check._asdict() for name, check in checks.items()}, default=str))
    for name, check in checks.items():
        click.echo(f"{check.path}: {name} {check.shape} is good")


@click.command(cls=TrainCommand)
@click.option(
    "--run-dir", type=PATH, required=True, help="Directory of the run. It must not exist yet, unless --resume is given."
)
@config_options
@DATA_DIR
@MIRROR
@NO_PINNED_HASH
@SETS_DIR
@click.option(
    "--resume", is_flag=True, help="Continue the run where it stopped, bit for bit. Start it if there is none."
)
@FROM_SCRATCH
@DRY_RUN
@pass_invocation
def train(
    invocation: Invocation,
    /,
    run_dir: Path,
    data_dir: Path,
    mirrors: tuple[str, ...],
    no_pinned_hash: bool,
    sets_dir: Path,
    resume: bool,
    from_scratch: bool,
    dry_run: bool,
    **fields: Any,
) -> int:
    """Train a run to its end: download MNIST or take --data, train, make the report, write the manifest."""
    config = config_from(fields)
    from gan.cli.progress import show_download, show_progress
    from gan.cli.signals import stop_on_signals
    from gan.data.dataset import load_dataset
    from gan.data.download import download_dataset
    from gan.report import page as report
    from gan.runs.config_file import data_of
    from gan.sets.loading import load_set, shape_of, with_set
    from gan.sync.publish import seal
    from gan.training.resolving import resolve_here
    from gan.training.runner import open_run

    if dry_run:
        shape = shape_of(sets_dir, config.data) if config.data else MNIST_SHAPE
        click.echo(resolve_here(config, shape=shape)[0].model_dump_json(indent=2))
        return 0
    invocation.prints_result = False
    address = config.data or (data_of(run_dir) if resume or from_scratch else None)
    is_mnist = not (no_pinned_hash or address)
    init_path = _check_before_download(run_dir, config, existing=resume or from_scratch, pinned=is_mnist)
    with stop_on_signals() as stop:
        if address:
            data = load_set(sets_dir, address)
            config = with_set(config, data)
        else:
            with show_download() as progress:
                download_dataset(data_dir, mirrors, pinned=not no_pinned_hash, progress=progress)
            data = load_dataset(data_dir, pinned=not no_pinned_hash)
        with open_run(run_dir, config, data, resume=resume, from_scratch=from_scratch, init_path=init_path) as run:
            with show_progress(run) as snapshot_done:
                for _ in run.train(stop):
                    snapshot_done()
            for event in run.state.health.events:
                click.echo(f"health: {event}", err=True)
            if not run.finished:
                words = ["gan", "train", "--run-dir", str(run_dir), "--resume"]
                words += [*recipe_words(config.recipe), *data_words(data_dir, mirrors, not no_pinned_hash, sets_dir)]
                click.echo(f"stopped at step {run.state.step}; resume with: {shlex.join(words)}", err=True)
                return stop.exit_code
            report.render(run.run_dir)
            seal(run_dir, run_dir.resolve().name)
    click.echo(run_dir / "report" / "index.html")
    return 0


def _check_before_download(run_dir: Path, config: TrainConfig, *, existing: bool, pinned: bool) -> Path | None:
    """Raise what would be raised after the download: for a new run, or for an existing one that may be continued.

    Return the path of what a new run shall begin from, which is fetched here.
    """
    from gan.device import choose_device
    from gan.files import check_path
    from gan.recipes.resolve import check
    from gan.runs.config_file import check_recipe
    from gan.runs.manifest import check_new_run_id
    from gan.runs.provenance import check_is_of_mnist
    from gan.sync.cache import checkpoint_copy
    from gan.training.initial import read_initial
    from gan.training.resolving import resolve_here

    check_path(run_dir)
    if not run_dir.exists():
        check_new_run_id(run_dir.resolve().name)
        choose_device(config.device)
        check(config)
        if config.init_from:
            path = checkpoint_copy(config.init_from)
            if pinned:  # another data set may have other images, and is not here yet
                read_initial(path, resolve_here(config)[0])
            return path
    elif existing:
        check_recipe(run_dir)
        if pinned:
            check_is_of_mnist(run_dir)
    return None
