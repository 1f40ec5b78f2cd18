"""When is the module of a recipe imported, and what must be in it?

A recipe is code. A config or a checkpoint may come from somebody else, so what it names is imported only if the user
has named the same recipe, and the package has the hash that the config says.
"""

from dataclasses import asdict, fields
from functools import cache
from importlib import import_module
from types import NoneType
from typing import Any

from pydantic import ValidationError

from gan.config import TrainConfig
from gan.errors import ConfigMismatchError, GanError, RecipeError
from gan.recipes.base import (
    ConvNetworks,
    CustomLoss,
    CustomNetworks,
    Defaults,
    EmbeddedMlpNetworks,
    MlpNetworks,
    Recipe,
)
from gan.recipes.custom.fingerprint import fingerprint

ENGINES = {MlpNetworks: "mlp", ConvNetworks: "autograd", CustomNetworks: "autograd"}
KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "summary": (str,),
    "defaults": (Defaults,),
    "networks": tuple(ENGINES),
    "networks_of_others": (EmbeddedMlpNetworks, NoneType),
}
_permitted: set[str] = set()  # of this process: what its command line or GAN_RECIPES names


def permit(address: str) -> None:
    """Let this process import a recipe, since the user has named it."""
    _permitted.add(address)


def load(address: str, expected: str | None = None) -> Recipe:
    """Return the recipe at an address, from a package whose SHA-256 is the expected one, if that is given.

    Raises:
        RecipeError: the user has not named it, it cannot be imported, or it is no recipe.
        ConfigMismatchError: its code is another. Nothing was imported.
    """
    if address not in _permitted:
        raise RecipeError(
            f"the recipe {address} is code that is not part of gan-train, and nobody has named it here. If you trust "
            f"it, add --recipe {address}; a worker takes it if its GAN_RECIPES names it. Nothing was imported."
        )
    found = fingerprint(address)
    if expected not in (None, found.sha256):
        raise ConfigMismatchError(
            f"recipe {address}: its code is not the one that the run was made with: the package has SHA-256 "
            f"{found.sha256} ({found.distributions or 'found by PYTHONPATH'}), the run has {expected}. Install the "
            "version that made the run, or start another run. Nothing was imported."
        )
    return _import(address)


def first_line(error: BaseException) -> str:
    """Return an error of somebody else's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@cache
def _import(address: str) -> Recipe:
    module, _, name = address.partition(":")
    try:
        found = getattr(import_module(module), name)
    except GanError:
        raise
    except AttributeError as error:
        raise RecipeError(f"recipe {address}: the module {module} has no {name} ({first_line(error)}).") from error
    except (Exception, SystemExit) as error:
        raise RecipeError(f"recipe {address}: it cannot be imported ({first_line(error)}).") from error
    if faults := _faults(found):
        raise RecipeError(f"recipe {address}: {'; '.join(faults)}. gan/recipes/base.py says what a recipe is.")
    assert isinstance(found, Recipe)
    return found


def _faults(found: object) -> list[str]:
    """List what keeps an object from being a recipe. Types are checked, because nothing else has checked them."""
    if not isinstance(found, Recipe):
        return [f"expected a gan.recipes.base.Recipe, found {type(found).__name__}"]
    faults = []
    for name, kinds in KINDS.items():
        if not isinstance(getattr(found, name), kinds):
            faults.append(f"{name} is {getattr(found, name)!r:.80}")
    if faults:
        return faults
    engine = ENGINES[type(found.networks)]
    if found.engine != engine:
        faults.append(f"engine is {found.engine!r:.80}, and these networks need {engine!r}")
    if found.grid not in ("batch", "fixed_latents"):
        faults.append(f"grid is {found.grid!r:.80}, expected 'batch' or 'fixed_latents'")
    return [*faults, *_faults_of_loss(found), *_faults_of_networks(found.networks), *_faults_of_defaults(found)]


def _faults_of_loss(found: Recipe) -> list[str]:
    if isinstance(found.loss, CustomLoss):
        faults = _not_functions(found.loss)
        return faults if found.engine == "autograd" else [*faults, "a CustomLoss needs the engine 'autograd'"]
    return [] if found.loss in ("bce", "rectified_bce") else [f"loss is {found.loss!r:.80}"]


def _faults_of_networks(networks: object) -> list[str]:
    if not isinstance(networks, CustomNetworks):
        return []
    supported = networks.supports_conditional or networks.supports_unconditional
    return _not_functions(networks) + ([] if supported else ["the networks support neither kind of conditioning"])


def _not_functions(declared: CustomNetworks | CustomLoss) -> list[str]:
    kind = type(declared).__name__
    return [f"{name} of {kind} is no function" for name in ("generator", "discriminator")
            if not callable(getattr(declared, name))]  # fmt: skip


def _faults_of_defaults(found: Recipe) -> list[str]:
    """Return which defaults are no values of their options, for the recipe's own length and for the shortest run."""
    unknown = [name for name in found.short_run if name not in {field.name for field in fields(Defaults)}]
    if unknown:
        return [f"short_run has {', '.join(unknown)}, which is no default"]
    try:
        return _faults_of_values(asdict(found.defaults)) or _faults_of_values(found.defaults_for(1))
    except ValidationError as error:
        return [f"defaults: {fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
    except (TypeError, ValueError, ArithmeticError) as error:
        return [f"defaults: {first_line(error)}"]


def _faults_of_values(values: dict[str, Any]) -> list[str]:
    """Return which values are None. Raises ValidationError where one is no value of its option."""
    TrainConfig(**values)
    return [f"defaults: {name} is None" for name, value in values.items() if value is None]
