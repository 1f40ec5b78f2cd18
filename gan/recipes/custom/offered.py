"""Which recipes are there to choose from: the built-in ones, and those of installed packages?"""

from typing import Literal

from pydantic import BaseModel, Field

from gan.config import RECIPE_ADDRESS
from gan.recipes.custom.naming import installed
from gan.recipes.resolve import RECIPES


class RecipeInfo(BaseModel):
    """One recipe that `--recipe` takes by its name. A package that has it was not imported."""

    version: Literal[1] = 1
    name: str
    address: str | None = Field(description="PACKAGE.MODULE:NAME; null where it is built in.")
    distribution: str | None = Field(description="The installed one that offers it, with its version; null: built in.")
    summary: str | None = Field(description="Null where it is not built in: the package would have to be imported.")
    fault: str | None = Field(None, description="Why it cannot be used by this name; null where it can.")


def offered() -> list[RecipeInfo]:
    """List the built-in recipes, then those of installed packages by name. Nothing is imported."""
    found = [
        RecipeInfo(name=each.name, address=None, distribution=None, summary=each.summary) for each in RECIPES.values()
    ]
    entries = installed()
    names = [entry.name for entry in entries]
    for entry in entries:
        fault = None
        if entry.name in RECIPES:
            fault = "a built-in recipe has this name: use the address"
        elif names.count(entry.name) > 1:
            fault = "several packages offer this name: use the address"
        elif not RECIPE_ADDRESS.match(entry.value):
            fault = "its entry point is not PACKAGE.MODULE:NAME"
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else None
        found.append(
            RecipeInfo(name=entry.name, address=entry.value, distribution=distribution, summary=None, fault=fault)
        )
    return found
