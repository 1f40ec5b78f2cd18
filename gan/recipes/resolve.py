"""How does what was asked become the config of a run?"""

from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gan.config import RecipeName, RunConfig, TrainConfig
from gan.recipes.base import Recipe
from gan.recipes.dcgan import DCGAN
from gan.recipes.published import PUBLISHED
from gan.recipes.tuned import TUNED

RECIPES: dict[RecipeName, Recipe] = {recipe.name: recipe for recipe in (PUBLISHED, TUNED, DCGAN)}


def recipe_of(config: TrainConfig) -> Recipe:
    """Return the recipe that a config names."""
    return RECIPES[config.recipe]


def check(config: TrainConfig) -> TrainConfig:
    """Return the config if its recipe supports it. Raises pydantic's ValidationError, field by field, if not."""
    networks, name = recipe_of(config).networks, config.recipe
    is_conditional = recipe_of(config).defaults.conditional if config.conditional is None else config.conditional
    faults: dict[str, str] = {}
    if is_conditional and config.latent_dim <= networks.class_latents:
        faults["conditional"] = (
            f"the class takes the place of {networks.class_latents} latents: "
            f"give --latent-dim {networks.class_latents + 1} or more, or --no-conditional"
        )
    if not is_conditional and not networks.supports_unconditional:
        faults["conditional"] = f"recipe {name} is always class-conditional: leave this option out"
    if config.dropout and not networks.supports_dropout:
        faults["dropout"] = f"recipe {name} has no dropout: leave it out, or give 0"
    if faults:
        details = [
            InitErrorDetails(type=PydanticCustomError("recipe", message), loc=(field,), input=getattr(config, field))
            for field, message in faults.items()
        ]
        raise ValidationError.from_exception_data(type(config).__name__, details)
    return config


def resolve(
    asked: TrainConfig,
    *,
    seed: int,
    device: Literal["cpu", "cuda"],
    num_threads: int,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> RunConfig:
    """Fill each open field: by the recipe, then seed, threads and precision as given. The device is as given.

    Raises:
        ValidationError: the recipe does not support what was asked.
    """
    check(asked)
    values = {**recipe_of(asked).defaults_for(asked.num_steps), "seed": seed, "num_threads": num_threads}
    filled = _fill(asked.model_dump(), values)
    if asked.precision == "auto":
        filled["precision"] = precision
    return RunConfig(**{**filled, "device": device})


def stored_config(fields: dict[str, Any]) -> RunConfig:
    """Read the config of a run from the fields in its config.json or in a checkpoint.

    A version that did not have a field yet acted as if it had these values, so its runs keep them. Raises ValueError
    for fields that no run can have.
    """
    stored = check(TrainConfig.model_validate(fields))
    acted_as = {
        "conditional": not recipe_of(stored).networks.supports_unconditional,
        "lr_decay_to": stored.lr_decay_from,
        "augment_start": stored.lr_decay_start,
        "on_collapse": recipe_of(stored).defaults.on_collapse,
    }
    return RunConfig(**_fill(stored.model_dump(), acted_as))


def _fill(fields: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields, each None replaced by its value, if it has one."""
    return {name: values.get(name) if value is None else value for name, value in fields.items()}
