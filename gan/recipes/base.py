"""What is a recipe?

A recipe declares: its networks, its loss, the engine that trains it, the images on its grids, and a default for each
option that depends on the recipe. The rest of gan/ asks what a recipe declares, never for its name. A recipe is data:
it needs no torch, so that `gan train --help` starts quickly.

A recipe outside of this package is a `Recipe`, too: an object of a module, which `--recipe package.module:name` names.
It may use everything here. Networks of its own are CustomNetworks, a loss of its own is a CustomLoss.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from gan.config import DataShape, OnCollapse

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

    sides: ClassVar[tuple[int, ...]] = (28,)
    channels: ClassVar[tuple[int, ...]] = (1,)
    max_classes: ClassVar[int] = NUM_CLASSES
    supports_dropout: ClassVar[bool] = True
    supports_conditional: ClassVar[bool] = True
    supports_unconditional: ClassVar[bool] = True
    class_latents: ClassVar[int] = NUM_CLASSES  # latents that the class replaces, so that the layers keep their sizes

    batch_norm_eps: float
    leaky_slope: float  # of the discriminator's LeakyReLU; 0 is a ReLU


@dataclass(frozen=True)
class EmbeddedMlpNetworks:
    """Declare the same linear layers for images of other forms, with inputs of their own for the classes.

    MlpNetworks have them among the pixels and latents, which fits MNIST alone. See gan.recipes.mlp_networks.
    """

    sides: ClassVar[tuple[int, ...]] = (28, 32, 64)
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    max_classes: ClassVar[int] = 1000
    supports_dropout: ClassVar[bool] = False
    supports_conditional: ClassVar[bool] = True
    supports_unconditional: ClassVar[bool] = True
    class_latents: ClassVar[int] = 0

    batch_norm_eps: float
    leaky_slope: float


@dataclass(frozen=True)
class ConvNetworks:
    """Declare a generator and a discriminator of convolutions, see gan.recipes.conv_networks."""

    sides: ClassVar[tuple[int, ...]] = (28, 32, 64)
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    max_classes: ClassVar[int] = 1000
    supports_dropout: ClassVar[bool] = False
    supports_conditional: ClassVar[bool] = True
    supports_unconditional: ClassVar[bool] = False  # of images that have labels
    class_latents: ClassVar[int] = 0


@dataclass(frozen=True)
class Sizes:
    """What networks are built for: the latents of the config, and the images and classes of the data."""

    latent_dim: int  # size of z, 1 or more
    side: int  # pixels of an image in each direction
    channels: int  # 1: grey, 3: RGB
    classes: int  # 1: the images have no labels
    conditional: bool  # whether the networks shall read the labels; else they ignore them


@dataclass(frozen=True)
class CustomNetworks:
    """Declare a generator and a discriminator by functions that build them. B is the number of images.

    generator(sizes) returns a torch.nn.Module G. G(z, labels) takes z (B, latent_dim), standard normal, and labels
    (B,) int64 in 0..classes-1. It returns images (B, channels, side, side) in [-1, 1]; -1 is black. The label is
    decided by z[:, 0], as often as the data has each class.

    discriminator(sizes) returns a torch.nn.Module D. D(images, labels) takes such images and labels, and returns one
    logit for each image, (B,): the higher, the more real. It sees the fakes and the reals of a step one after the
    other, each as a batch of its own.

    A run can be resumed bit for bit only if a step depends on nothing but its inputs and what a checkpoint keeps. That
    is each network's state_dict: parameters and persistent buffers, such as a batch norm's running statistics.
    So, for both modules:

    - The first weights may come from torch's global random numbers. They are seeded while the modules are built.
    - forward draws no random numbers: all noise is in z, of which there may be as much as --latent-dim says.
    - forward changes no state but persistent buffers, in place. It reads neither the time nor a file.
    - Each parameter is trained: it is a float tensor with one name, and requires a gradient.
    - forward may be called in eval mode, and by torch.autocast with bfloat16.
    - On a GPU, steps run in a CUDA graph. Without .item() and shapes that depend on data they can be captured;
      otherwise they run one by one, which is slower.

    `gan recipe check` tests this. An image may reach the logits of others in its batch, as through a batch norm.
    """

    sides: ClassVar[tuple[int, ...]] = ()  # any
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    max_classes: ClassVar[int] = 1000
    supports_dropout: ClassVar[bool] = False  # of the engine's; a layer of one's own would draw random numbers
    class_latents: ClassVar[int] = 0

    generator: Callable[[Sizes], Any]
    discriminator: Callable[[Sizes], Any]
    supports_conditional: bool = True
    supports_unconditional: bool = True  # images with labels; those without are trained without classes in any case
    # Whether D is linear in pieces: linear layers, convolutions, ReLU, LeakyReLU, without a norm. R1 then has no
    # gradient by what has one dimension, which are biases, and leaves it out.
    piecewise_linear: bool = False


Networks = MlpNetworks | EmbeddedMlpNetworks | ConvNetworks | CustomNetworks


def takes(networks: Networks, shape: DataShape) -> bool:
    """Return whether networks can be built for images of a shape."""
    is_known = shape.side in networks.sides or not networks.sides
    return is_known and shape.channels in networks.channels and shape.num_classes <= networks.max_classes


@dataclass(frozen=True)
class CustomLoss:
    """Declare the losses by functions of D's logits. Each returns a mean over its images, a tensor of shape ().

    They compute in float32 and must be differentiable by the logits. The checks of a training's health take a logit
    above 0 for "real", and a d_loss above 10 for an explosion. Where the loss means something else, let the default of
    on_collapse be "ignore".
    """

    generator: Callable[[Any], Any]  # of the fakes' logits (B,)
    discriminator: Callable[[Any, Any], Any]  # of the fakes' and the reals' logits, (B,) each


@dataclass(frozen=True)
class Recipe:
    """Declare what is trained, and how, where the options do not say otherwise."""

    name: str
    summary: str  # one line, for --help
    networks: MlpNetworks | ConvNetworks | CustomNetworks
    # autograd trains ConvNetworks and CustomNetworks; mlp is for MlpNetworks, with a backward pass that is written out.
    engine: Literal["mlp", "autograd"]
    # Both words are binary cross-entropy on the discriminator's logits; rectified_bce applies a ReLU to them first.
    # A CustomLoss needs the engine autograd.
    loss: Literal["bce", "rectified_bce"] | CustomLoss
    # The images of a grid: the first fakes of the step's batch, or samples at the same latents each time.
    grid: Literal["batch", "fixed_latents"]
    defaults: Defaults
    # The values that some defaults approach as a run gets shorter.
    short_run: Mapping[str, float] = field(default_factory=dict)
    # What is trained, by the engine autograd, on images that `networks` do not take.
    networks_of_others: EmbeddedMlpNetworks | None = None

    def networks_for(self, shape: DataShape) -> "Networks":
        """Return the networks for images of a shape."""
        if self.networks_of_others is None or takes(self.networks, shape):
            return self.networks
        return self.networks_of_others

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
