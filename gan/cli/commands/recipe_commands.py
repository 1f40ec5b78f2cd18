"""What does `gan recipe` do? Heavy imports wait until a command runs."""

import json

import click

from gan.cli.common_options import JSON
from gan.cli.entry import DebugGroup, Invocation, pass_invocation
from gan.cli.options import RECIPE, RECIPE_METAVAR


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


@recipe.command()
@click.argument("name", metavar=RECIPE_METAVAR, type=RECIPE)
@click.option(
    "--steps", type=click.IntRange(4, 10_000), default=20, show_default=True, help="Steps to train, on made-up images."
)
@JSON
@pass_invocation
def check(invocation: Invocation, /, name: str, steps: int, as_json: bool) -> int:
    """Train a recipe for some steps in fresh processes, kill one, resume it, and compare every byte.

    Its code is imported in these processes. If bytes differ, this names the first tensor and step, and the source.
    """
    from gan.training.check.judgement import check_recipe

    found = check_recipe(name, steps)
    if invocation.debug and found.traceback:
        click.echo(found.traceback, err=True, nl=False)
    click.echo(found.model_dump_json() if as_json else found)
    return 0 if found.passed else 1
