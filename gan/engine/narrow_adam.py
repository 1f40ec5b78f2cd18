"""How does Adam update a network on a CPU whose products read bfloat16?"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan.engine.adam import EPS, Adam, Moments
from gan.engine.cpu import kernels

NARROW = torch.bfloat16


class Share(NamedTuple):
    """What is updated by one call, each (N,) of the parameters' dtype, but for what is None or bits of bfloat16."""

    grads: np.ndarray
    parameters: np.ndarray
    means: np.ndarray
    squares: np.ndarray
    average: np.ndarray | None
    copy: np.ndarray | None


class NarrowAdam(Adam):
    """Adam that reads the gradients by weights in bfloat16, and keeps beside each weight its copy in it.

    All in one pass, since what a pass takes is the reading and the writing.
    """

    def __init__(
        self,
        network: nn.Module,
        moments: Mapping[str, Moments],
        betas: tuple[float, float],
        layers: Sequence[int],
        average: nn.Module | None = None,
    ) -> None:
        """Copy each layer's first parameter, its weight; a head of one output, which takes no product, has no copy."""
        super().__init__(network, moments, betas, layers, average)
        weights = list(network.parameters())
        self.copies: list[Tensor] = []  # of the weights (out, in), layer by layer
        self.shares: list[list[Share]] = []  # of each layer
        for layer, first in enumerate(accumulate(layers[:-1], initial=0)):
            parameters, grads, means, squares = self.parts[layer]
            averages = [self.averaged[layer][1][-len(parameters) :]] if self.averaged else []
            weight = weights[first].data
            sizes = [size := weight.numel() if len(weight) > 1 else 0, len(parameters) - size]
            tensors = (torch.split(t, sizes) for t in (grads, parameters, means, squares, *averages))
            for_weight, others = ([t.numpy() for t in part] for part in zip(*tensors, strict=True))
            none = [] if averages else [None]
            self.shares.append([Share._make([*others, *none, None])])
            if size:
                copy, self.grads[first] = weight.to(NARROW), torch.zeros_like(weight, dtype=NARROW)
                for_weight[0] = bits(self.grads[first]).ravel()
                self.shares[-1].append(Share._make([*for_weight, *none, bits(copy).ravel()]))
                self.copies.append(copy)

    def update(self, layer: int) -> None:
        """Update a layer's parameters by `grads`, and their average and copy; two threads may update two at once."""
        step, rate, ema_weight = (float(each) for each in (self.num_steps[0], self.learning_rate, self.ema_weight))
        beta1, beta2 = self.betas
        for share in self.shares[layer]:
            kernels.adam(step, rate, beta1, beta2, EPS, ema_weight, *share)
        if self.averaged and layer == 0:
            live, average = (t[: -len(self.parts[0][0])] for t in self.averaged[0])  # a norm's running statistics
            average.lerp_(live, self.ema_weight)


def bits(tensor: Tensor) -> np.ndarray:
    """Return a tensor's memory as kernels read it, bfloat16 as uint16."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == NARROW else tensor.numpy()
