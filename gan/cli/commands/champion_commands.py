"""What does `gan champion` do? Heavy imports wait until a command runs."""

import re
from pathlib import Path

import click

from gan.cli.common_options import JSON, MNIST_ONLY, PATH, STORE
from gan.cli.entry import DebugGroup
from gan.cli.options import RECIPE_OF_RUN

RUN_ADDRESS = re.compile(r"(?:(?P<store>.*)/)?runs/(?P<run_id>[^/]+)/?")
REASON = click.option("--reason", metavar="TEXT", help="Reason, for the history.")


@click.group(cls=DebugGroup)
def champion() -> None:
    """Show or change the champion of a store: the run that is served."""


@champion.command()
@STORE
@JSON
def show(store: str, as_json: bool) -> None:
    """Show the champion of a store, how good it is and why it was promoted. STORE is ./store unless given."""
    from gan.registry.champion import champion_of
    from gan.storage.address import open_store

    found = champion_of(open_store(store))
    click.echo(found.model_dump_json() if as_json else f"{found}\njudge {found.evaluation.judge}\n{found.evaluation}")


@champion.command()
@STORE
@JSON
def history(store: str, as_json: bool) -> None:
    """List every promotion and rollback. The last line names the champion. STORE is ./store unless given."""
    from gan.registry.champion import read_champion
    from gan.storage.address import open_store

    found = read_champion(open_store(store)).history
    if as_json:
        return click.echo(found.model_dump_json())
    for change in found.history:
        click.echo(change)
    if not found.history:
        click.echo(f"no champion in {store} yet", err=True)


@champion.command()
@STORE
@REASON
@JSON
def rollback(store: str, reason: str | None, as_json: bool) -> None:
    """Make the previous champion the champion again. STORE is ./store unless given."""
    from gan.registry.champion import me
    from gan.registry.champion import rollback as roll_back
    from gan.storage.address import open_store

    change = roll_back(open_store(store), me(), reason or "by hand")
    click.echo(change.model_dump_json() if as_json else change)


@champion.command()
@click.argument("run", metavar="RUN")
@click.option("--force", is_flag=True, help="Promote it whatever the figures say. It may be an earlier champion.")
@REASON
@click.option(
    "--data-dir",
    type=PATH,
    default=Path("data"),
    show_default=True,
    help="Directory of the four MNIST files. Missing files are copied from the store.",
)
@RECIPE_OF_RUN
@JSON
def promote(run: str, force: bool, reason: str | None, data_dir: Path, as_json: bool) -> int:
    """Measure a run, and make it the champion if it is better by more than the noise. RUN is STORE/runs/ID."""
    found = RUN_ADDRESS.fullmatch(run)
    if not found:
        raise click.BadParameter(f"{run} is not a run of a store. Give it as STORE/runs/ID.", param_hint="RUN")
    from gan.data.dataset import load_dataset
    from gan.data.shared import download_from_store
    from gan.device import choose_device
    from gan.evaluation.evaluator import Evaluator
    from gan.registry.champion import me
    from gan.registry.promotion import comparer, measure
    from gan.registry.promotion import promote as decide
    from gan.runs import layout
    from gan.runs.manifest import check_run_id
    from gan.runs.provenance import check_trained_on
    from gan.storage.address import open_store
    from gan.sync.lease import hold_published
    from gan.sync.stored_run import StoredRun

    check_run_id(found["run_id"])
    store = open_store(found["store"] or ".")
    stored = StoredRun(store, found["run_id"])
    stored.published_manifest()  # before the data is fetched
    download_from_store(store, data_dir)
    data = load_dataset(data_dir, hint=MNIST_ONLY)
    check_trained_on(data.sha256, stored.read(layout.PROVENANCE), run)
    evaluator = Evaluator(data, choose_device("auto").kind)
    with hold_published(stored):
        challenger = measure(stored, evaluator)
        compare_with = comparer(store, challenger, evaluator)
        decision = decide(store, challenger, compare_with, me(), force=force, reason=reason)
    click.echo(decision.to_json() if as_json else decision)
    return 1 if decision.outcome == "kept" else 0
