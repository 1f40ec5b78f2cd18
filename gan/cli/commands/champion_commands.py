"""What does `gan champion` do? Heavy imports wait until a command runs."""

import re
from pathlib import Path

import click

from gan.cli.common_options import CHAMPION_DATA, JSON, MNIST_ONLY, PATH, SETS_DIR, STORE
from gan.cli.entry import DebugGroup
from gan.cli.options import RECIPE_OF_RUN

RUN_ADDRESS = re.compile(r"(?:(?P<store>.*)/)?runs/(?P<run_id>[^/]+)/?")
REASON = click.option("--reason", metavar="TEXT", help="Reason, for the history.")


@click.group(cls=DebugGroup)
def champion() -> None:
    """Show or change a champion of a store: the run that is served. Each data set has its own."""


@champion.command()
@STORE
@CHAMPION_DATA
@JSON
def show(store: str, data: str | None, as_json: bool) -> None:
    """Show the champion of a store, how good it is and why it was promoted. STORE is ./store unless given."""
    from gan.registry.champion import champion_of
    from gan.registry.champions import data_of_champion
    from gan.storage.address import open_store

    opened = open_store(store)
    found = champion_of(opened, data_of_champion(opened, data))
    if as_json:
        return click.echo(found.model_dump_json())
    click.echo(f"{found}\njudge {found.evaluation.judge}")
    if found.data:
        click.echo(f"data {found.data.address}")
        for name, text in found.data.rights.items():
            click.echo(f"{name} {text}")
    click.echo(found.evaluation.table(found.data.classes if found.data else ()))


@champion.command()
@STORE
@CHAMPION_DATA
@JSON
def history(store: str, data: str | None, as_json: bool) -> None:
    """List every promotion and rollback. The last line names the champion. STORE is ./store unless given."""
    from gan.registry.champion import read_champion
    from gan.registry.champions import data_of_champion
    from gan.storage.address import open_store

    opened = open_store(store)
    found = read_champion(opened, data_of_champion(opened, data)).history
    if as_json:
        return click.echo(found.model_dump_json())
    for change in found.history:
        click.echo(change)
    if not found.history:
        click.echo(f"no champion{f' of {data}' if data else ''} in {store} yet", err=True)


@champion.command()
@STORE
@CHAMPION_DATA
@REASON
@JSON
def rollback(store: str, data: str | None, reason: str | None, as_json: bool) -> None:
    """Make the previous champion the champion again. STORE is ./store unless given."""
    from gan.registry.champion import me
    from gan.registry.champion import rollback as roll_back
    from gan.registry.champions import data_of_champion
    from gan.storage.address import open_store

    opened = open_store(store)
    change = roll_back(opened, me(), reason or "by hand", data_of_champion(opened, data))
    click.echo(change.model_dump_json() if as_json else change)


@champion.command()
@click.argument("run", metavar="RUN")
@click.option("--force", is_flag=True, help="Promote it whatever the figures say. It may be an earlier champion.")
@REASON
@click.option(
    "--data",
    "address",
    metavar="NAME[@SHA]",
    help="The imported data set that the run must be of. Unless given, it is the one that the run names.",
)
@click.option(
    "--data-dir",
    type=PATH,
    default=Path("data"),
    show_default=True,
    help="Directory of the four MNIST files. Missing files are copied from the store.",
)
@SETS_DIR
@RECIPE_OF_RUN
@JSON
def promote(
    run: str, force: bool, reason: str | None, address: str | None, data_dir: Path, sets_dir: Path, as_json: bool
) -> int:
    """Measure a run, and make it the champion if it is better by more than the noise. RUN is STORE/runs/ID."""
    found = RUN_ADDRESS.fullmatch(run)
    if not found:
        raise click.BadParameter(f"{run} is not a run of a store. Give it as STORE/runs/ID.", param_hint="RUN")
    from gan.data.dataset import load_dataset
    from gan.data.shared import download_from_store
    from gan.device import choose_device
    from gan.errors import DataError
    from gan.registry.champion import me
    from gan.registry.judging import evaluator_of, fetch_judged_set, no_judge
    from gan.registry.promotion import comparer, measure
    from gan.registry.promotion import promote as decide
    from gan.runs import layout
    from gan.runs.config_file import data_in
    from gan.runs.manifest import check_run_id
    from gan.runs.provenance import check_trained_on
    from gan.sets.loading import MNIST, load_set
    from gan.storage.address import open_store
    from gan.sync.lease import hold_published
    from gan.sync.stored_run import StoredRun

    check_run_id(found["run_id"])
    store = open_store(found["store"] or ".")
    stored = StoredRun(store, found["run_id"])
    stored.published_manifest()  # before the data is fetched
    address = address or data_in(stored.read(layout.CONFIG)) or MNIST
    if address == MNIST:
        download_from_store(store, data_dir)
        data = load_dataset(data_dir, hint=MNIST_ONLY)
    else:
        address = fetch_judged_set(store, sets_dir, address, shares=True)
        data = load_set(sets_dir, address)
    check_trained_on(data.sha256, stored.read(layout.PROVENANCE), run, address)
    evaluator = evaluator_of(data, choose_device("auto").kind)
    if evaluator is None:
        raise DataError(f"{run} cannot be measured: {no_judge(address)}.")
    with hold_published(stored):
        challenger = measure(stored, evaluator)
        compare_with = comparer(store, challenger, evaluator)
        decision = decide(store, challenger, compare_with, me(), force=force, reason=reason)
    click.echo(decision.to_json() if as_json else decision)
    return 1 if decision.outcome == "kept" else 0
