"""What is a recipe?

A recipe declares: its networks, its loss, the engine that trains it, the images on its grids, and a default for each
option that depends on the recipe. The rest of gan/ asks what a recipe declares, never for its name. A recipe is data:
it needs no torch, so that `gan train --help` starts quickly.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from gan.config import OnCollapse, RecipeName

NUM_CLASSES = 10


@dataclass(frozen=True)
class Defaults:
    """Hold a recipe's value of each option that is left open."""

    num_steps: int
    conditional: bool
    learning_rate: float
    lr_decay_start: float
    lr_decay_from: float
    lr_decay_to: float
    beta1: float
    beta2: float
    dropout: float
    augment_translate: int
    augment_start: float
    r1_gamma: float
    ema_decay: float
    on_collapse: OnCollapse


@dataclass(frozen=True)
class MlpNetworks:
    """Declare a generator and a discriminator of linear layers, see gan.recipes.mlp_networks."""

    supports_dropout: ClassVar[bool] = True
    supports_unconditional: ClassVar[bool] = True
    class_latents: ClassVar[int] = NUM_CLASSES  # latents that the class replaces, so that the layers keep their sizes

    batch_norm_eps: float
    leaky_slope: float  # of the discriminator's LeakyReLU; 0 is a ReLU


@dataclass(frozen=True)
class ConvNetworks:
    """Declare a generator and a discriminator of convolutions, see gan.recipes.conv_networks."""

    supports_dropout: ClassVar[bool] = False
    supports_unconditional: ClassVar[bool] = False
    class_latents: ClassVar[int] = 0


@dataclass(frozen=True)
class Recipe:
    """Declare what is trained, and how, where the options do not say otherwise."""

    name: RecipeName
    summary: str  # one line, for --help
    networks: MlpNetworks | ConvNetworks
    # autograd trains any networks; mlp is faster, for MlpNetworks alone, with a backward pass that is written out.
    engine: Literal["mlp", "autograd"]
    # Both are binary cross-entropy on the discriminator's logits; rectified_bce applies a ReLU to them first.
    loss: Literal["bce", "rectified_bce"]
    # The images of a grid: the first fakes of the step's batch, or samples at the same latents each time.
    grid: Literal["batch", "fixed_latents"]
    defaults: Defaults
    # The values that some defaults approach as a run gets shorter.
    short_run: Mapping[str, float] = field(default_factory=dict)

    def defaults_for(self, num_steps: int | None = None) -> dict[str, Any]:
        """Return the default of each option for a run of `num_steps`; None: of the recipe's own length.

        Let r = min(num_steps / own length, 1). A default with a value for short runs is

            default * r + short_run * (1 - r)

        so it changes linearly with the length, and a run of the own length or longer has the default itself.
        """
        own = self.defaults
        r = min((num_steps or own.num_steps) / own.num_steps, 1)
        scaled = {name: getattr(own, name) * r + short * (1 - r) for name, short in self.short_run.items()}
        return {**asdict(own), **scaled}
