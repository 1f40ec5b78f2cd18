"""What does `gan recipe` do? Heavy imports wait until a command runs."""

import json

import click

from gan.cli.common_options import JSON
from gan.cli.entry import DebugGroup


@click.group(cls=DebugGroup)
def recipe() -> None:
    """List the recipes, or check one of your own."""


@recipe.command("list")
@JSON
def list_recipes(as_json: bool) -> None:
    """List the built-in recipes and those of installed packages. None of these packages is imported."""
    from gan.recipes.custom.offered import offered

    found = offered()
    if as_json:
        return click.echo(json.dumps([each.model_dump() for each in found]))
    for each in found:
        words = (each.name, each.address or "built in", each.distribution, each.summary, each.fault)
        click.echo("  ".join(filter(None, words)))
