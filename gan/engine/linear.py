"""What do the engines of linear networks, on a CPU and on a GPU, have in common?"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan.config import RunConfig
from gan.engine.adam import Adam, MixedPrecisionAdam, join
from gan.engine.base import Engine
from gan.engine.state import TrainState
from gan.recipes.mlp_networks import MlpDiscriminator, dropout_masks

G_SLOPE = 0.2  # of G's LeakyReLU


class Block(NamedTuple):
    """A linear layer and the batch norm after it, if there is one."""

    linear: nn.Linear
    norm: nn.BatchNorm1d | None

    @property
    def num_parameters(self) -> int:
        """How many parameters the block has: a weight and a bias, and as many of the norm."""
        return 4 if self.norm else 2


class LinearEngine(Engine):
    """Take steps on `published` and `tuned`, with a hand-written backward pass.

    These networks are a dozen matrix products, and autograd's graph would cost half as much again.
    """

    def __init__(
        self, state: TrainState, config: RunConfig, compute_dtype: torch.dtype, adam_class: type[Adam] = Adam
    ) -> None:
        """Read the layers and what the recipe adds to them."""
        self.g_blocks, self.d_blocks = blocks_of(state.generator), blocks_of(state.discriminator)
        g_sizes, d_sizes = ([block.num_parameters for block in blocks] for blocks in (self.g_blocks, self.d_blocks))
        if adam_class is not MixedPrecisionAdam:
            g_sizes, d_sizes = [sum(g_sizes)], [sum(d_sizes)]  # one fused call updates the whole network
        super().__init__(state, config, compute_dtype, (g_sizes, d_sizes), adam_class)
        assert isinstance(state.discriminator, MlpDiscriminator)
        self.dropout, self.d_slope = config.dropout, state.discriminator.slope
        self.mark_class = state.discriminator.mark_class
        norms = [block.norm for block in self.g_blocks if block.norm]
        self.num_batches_tracked = join([n.num_batches_tracked for n in norms if n.num_batches_tracked is not None])

    def draw_masks(self, like: Tensor) -> list[Tensor]:
        """Draw dropout masks (2B, width) for D's hidden layers in `like`'s dtype; none without dropout."""
        return dropout_masks(2 * len(like), self.dropout, self.state.rng, like)


def blocks_of(network: nn.Module) -> list[Block]:
    """List a network's linear layers in their order, each with the batch norm that follows it."""
    layers = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.BatchNorm1d))]
    blocks: list[Block] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            blocks.append(Block(layer, norm=None))
        else:
            blocks[-1] = Block(blocks[-1].linear, norm=layer)
    return blocks


def grads_by_block(adam: Adam, blocks: Sequence[Block]) -> list[list[Tensor]]:
    """Return Adam's gradients block by block: by weight and bias, then by the norm's scale and shift."""
    grads = iter(adam.grads)
    return [list(islice(grads, block.num_parameters)) for block in blocks]
