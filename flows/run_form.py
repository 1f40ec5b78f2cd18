"""What does the form that starts a run show: which fields, in which order, and with which words?"""

from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from flows.settings import recipes_from_env
from gan.cli.options import FIRST_OPTIONS
from gan.config import TrainConfig
from gan.recipes.describe import OF_RECIPES, OTHERS, recipe_defaults, recipe_summaries
from gan.recipes.resolve import RECIPES, check_built_in

INTRO = (
    "Press Submit to train as the recipe says, or fill in what shall differ. An empty field takes the value that its "
    "text names. The fields from Latent Dim on are for experts."
)
ORDER = sorted(TrainConfig.model_fields, key=lambda name: name not in FIRST_OPTIONS)
EMPTY = {**OTHERS, "seed": "0, or in a nightly run its scheduled time"}


class RunForm:
    """Annotate a flow's parameter of type TrainConfig: its recipe checks it, and Prefect's UI shows it as a form."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the config after its fields. A recipe that is not built in is checked when the run starts."""
        return core_schema.no_info_after_validator_function(check_built_in, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each field, and give it a position. A database may change the order of the keys.

        The recipes are a list to choose from: the built-in ones, and those that GAN_RECIPES names where the flow is
        deployed.
        """
        reference = handler(schema)
        form = handler.resolve_ref_schema(reference)
        form["description"] = INTRO
        fields = form["properties"]
        fields["recipe"] = {**fields["recipe"], "enum": [*RECIPES, *recipes_from_env()]}
        form["properties"] = {
            name: {**_without_null(fields[name]), "description": help_of(name), "position": position}
            for position, name in enumerate(ORDER)
        }
        return reference


def help_of(name: str) -> str:
    """Return what a field is for, and what it means when it is empty, in one sentence."""
    sentence = str(TrainConfig.model_fields[name].description).removesuffix(".")
    if name == "recipe":
        return f"{sentence}; {recipe_summaries()}."
    if name in OF_RECIPES:
        return f"{sentence}; empty: as the recipe says, {recipe_defaults(name)}."
    return f"{sentence}; empty: {EMPTY[name]}." if name in EMPTY else f"{sentence}."


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field that may be empty, without a switch between a value and None.

    A boolean becomes a list, because a form cannot show a switch that is neither on nor off. Prefect's server refuses
    null for a list: with null among its values, the V2 UI shows an editor of JSON in its place.
    """
    if "anyOf" not in field:
        return field
    (kind,) = (kind for kind in field["anyOf"] if kind != {"type": "null"})
    if kind == {"type": "boolean"}:
        kind = {"enum": [True, False]}
    return {"title": field["title"], **kind}
