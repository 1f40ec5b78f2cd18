"""What do `gan runs`, `gan prune` and `gan cache` do with a store? Heavy imports wait until a command runs."""

import json

import click

from gan.cli.common_options import JSON, STORE


@click.command()
@STORE
@JSON
def runs(store: str, as_json: bool) -> None:
    """List the runs of a store, published and unfinished. STORE is ./store unless given."""
    from gan.storage.address import open_store
    from gan.sync.listing import list_runs

    found = list_runs(open_store(store))
    if as_json:
        return click.echo(json.dumps([run.model_dump() for run in found]))
    for run in found:
        click.echo(f"{run.run_id}  {run.state}  {run.name}  step {run.steps}/{run.num_steps}  {run.bytes / 1e6:.1f} MB")
    if not found:
        click.echo(f"no runs in {store}", err=True)


@click.command()
@STORE
@click.option("--keep-last", type=click.IntRange(0), required=True, help="Keep this many of the newest published runs.")
@click.option("--older-than", metavar="AGE", help="Delete only runs that are older: 12h, 30d, 4w.")
@click.option("--champions", is_flag=True, help="Delete the present champions and earlier ones, too.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted. This is the default; --yes deletes.")
@click.option("--yes", is_flag=True, help="Delete the runs.")
@JSON
def prune(
    store: str, keep_last: int, older_than: str | None, champions: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Delete whole runs of a store. Runs in training and champions stay. STORE is ./store unless given."""
    from gan.registry import prune as pruning
    from gan.storage.address import open_store

    try:
        age = pruning.parse_age(older_than or "0d")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from error
    opened = open_store(store)
    decisions = pruning.plan(opened, keep_last, age, champions=champions)
    deleting = yes and not dry_run
    for decision in decisions:
        if deleting and decision.prune:
            pruning.prune(opened, decision.run_id, champions=champions, decided=decision)
        if not as_json:
            verdict = ("deleted" if deleting else "would be deleted") if decision.prune else "stays"
            click.echo(f"{decision.run_id}  {verdict}: {decision.reason}  {decision.bytes / 1e6:.1f} MB")
    if as_json:
        click.echo(json.dumps([decision.model_dump() for decision in decisions]))
    elif not deleting and any(decision.prune for decision in decisions):
        click.echo("nothing was deleted; --yes deletes", err=True)


@click.command()
@click.option("--clear", is_flag=True, help="Delete all copies.")
def cache(clear: bool) -> None:
    """Show the folder with copies of files from stores, and its size. Commands fetch again what they need."""
    from gan.sync import cache as copies

    if clear:
        return click.echo(f"{copies.cache_dir()}: {copies.clear() / 1e6:.1f} MB deleted")
    click.echo(f"{copies.cache_dir()}: {copies.size() / 1e6:.1f} MB")
