"""Which networks does a run train?"""

from gan.config import RunConfig
from gan.recipes.base import ConvNetworks, MlpNetworks
from gan.recipes.conv_networks import ConvDiscriminator, ConvGenerator
from gan.recipes.generator import Generator
from gan.recipes.mlp_networks import MlpDiscriminator, MlpGenerator
from gan.recipes.resolve import recipe_of

Discriminator = MlpDiscriminator | ConvDiscriminator


def make_networks(config: RunConfig) -> tuple[Generator, Discriminator]:
    """Build the networks that the recipe declares, on the CPU, with weights from torch's global random numbers."""
    match recipe_of(config).networks:
        case MlpNetworks(batch_norm_eps, leaky_slope):
            generator = MlpGenerator(config.latent_dim, batch_norm_eps, conditional=config.conditional)
            return generator, MlpDiscriminator(leaky_slope, conditional=config.conditional)
        case ConvNetworks():
            return ConvGenerator(config.latent_dim), ConvDiscriminator()
