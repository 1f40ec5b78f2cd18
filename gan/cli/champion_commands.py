"""What does `gan champion` do? A few lines over gan/champion.py and gan/promotion.py, imported when a command runs."""

import re
from pathlib import Path

import click

RUN_ADDRESS = re.compile(r"(?:(?P<store>.*)/)?runs/[^/]+/?")
STORE = click.argument("store", default="store")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
REASON = click.option("--reason", metavar="TEXT", help="Why, for the history.")


@click.group()
def champion() -> None:
    """Say which run of a store is the champion, which were, and change it by hand."""


@champion.command()
@STORE
@JSON
@DEBUG
def show(store: str, as_json: bool, debug: bool) -> None:
    """Show the champion of a store: why it is the one, and how good. STORE is ./store unless given."""
    from gan.registry.champion import champion_of
    from gan.storage.address import open_store

    found = champion_of(open_store(store))
    click.echo(found.model_dump_json() if as_json else f"{found}\njudge {found.evaluation.judge}\n{found.evaluation}")


@champion.command()
@STORE
@JSON
@DEBUG
def history(store: str, as_json: bool, debug: bool) -> None:
    """List every promotion and rollback; the last names the champion. STORE is ./store unless given."""
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
@DEBUG
def rollback(store: str, reason: str | None, as_json: bool, debug: bool) -> None:
    """Make the champion before the present one the champion again. STORE is ./store unless given."""
    from gan.registry.champion import me
    from gan.registry.champion import rollback as roll_back
    from gan.storage.address import open_store

    change = roll_back(open_store(store), me(), reason or "by hand")
    click.echo(change.model_dump_json() if as_json else change)


@champion.command()
@click.argument("run", metavar="RUN")
@click.option("--force", is_flag=True, help="Whatever the figures say; also a run that was the champion before.")
@REASON
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where the idx files are, or come to be from the store.",
)
@JSON
@DEBUG
def promote(run: str, force: bool, reason: str | None, data_dir: Path, as_json: bool, debug: bool) -> int:
    """Measure a run, STORE/runs/ID, and make it its store's champion if it is better by more than the noise."""
    found = RUN_ADDRESS.fullmatch(run)
    if not found:
        raise click.BadParameter(f"{run} is no run of a store. Give it as STORE/runs/ID.", param_hint="RUN")
    from gan.data.dataset import load_dataset
    from gan.data.shared import download_from_store
    from gan.device import choose_device
    from gan.evaluation.evaluator import Evaluator
    from gan.registry.champion import me
    from gan.registry.promotion import measure, meeting
    from gan.registry.promotion import promote as decide
    from gan.storage.address import open_store

    store = open_store(found["store"] or ".")
    download_from_store(store, data_dir)
    evaluator = Evaluator(load_dataset(data_dir), choose_device("auto").kind)
    contender = measure(open_store(run), evaluator)
    decision = decide(store, contender, meeting(store, contender, evaluator), me(), force=force, reason=reason)
    click.echo(decision.model_dump_json() if as_json else decision)
    return 1 if decision.outcome == "kept" else 0
