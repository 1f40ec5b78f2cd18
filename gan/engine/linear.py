"""What do the engines of linear networks have in common, on a CPU and on a GPU?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan.config import TrainConfig
from gan.engine.adam import Adam, join
from gan.engine.base import Engine
from gan.engine.state import TrainState
from gan.recipes.networks import MlpDiscriminator, dropout_masks

SLOPE_G = 0.2  # of G's LeakyReLU
G_LAYERS = (2, 4, 4, 4, 2)  # parameters of each: a weight, a bias, and those of the norm after it
D_LAYERS = (2, 2, 2, 2)


class MlpEngine(Engine):
    """Take steps on `published` and `tuned`. Their way back is written out.

    These networks are a dozen matrix products, and a graph of autograd's costs as much as half of them.
    """

    def __init__(
        self,
        state: TrainState,
        config: TrainConfig,
        dtype: torch.dtype,
        layers: tuple[Sequence[int], Sequence[int]] = ((sum(G_LAYERS),), (sum(D_LAYERS),)),
        adam: type[Adam] = Adam,
    ) -> None:
        """Read what of the recipe is not in the layers."""
        super().__init__(state, config, dtype, layers, adam)
        assert config.dropout is not None and isinstance(state.discriminator, MlpDiscriminator)
        self.dropout, self.slope, self.tell = config.dropout, state.discriminator.slope, state.discriminator.tell
        self.norms = [layer for layer in state.generator.layers if isinstance(layer, nn.BatchNorm1d)]
        self.fake_digits = torch.empty(0)  # (B,), where G is told them
        self.num_tracked = join([t for norm in self.norms if (t := norm.num_batches_tracked) is not None])

    def draw(self) -> Tensor:
        """Draw latents (B, latent_dim), and dropout masks (2B, width) for D's hidden layers or none."""
        z = super().draw()
        self.masks = dropout_masks(2 * len(z), self.dropout, self.state.random, z)
        return z
