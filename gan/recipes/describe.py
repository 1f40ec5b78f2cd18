"""How are the options and the defaults of recipes described: in --help, in reports and in docs/?"""

from dataclasses import fields
from itertools import groupby

from gan.config import RunConfig, TrainConfig
from gan.recipes.base import Defaults
from gan.recipes.resolve import RECIPES

OF_RECIPES = [field.name for field in fields(Defaults)]  # the options whose default depends on the recipe
OTHERS = {
    "data": "MNIST",
    "seed": "0",
    "num_threads": "the usable cores, at most 8",
    "init_from": "fresh weights",
}  # what the other open options become


def describe(name: str) -> str:
    """Return what a field of a config does, and its default, if it is an option."""
    if name not in TrainConfig.model_fields:
        return str(RunConfig.model_fields[name].description)
    field = TrainConfig.model_fields[name]
    parts = [str(field.description)]
    if name == "recipe":
        parts.append(f"{recipe_summaries()}.")
    if name in OF_RECIPES:
        parts.append(f"Recipe: {recipe_defaults(name)}.")
    else:
        parts.append(f"Default {OTHERS.get(name, field.default)}.")
    return " ".join(parts)


def recipe_summaries() -> str:
    """Return what each recipe is."""
    return "; ".join(f"{recipe.name}: {recipe.summary}" for recipe in RECIPES.values())


def defaults_table() -> str:
    """Return a Markdown table of the recipes' defaults, a row an option."""
    rows = [["option", *RECIPES], ["---"] * (1 + len(RECIPES))]
    for name in OF_RECIPES:
        values = [_text(getattr(recipe.defaults, name)) for recipe in RECIPES.values()]
        rows.append([f"`{flag_of(name)}`", *values])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def flag_of(name: str) -> str:
    """Return the option of a field."""
    return "--" + name.replace("_", "-")


def recipe_defaults(name: str) -> str:
    """Return each recipe's default of a field, those that are equal together."""
    texts = []
    for recipe in RECIPES.values():
        short = recipe.short_run.get(name)
        shorter = "" if short is None else f" (shorter runs up to {_text(short)})"
        texts.append((recipe.name, _text(getattr(recipe.defaults, name)) + shorter))
    if len({text for _, text in texts}) == 1:
        return texts[0][1]
    return ", ".join(
        f"{' and '.join(name for name, _ in group)} {text}" for text, group in groupby(texts, lambda pair: pair[1])
    )


def _text(value: object) -> str:
    """Return a value as people write it: 1e-4, 0.15, 92,763, yes."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < value < 0.01:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,}" if isinstance(value, int) else str(value)
