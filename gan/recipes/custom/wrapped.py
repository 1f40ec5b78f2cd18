"""How are the networks of somebody else's recipe built and called, and what is said when they fail?"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gan.errors import GanError, RecipeError
from gan.recipes.base import CustomNetworks, Sizes
from gan.recipes.custom.importing import first_line
from gan.recipes.generator import Generator


class CustomGenerator(Generator):
    """Call a recipe's generator with the labels that the latents decide."""

    def __init__(self, network: nn.Module, sizes: Sizes, where: str) -> None:
        shape = sizes.channels, sizes.side, sizes.side
        super().__init__(conditional=sizes.conditional, num_classes=sizes.classes, image_shape=shape)
        self.network, self.where = network, where

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, channels, side, side) in [-1, 1] for latents (B, latent_dim)."""
        images = call(self.where, self.network, z, self.labels(z))
        return check_shape(self.where, images, (len(z), *self.image_shape))


class CustomDiscriminator(nn.Module):
    """Call a recipe's discriminator."""

    def __init__(self, network: nn.Module, where: str) -> None:
        super().__init__()
        self.network, self.where = network, where

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) of images (B, channels, side, side) as images of their classes (B,)."""
        return check_shape(self.where, call(self.where, self.network, images, labels), (len(images),))


def build(networks: CustomNetworks, sizes: Sizes, address: str) -> tuple[CustomGenerator, CustomDiscriminator]:
    """Build a recipe's networks. Raises RecipeError where they cannot be built or trained."""
    g_where, d_where = f"recipe {address}: its generator", f"recipe {address}: its discriminator"
    generator = _build(g_where, networks.generator, sizes)
    discriminator = _build(d_where, networks.discriminator, sizes)
    return CustomGenerator(generator, sizes, g_where), CustomDiscriminator(discriminator, d_where)


def call(where: str, function: Callable[..., Any], *inputs: Any) -> Any:
    """Call a function of a recipe. Raises RecipeError, in one sentence, where it raises."""
    try:
        return function(*inputs)
    except GanError:
        raise
    except Exception as error:
        raise RecipeError(f"{where} failed ({first_line(error)}). Add --debug for the traceback.") from error


def check_shape(where: str, found: Any, expected: tuple[int, ...]) -> Tensor:
    """Return a tensor. Raises RecipeError where it is none, or has another shape."""
    if not isinstance(found, Tensor):
        raise RecipeError(f"{where} returned {type(found).__name__}, expected a tensor of shape {expected}.")
    if found.shape != expected:
        raise RecipeError(f"{where} returned shape {tuple(found.shape)}, expected {expected}.")
    return found


def _build(where: str, function: Callable[[Sizes], Any], sizes: Sizes) -> nn.Module:
    network = call(where, function, sizes)
    if not isinstance(network, nn.Module):
        raise RecipeError(f"{where} is {type(network).__name__}, expected a torch.nn.Module.")
    if faults := _faults(network):
        raise RecipeError(f"{where} cannot be trained: {'; '.join(faults)}.")
    return network


def _faults(network: nn.Module) -> list[str]:
    """List what keeps a module's state from being trained by Adam, averaged and saved by name."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    if not parameters:
        return ["it has no parameters"]
    faults = [f"{name} has no shape yet" for name, each in parameters.items() if is_lazy(each)]
    if faults:
        return faults
    names: dict[int, str] = {}
    for name, each in parameters.items():
        if (first := names.setdefault(id(each), name)) != name:
            faults.append(f"{first} and {name} are one parameter")
        if not each.is_floating_point() or not each.requires_grad:
            faults.append(f"{name} is not trained: make it a buffer")
    state = network.state_dict(keep_vars=True)
    faults += [f"{name} in its state_dict is no tensor" for name, each in state.items() if not isinstance(each, Tensor)]
    faults += [f"{name} is missing in its state_dict" for name in parameters.keys() - state.keys()]
    return faults
