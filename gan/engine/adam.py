"""How does Adam update a network, and after it the network's average, a layer at a time?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan.engine.cpu import kernels

EPS = 1e-8
# Less than these, a mean moves a weight by less than the step size times 1e-12, and the root of a square is lost beside
# EPS. Where a gradient stays 0 both would shrink until they are subnormal, a mean with a beta1 of 0.5 within 60 steps,
# and on those numbers a CPU is thirty times as slow.
LEAST_MEAN, LEAST_SQUARE = 1e-20, 1e-32


class Moments(NamedTuple):
    """What Adam remembers of a parameter, by the names that torch.optim.Adam has for it.

    That class is not used itself: to make one imports torch's compiler, 150 MB and some seconds.
    """

    step: Tensor  # how many updates, a float32 ()
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, network: nn.Module) -> "dict[str, Moments]":
        """Make those that a network's parameters begin with, by name, in the order of parameters()."""
        return {
            name: cls(torch.zeros((), device=p.device), torch.zeros_like(p.data), torch.zeros_like(p.data))
            for name, p in network.named_parameters()
        }


class Adam:
    """Adam (Kingma and Ba 2015) on tensors that are joined, so that one call does many."""

    def __init__(
        self,
        network: nn.Module,
        moments: Mapping[str, Moments],
        betas: tuple[float, float],
        layers: Sequence[int],
        average: nn.Module | None = None,
    ) -> None:
        """Join the network's floats, the moments and the average's, each into one tensor.

        `layers` says how many parameters, in the order of parameters(), are updated at a time.
        """
        self.betas = betas
        live = join(floats(network))
        self.num_steps, means, squares = (join(each) for each in zip(*moments.values(), strict=True))
        grads, parameters = torch.zeros_like(means), list(network.parameters())
        self.grads = split_like(grads, parameters)  # in the order of parameters()
        counts = iter(parameter.numel() for parameter in parameters)
        sizes = [sum(next(counts) for _ in range(layer)) for layer in layers]
        adams = live[-len(means) :], grads, means, squares
        self.moments = means, squares
        self.parts = [*zip(*(torch.split(tensor, sizes) for tensor in adams), strict=True)]
        sizes[0] += len(live) - len(means)  # a norm's running statistics are averaged, too
        averaged = (live, join(floats(average))) if average is not None else ()
        self.averaged = [*zip(*(torch.split(tensor, sizes) for tensor in averaged), strict=True)]

    def begin(self, learning_rate: float | Tensor, ema_weight: float | Tensor) -> None:
        """Begin a step: by these, each layer is to be updated once."""
        self.num_steps.add_(1)
        self.learning_rate, self.ema_weight = learning_rate, ema_weight

    def update(self, layer: int) -> None:
        """Update a layer's parameters by `grads`, and its average; with all layers in one, when it is the first's turn.

        Layers share nothing: two threads may update two of them at once.
        """
        if layer >= len(self.parts):
            return
        parameters, grads, means, squares = self.parts[layer]
        beta1, beta2 = self.betas
        torch._fused_adam_(
            [parameters], [grads], [means], [squares], [], [self.num_steps[0]], lr=self.learning_rate, beta1=beta1,
            beta2=beta2, eps=EPS, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip
        if self.averaged:
            live, average = self.averaged[layer]
            average.lerp_(live, self.ema_weight)

    def flush(self) -> None:
        """Set the moments to 0, on a CPU, that are too small to matter, of dead units say."""
        for moments, least in zip(self.moments, (LEAST_MEAN, LEAST_SQUARE), strict=True):
            kernels.flush(least, moments.numpy())


def floats(network: nn.Module) -> list[Tensor]:
    """Return a network's running statistics and, after them, its parameters, themselves."""
    tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
    return sorted(tensors, key=lambda t: isinstance(t, nn.Parameter))


def join(tensors: Sequence[Tensor]) -> Tensor:
    """Make tensors views of one new tensor, so that one operation changes them all."""
    joined = torch.cat([t.data.flatten() for t in tensors])
    for t, view in zip(tensors, split_like(joined, tensors), strict=True):
        t.data = view
    return joined


def split_like(joined: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a joined tensor, each in the shape of one of `tensors`."""
    parts = torch.split(joined, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
