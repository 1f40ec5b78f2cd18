"""Which features does a fixed random network give, where a data set has no labels to train a classifier on?

Three convolutions with random filters that answer to differences of pixels, not to their mean. Two kinds of features:
how strongly each filter answers in an image as a whole, as a logarithm, because noise and blur change that; and random
sums over a coarse map of the last answers, which tell what lies where. All are scaled to the training images' spread,
so that each counts about as much. Nothing is learnt.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.evaluation.classifier import NUM_FEATURES, FeatureNetwork, chunk_for
from gan.images import from_uint8
from gan.seeds import make_rng

SEED = 0
NUM_FILTERS = (24, 24, 32)  # of the three convolutions
NUM_LAYOUT = NUM_FEATURES - sum(NUM_FILTERS)
MAP_SIDE = 4  # of the coarse map
LEAST_ANSWER = 1e-2  # added before the logarithm: a flat image has answers of 0
LEAST_SPREAD = 1e-6  # a feature that all images share is not scaled up
NUM_SCALING = 10_000  # training images that the scale is taken from, at most


class RandomFeatures(FeatureNetwork):
    """Give 128 features of an image of any size. It knows no classes, so its logits are (N, 0)."""

    def __init__(self, channels: int) -> None:
        """Allocate the weights; `random_features` draws them."""
        super().__init__()
        inputs = (channels, *NUM_FILTERS)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape), requires_grad=False)

        self.filters = nn.ParameterList(weights(count, inputs[n], 3, 3) for n, count in enumerate(NUM_FILTERS))
        self.layout = weights(NUM_FILTERS[-1] * MAP_SIDE**2, NUM_LAYOUT)
        self.mean, self.spread = weights(NUM_FEATURES), weights(NUM_FEATURES)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 128) of images (B, C, side, side) in [-1, 1]."""
        return (self.raw_features(images) - self.mean) / self.spread

    def raw_features(self, images: Tensor) -> Tensor:
        """Return features (B, 128) before they are scaled."""
        answers, found = images, []
        for filters in self.filters:
            answers = F.relu(F.conv2d(answers, filters, padding=1))
            found.append((answers.mean((2, 3)) + LEAST_ANSWER).log())
            answers = F.avg_pool2d(answers, 2)
        coarse = F.adaptive_avg_pool2d(answers, MAP_SIDE).flatten(1)  # (B, 32 * 16)
        return torch.cat([*found, coarse @ self.layout], 1)

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (B, 0)."""
        return features[:, :0]


@torch.no_grad()
def random_features(images: Tensor) -> RandomFeatures:
    """Return the network for a data set with these training images (N, C, side, side) uint8."""
    rng = make_rng(SEED, "random features")
    network = RandomFeatures(images.shape[1])
    for filters in network.filters:
        filters.copy_(_draw_filters(filters, rng))
    network.layout.copy_(torch.randn(network.layout.shape, generator=rng) / math.sqrt(len(network.layout)))
    network.to(memory_format=torch.channels_last)  # half the time on a CPU
    chosen = images[torch.randperm(len(images), generator=rng)[:NUM_SCALING]]
    parts = torch.split(chosen, chunk_for(images.shape[-1]))
    raw = torch.cat([network.raw_features(from_uint8(part)) for part in parts]).double()
    network.mean.copy_(raw.mean(0))
    network.spread.copy_(raw.std(0).clamp(min=LEAST_SPREAD))
    return network.eval()


def _draw_filters(like: Tensor, rng: torch.Generator) -> Tensor:
    """Return random filters (D, C, 3, 3). Each sums to 0, and keeps the variance of what it sees through the ReLU."""
    drawn = torch.randn(like.shape, generator=rng)
    drawn -= drawn.mean((1, 2, 3), keepdim=True)
    return drawn * math.sqrt(2) / drawn.square().sum((1, 2, 3), keepdim=True).sqrt()
