"""How does what was asked become the config of a run?"""

from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gan.config import MNIST_SHAPE, DataShape, RunConfig, TrainConfig
from gan.errors import DataError, RecipeError
from gan.recipes.base import Recipe, takes
from gan.recipes.custom.fingerprint import fingerprint
from gan.recipes.custom.importing import load
from gan.recipes.dcgan import DCGAN
from gan.recipes.published import PUBLISHED
from gan.recipes.tuned import TUNED

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PUBLISHED, TUNED, DCGAN)}  # the built-in ones
OF_CODE = ("recipe_sha256", "recipe_distributions")  # the fields that say which code a recipe is
FOUND = RunConfig.model_fields.keys() - TrainConfig.model_fields.keys()  # the fields that nobody can ask for


def recipe_of(config: TrainConfig) -> Recipe:
    """Return the recipe that a config names. One that is not built in is imported, if `load` may do so.

    Raises:
        RecipeError: it cannot be imported, or the user has not named it.
        ConfigMismatchError: the config of a run was made with other code.
    """
    if config.recipe in RECIPES:
        return RECIPES[config.recipe]
    made_with = (config.recipe_sha256 or "none") if isinstance(config, RunConfig) else None
    return load(config.recipe, made_with)


def check_built_in(config: TrainConfig) -> TrainConfig:
    """Return the config. Raise as `check` does, but leave a recipe alone that is not built in: it is not imported."""
    return check(config) if config.recipe in RECIPES else config


def check(config: TrainConfig, has_labels: bool = True) -> TrainConfig:
    """Return the config if its recipe supports it. This imports a recipe that is not built in.

    Raises:
        ValidationError: it does not; field by field.
        RecipeError: a recipe that is not built in does not, or cannot be imported.
    """
    networks, name = recipe_of(config).networks, config.recipe
    is_conditional = recipe_of(config).defaults.conditional if config.conditional is None else config.conditional
    faults: dict[str, str] = {}
    if is_conditional and config.latent_dim <= networks.class_latents:
        faults["conditional"] = (
            f"the class takes the place of {networks.class_latents} latents: "
            f"give --latent-dim {networks.class_latents + 1} or more, or --no-conditional"
        )
    if not is_conditional and has_labels and not networks.supports_unconditional:
        faults["conditional"] = f"recipe {name} is always class-conditional: leave this option out"
    if is_conditional and not networks.supports_conditional:
        faults["conditional"] = f"recipe {name} is never class-conditional: leave this option out"
    if config.dropout and not networks.supports_dropout:
        faults["dropout"] = f"recipe {name} has no dropout: leave it out, or give 0"
    if faults and name not in RECIPES:
        raise RecipeError("; ".join(f"{field}: {message}" for field, message in faults.items()) + ".")
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
    shape: DataShape = MNIST_SHAPE,
) -> RunConfig:
    """Fill each open field: by the recipe, then seed, threads and precision as given. The device is as given.

    Without labels no run is class-conditional.

    Raises:
        ValidationError, RecipeError: the recipe does not support what was asked.
        DataError: it does not support the images of the data set, or --conditional asks for labels that they lack.
    """
    if not shape.num_classes:
        if asked.conditional:
            raise DataError("the images have no labels, and --conditional needs them: leave this option out.")
        asked = asked.model_copy(update={"conditional": False})
    check(asked, has_labels=shape.num_classes > 0)
    check_shape(asked, shape)
    values = {**recipe_of(asked).defaults_for(asked.num_steps), "seed": seed, "num_threads": num_threads}
    filled = _fill(asked.model_dump(), values)
    if asked.precision == "auto":
        filled["precision"] = precision
    return RunConfig(**{**filled, "device": device, **_code_of(asked), **_fields_of(shape)})


def check_shape(config: TrainConfig, shape: DataShape) -> None:
    """Raise DataError where a recipe has no networks for the images of a data set."""
    networks = recipe_of(config).networks_for(shape)
    if takes(networks, shape):
        if config.dropout and not networks.supports_dropout:
            raise DataError(f"recipe {config.recipe} has no dropout on these images: leave --dropout out, or give 0.")
        return
    sides = ", ".join(map(str, networks.sides)) or "any"
    colours = " or ".join("grey" if channels == 1 else "RGB" for channels in networks.channels)
    raise DataError(
        f"recipe {config.recipe} trains on images of side {sides}, in {colours}, with at most {networks.max_classes:,} "
        f"classes. These have side {shape.side}, {shape.channels} channel{'s' * (shape.channels > 1)} and "
        f"{shape.num_classes:,} classes. Choose --recipe dcgan, or import them in another form."
    )


def _fields_of(shape: DataShape) -> dict[str, Any]:
    """Return the fields of a config that hold the shape; none for MNIST's, so that its runs have the same config."""
    if shape == MNIST_SHAPE:
        return {}
    return {**shape._asdict(), "background": bytes(shape.background).hex()}


def _code_of(asked: TrainConfig) -> dict[str, Any]:
    """Return which code a recipe is; nothing for one that is built in, whose code provenance.json names."""
    return {} if asked.recipe in RECIPES else dict(zip(OF_CODE, fingerprint(asked.recipe), strict=True))


def stored_config(fields: dict[str, Any]) -> RunConfig:
    """Read the config of a run from the fields in its config.json or in a checkpoint.

    A version that did not have a field yet acted as if it had these values, so its runs keep them. A recipe that is not
    built in is not imported, and all its runs have every field. Raises ValueError for fields that no run can have.
    """
    of_run = {name: value for name, value in fields.items() if name in FOUND}
    stored = TrainConfig.model_validate({name: value for name, value in fields.items() if name not in FOUND})
    if stored.recipe not in RECIPES:
        return RunConfig(**stored.model_dump(), **of_run)
    check(stored, has_labels=of_run.get("num_classes") != 0)
    acted_as = {
        "conditional": not recipe_of(stored).networks.supports_unconditional,
        "lr_decay_to": stored.lr_decay_from,
        "augment_start": stored.lr_decay_start,
        "on_collapse": recipe_of(stored).defaults.on_collapse,
    }
    return RunConfig(**_fill(stored.model_dump(), acted_as), **of_run)


def _fill(fields: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields, each None replaced by its value, if it has one."""
    return {name: values.get(name) if value is None else value for name, value in fields.items()}
