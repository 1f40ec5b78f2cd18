"""Which networks does a run train?"""

from gan.config import RunConfig
from gan.recipes.base import ConvNetworks, CustomNetworks, EmbeddedMlpNetworks, MlpNetworks, Sizes
from gan.recipes.conv_networks import ConvDiscriminator, ConvGenerator
from gan.recipes.custom.wrapped import CustomDiscriminator, build
from gan.recipes.generator import Generator
from gan.recipes.mlp_networks import (
    EmbeddedMlpDiscriminator,
    EmbeddedMlpGenerator,
    MlpDiscriminator,
    MlpGenerator,
)
from gan.recipes.resolve import recipe_of

Discriminator = MlpDiscriminator | EmbeddedMlpDiscriminator | ConvDiscriminator | CustomDiscriminator


def make_networks(config: RunConfig) -> tuple[Generator, Discriminator]:
    """Build the networks that the recipe declares, on the CPU, with weights from torch's global random numbers."""
    sizes = sizes_of(config)
    match recipe_of(config).networks_for(config.data_shape):
        case MlpNetworks(batch_norm_eps, leaky_slope):
            conditional = config.conditional
            generator: Generator = MlpGenerator(
                config.latent_dim, batch_norm_eps, conditional=conditional, num_classes=sizes.classes
            )
            return generator, MlpDiscriminator(leaky_slope, conditional=conditional)
        case EmbeddedMlpNetworks(batch_norm_eps, leaky_slope):
            return EmbeddedMlpGenerator(sizes, batch_norm_eps), EmbeddedMlpDiscriminator(sizes, leaky_slope)
        case ConvNetworks():
            return ConvGenerator(sizes), ConvDiscriminator(sizes)
        case CustomNetworks() as networks:
            return build(networks, sizes, config.recipe)


def sizes_of(config: RunConfig) -> Sizes:
    """Return what the networks of a run are built for."""
    shape = config.data_shape
    return Sizes(config.latent_dim, shape.side, shape.channels, max(shape.num_classes, 1), config.conditional)
