"""How is a recipe named that is not built in, and which ones are installed?

Its address is package.module:name. An installed package may give it a short name: an entry point of the group
gan_train.recipes. Reading these imports no module.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import get_args

from gan.config import RECIPE_ADDRESS, RecipeName
from gan.errors import RecipeError
from gan.recipes.custom.search_path import leave_out_working_dir

GROUP = "gan_train.recipes"


def installed() -> list[EntryPoint]:
    """List the recipes that installed packages offer, by name."""
    leave_out_working_dir()
    return sorted(set(entry_points(group=GROUP)), key=lambda each: (each.name, each.value))


def address_of(name: str) -> str:
    """Return the address of a recipe that is not built in, given that or its short name.

    Raises:
        RecipeError: it is neither, or two packages offer this name.
    """
    if RECIPE_ADDRESS.match(name):
        return name
    found = sorted({each.value.replace(" ", "") for each in installed() if each.name == name})
    if len(found) > 1:
        raise RecipeError(f"recipe {name}: several packages offer one: {', '.join(found)}. Name one of these instead.")
    if not found:
        built_in = ", ".join(map(repr, get_args(RecipeName)))
        raise RecipeError(
            f"recipe {name[:200]!r}: there is none of this name. Built in are {built_in}; `gan recipe list` lists the "
            "installed ones, too. Any other is named PACKAGE.MODULE:NAME."
        )
    if not RECIPE_ADDRESS.match(found[0]):
        raise RecipeError(f"recipe {name}: its entry point is {found[0]!r}, expected PACKAGE.MODULE:NAME.")
    return found[0]
