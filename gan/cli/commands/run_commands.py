"""What do `gan sample`, `evaluate`, `report` and `verify` do with a run? Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.cli.common_options import CHAMPION_DATA, DATA_DIR, JSON, MNIST_ONLY, PATH, SETS_DIR
from gan.cli.options import RECIPE_OF_RUN

RUN = click.argument("run", metavar="RUN")
MODEL = click.argument("run", metavar="RUN|CHECKPOINT|champion")


@click.command()
@MODEL
@click.option("--count", type=click.IntRange(1, 1_000_000), default=25, show_default=True, help="Number of samples.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the latents.")
@click.option(
    "--digit",
    metavar="CLASS",
    help="Draw only this class, by its name or its number. The run must be class-conditional.",
)
@click.option(
    "--out",
    type=PATH,
    required=True,
    help="Output file. F.png is a sheet of samples; F.npz holds `images`, uint8 (N, H, W), or (N, H, W, 3) in colour.",
)
@CHAMPION_DATA
@RECIPE_OF_RUN
def sample(run: str, count: int, seed: int, digit: str | None, out: Path, data: str | None) -> None:
    """Draw samples from the newest good checkpoint of a run, from one checkpoint, or from a store's champion."""
    if out.suffix not in (".png", ".npz"):
        raise click.BadParameter(f"{out} must end in .png or .npz", param_hint="--out")
    from gan.files import atomic_write
    from gan.recipes.draw import class_number, draw
    from gan.registry.champion import champion_checkpoint
    from gan.registry.champions import find_champion
    from gan.runs.provenance import note_of, provenance_beside
    from gan.runs.sampling import encode, load_sampler
    from gan.sync.cache import checkpoint_copy

    found = find_champion(run, data)
    _check_champion(found is not None, data)
    path = champion_checkpoint(*found) if found else checkpoint_copy(run)
    network, config, step = load_sampler(path)
    number = None
    if digit is not None:
        note = found[1].data if found else note_of(config.data, provenance_beside(path), run)
        number = class_number(network, digit, note.classes if note else ())
    atomic_write(out, encode(draw(network, config.latent_dim, count, seed, number), out.suffix))
    click.echo(f"{out}: {count} samples of step {step}")


@click.command()
@MODEL
@DATA_DIR
@SETS_DIR
@CHAMPION_DATA
@RECIPE_OF_RUN
@JSON
def evaluate(run: str, data_dir: Path, sets_dir: Path, data: str | None, as_json: bool) -> None:
    """Measure 10,000 samples with the frozen judge, and print each figure beside that of real images."""
    from gan.data.data_note import DataNote
    from gan.data.dataset import load_dataset
    from gan.data.shared import download_from_store
    from gan.device import choose_device
    from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
    from gan.recipes.draw import draw
    from gan.registry.champion import champion_checkpoint
    from gan.registry.champions import find_champion
    from gan.registry.judging import fetch_judged_set
    from gan.runs.provenance import check_trained_on, provenance_beside
    from gan.runs.sampling import load_sampler
    from gan.sets.loading import load_set
    from gan.sync.cache import checkpoint_copy

    found = find_champion(run, data)
    _check_champion(found is not None, data)
    if found and found[1].data:
        fetch_judged_set(found[0], sets_dir, found[1].data.address)  # this machine may have no data set of its own
    elif found:
        download_from_store(found[0], data_dir)
    path = champion_checkpoint(*found) if found else checkpoint_copy(run)
    network, config, step = load_sampler(path)
    if config.data:
        images = load_set(sets_dir, config.data)
        note = DataNote.of(images)
    else:
        images = load_dataset(data_dir, hint=MNIST_ONLY)
        check_trained_on(images.sha256, provenance_beside(path), run)
        note = None
    samples = draw(network, config.latent_dim, NUM_SAMPLES, seed=0)
    evaluation = Evaluator(images, choose_device("auto").kind).evaluate(samples)
    if as_json:
        return click.echo(evaluation.model_dump_json())
    click.echo(f"step {step}, {evaluation.num_samples} samples\n{evaluation.table(note.classes if note else ())}")


def _check_champion(is_champion: bool, data: str | None) -> None:
    """Refuse --data where nothing is looked up by it."""
    if data and not is_champion:
        raise click.BadParameter("only for a champion; any other run names its data set itself", param_hint="--data")


@click.command()
@RUN
@click.option(
    "--link", is_flag=True, help="Print a link that opens the report of a run in a bucket. It works for a week."
)
def report(run: str, link: bool) -> None:
    """Make the film and the HTML report of a run. Those of a finished run stay as they are."""
    from gan.files import check_path
    from gan.report.page import render
    from gan.runs import layout
    from gan.runs.run_dir import RunDir
    from gan.storage.address import is_remote, link_to
    from gan.sync.cache import report_copy

    if link:
        return click.echo(link_to(run, layout.REPORT))
    if is_remote(run):
        return click.echo(report_copy(run))
    check_path(Path(run))
    run_dir = RunDir(Path(run))
    render(run_dir)
    click.echo(run_dir.report_path)


@click.command()
@RUN
@JSON
def verify(run: str, as_json: bool) -> int:
    """Compare every byte of a run with its manifest. RUN is a directory or s3://BUCKET[/PREFIX]/runs/ID."""
    from gan.sync.stored_run import StoredRun
    from gan.sync.verification import verify as verify_run

    found = verify_run(StoredRun.at(run))
    if as_json:
        click.echo(found.model_dump_json())
    else:
        for problem in found.problems:
            click.echo(problem)
        verdict = f"{len(found.problems)} problems" if found.problems else "every byte is as it was published"
        click.echo(f"{run}: {found.num_files} files, {found.num_bytes:,} bytes: {verdict}")
    return 1 if found.problems else 0
