"""Are a network's layers found with the norms after them, and their gradients in the same order?"""

import pytest
from torch import nn

from gan.engine.adam import Adam, Moments
from gan.engine.linear import blocks_of, grads_by_block


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))


def test_each_linear_layer_is_a_block_with_the_norm_after_it(network: nn.Sequential) -> None:
    blocks = blocks_of(network)
    assert [block.linear for block in blocks] == [network[0], network[2], network[4]]
    assert [block.norm for block in blocks] == [None, network[3], None]


def test_gradients_are_listed_block_by_block(network: nn.Sequential) -> None:
    blocks = blocks_of(network)
    adam = Adam(network, Moments.zeros(network), (0.9, 0.999), [block.num_parameters for block in blocks])
    shapes = [[tuple(grad.shape) for grad in grads] for grads in grads_by_block(adam, blocks)]
    assert shapes == [[(4, 3), (4,)], [(5, 4), (5,), (5,), (5,)], [(1, 5), (1,)]]
