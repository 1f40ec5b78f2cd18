"""How do the fields of TrainConfig become options of a command, and back?"""

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gan.config import TrainConfig
from gan.errors import RecipeError
from gan.recipes.custom.importing import permit
from gan.recipes.custom.naming import address_of
from gan.recipes.describe import describe, flag_of
from gan.recipes.resolve import RECIPES, check_built_in

# What people set first, in `gan train` or `gan-train`. Every other option is an expert option.
FIRST_OPTIONS = {
    "run_dir", "resume", "data", "data_dir", "dry_run", "recipe", "num_steps", "seed", "batch_size", "snapshot_steps",
    "device", "precision", "num_threads", "run_id", "store", "version", "help",
}  # fmt: skip


class RecipeType(click.ParamType[str]):
    """Take a built-in recipe, the short name of an installed one, or PACKAGE.MODULE:NAME, which the others become."""

    name = "recipe"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name of a built-in recipe, or the address of another one."""
        try:
            return value if value in RECIPES else address_of(value)
        except RecipeError as error:
            self.fail(str(error), param, ctx)


RECIPE = RecipeType()
RECIPE_METAVAR = f"[{'|'.join(RECIPES)}|PACKAGE.MODULE:NAME]"


def permit_recipe(_ctx: click.Context, _option: click.Parameter, address: str | None) -> str | None:
    """Let this process import a recipe that its command line names."""
    if address and address not in RECIPES:
        permit(address)
    return address


RECIPE_OF_RUN = click.option(
    "--recipe",
    type=RECIPE,
    metavar="PACKAGE.MODULE:NAME",
    expose_value=False,
    callback=permit_recipe,
    help="The recipe of a run whose recipe is not built in. It is code: name one that you trust.",
)


def recipe_words(recipe: str) -> list[str]:
    """Return the option with which a command names a recipe that is not built in: a config alone is not enough."""
    return [] if recipe in RECIPES else ["--recipe", recipe]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command one option for each field of TrainConfig, with its bounds and its help."""
    for name, field in reversed(TrainConfig.model_fields.items()):
        flag = flag_of(name)
        if bool in get_args(field.annotation):
            flag += f"/--no-{name}"
        if name == "recipe":
            command = click.option(
                flag, type=RECIPE, metavar=RECIPE_METAVAR, callback=permit_recipe, help=describe(name)
            )(command)
            continue
        metavar = "RUN|CHECKPOINT" if name == "init_from" else None
        command = click.option(flag, name, type=_click_type(field), metavar=metavar, default=None, help=describe(name))(
            command
        )
    return command


class TrainCommand(click.Command):
    """Show the options that people set first, then the rest in a group of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both groups into the help text."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], "Expert options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                groups["Options" if param.name in FIRST_OPTIONS else "Expert options"].append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Take the fields of a config out of a command's values. Fields that were not given stay unset.

    A recipe that is not built in is imported later, and only if a run that exists has its hash.

    Raises:
        click.UsageError: a value is out of its bounds, or the recipe does not support it.
    """
    given = {name: values.pop(name) for name in TrainConfig.model_fields}
    try:
        return check_built_in(TrainConfig(**{name: value for name, value in given.items() if value is not None}))
    except ValidationError as error:
        lines = [f"{flag_of(str(fault['loc'][0]))}: {fault['msg']}" for fault in error.errors()]
        raise click.UsageError("; ".join(lines)) from error


def _click_type(field: FieldInfo) -> click.ParamType[Any]:
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or [field.annotation]
    for annotation in (field.annotation, *kinds):
        if get_origin(annotation) is Literal:
            return click.Choice(get_args(annotation))
    if kinds == [str]:
        return click.STRING
    if kinds == [bool]:
        return click.BOOL
    bounds = {
        key: getattr(rule, key) for rule in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)
    }
    limits: dict[str, Any] = {
        "min": bounds.get("ge", bounds.get("gt")),
        "max": bounds.get("le", bounds.get("lt")),
        "min_open": "gt" in bounds,
        "max_open": "lt" in bounds,
    }
    return click.IntRange(**limits) if kinds == [int] else click.FloatRange(**limits)
