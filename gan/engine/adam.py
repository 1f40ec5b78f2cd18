"""How does Adam update a network's parameters, and after them their average, one layer at a time?

Parameters, gradients and moments are views of joined tensors, so that one call updates a whole layer, or all layers.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan.compiled import Array
from gan.engine.cpu import kernels
from gan.engine.cpu.kernels import as_array

EPS = 1e-8
# A smaller exp_avg moves a weight by less than 1e-12 times the step size. The root of a smaller exp_avg_sq is lost
# beside EPS. Where a gradient stays 0 both would shrink until they are subnormal (with a beta1 of 0.5, exp_avg within
# 60 steps), and on subnormal numbers a CPU is thirty times as slow.
MIN_EXP_AVG, MIN_EXP_AVG_SQ = 1e-20, 1e-32


class Moments(NamedTuple):
    """What Adam remembers of a parameter, under torch.optim.Adam's names.

    We do not use torch.optim.Adam: creating one imports torch's compiler, 150 MB and some seconds.
    """

    step: Tensor  # () float32, the number of updates
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def zeros(cls, network: nn.Module) -> "dict[str, Moments]":
        """Return the moments before the first update, by parameter name, in the order of parameters()."""
        return {
            name: cls(torch.zeros((), device=p.device), torch.zeros_like(p.data), torch.zeros_like(p.data))
            for name, p in network.named_parameters()
        }


class Layer(NamedTuple):
    """The tensors that one update changes, each (N,): parts of the joined tensors."""

    parameters: Tensor
    grads: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class AveragedLayer(NamedTuple):
    """A layer's parameters and their average; the first layer's come after all running statistics of the network."""

    live: Tensor
    average: Tensor


class Adam:
    """Adam (Kingma and Ba 2015) on joined tensors."""

    def __init__(
        self,
        network: nn.Module,
        moments: Mapping[str, Moments],
        betas: tuple[float, float],
        layer_sizes: Sequence[int],
        average: nn.Module | None = None,
    ) -> None:
        """Move the floats of `network`, `moments` and `average` into joined tensors.

        `layer_sizes` holds the number of parameters, in the order of parameters(), that each `update` changes.
        """
        self.beta1, self.beta2 = betas
        self.num_steps = join([each.step for each in moments.values()])
        self.exp_avg = join([each.exp_avg for each in moments.values()])
        self.exp_avg_sq = join([each.exp_avg_sq for each in moments.values()])
        joined_grads = torch.zeros_like(self.exp_avg)
        self.grads = split_like(joined_grads, list(network.parameters()))  # in the order of parameters()

        live = join(floats(network))
        num_statistics = len(live) - len(joined_grads)
        counts = numels(network, layer_sizes)
        adam_tensors = live[num_statistics:], joined_grads, self.exp_avg, self.exp_avg_sq
        parts = [torch.split(tensor, counts) for tensor in adam_tensors]
        self.layers = [Layer(*tensors) for tensors in zip(*parts, strict=True)]
        self.averaged: list[AveragedLayer] = []
        if average is not None:
            counts[0] += num_statistics
            parts = [torch.split(tensor, counts) for tensor in (live, join(floats(average)))]
            self.averaged = [AveragedLayer(*tensors) for tensors in zip(*parts, strict=True)]

    def begin(self, learning_rate: float | Tensor, ema_weight: float | Tensor) -> None:
        """Start a step. `ema_weight` is the weight of the live network in its average."""
        self.num_steps.add_(1)
        self.learning_rate, self.ema_weight = learning_rate, ema_weight

    def update(self, index: int) -> None:
        """Update a layer's parameters by `grads`, then their average. Two threads may update two layers at once.

        Where `layer_sizes` joins all layers, the call for the first layer updates them all, and the calls for the
        others do nothing. A backward pass reaches the first layer last.
        """
        if index >= len(self.layers):
            return
        layer = self.layers[index]
        torch._fused_adam_(
            [layer.parameters], [layer.grads], [layer.exp_avg], [layer.exp_avg_sq], [], [self.num_steps[0]],
            lr=self.learning_rate, beta1=self.beta1, beta2=self.beta2, eps=EPS, weight_decay=0.0, amsgrad=False,
            maximize=False,
        )  # fmt: skip
        if self.averaged:
            averaged = self.averaged[index]
            averaged.average.lerp_(averaged.live, self.ema_weight)

    def update_all(self) -> None:
        """Update all parameters by `grads`, then their average."""
        for index in range(len(self.layers)):
            self.update(index)

    def zero_small_moments(self) -> None:
        """Set to 0, on a CPU, the moments that are too small to change a weight, for example of dead units."""
        kernels.zero_small(MIN_EXP_AVG, self.exp_avg.numpy())
        kernels.zero_small(MIN_EXP_AVG_SQ, self.exp_avg_sq.numpy())


class KernelArrays(NamedTuple):
    """The arrays of one call of kernels.adam, each (N,), under its names."""

    grads: Array
    parameters: Array
    exp_avg: Array
    exp_avg_sq: Array
    average: Array | None
    copy: Array | None


class MixedPrecisionAdam(Adam):
    """Adam on a CPU whose matrix products read bfloat16 (Micikevicius et al. 2018).

    The parameters, their moments and their average stay in float32 or float64. Each weight has a bfloat16 copy, which
    the products read, and a bfloat16 gradient, which a product writes. One pass over memory does the whole update.
    """

    def __init__(
        self,
        network: nn.Module,
        moments: Mapping[str, Moments],
        betas: tuple[float, float],
        layer_sizes: Sequence[int],
        average: nn.Module | None = None,
    ) -> None:
        """Copy the first parameter of each layer, its weight, unless it has one row: such a head takes no product."""
        super().__init__(network, moments, betas, layer_sizes, average)
        parameters = list(network.parameters())
        self.copies: list[Tensor] = []  # bfloat16 weights (out, in), in the order of the layers
        self.kernel_calls: list[list[KernelArrays]] = []  # one list a layer
        for index, first in enumerate(accumulate(layer_sizes[:-1], initial=0)):
            layer, weight = self.layers[index], parameters[first].data
            size = weight.numel() if len(weight) > 1 else 0
            average_of_layer = self.averaged[index].average[-len(layer.parameters) :] if self.averaged else None
            calls = [kernel_arrays(layer, average_of_layer, slice(size, None))]
            if size:
                copy, grad = weight.to(torch.bfloat16), torch.zeros_like(weight, dtype=torch.bfloat16)
                arrays = kernel_arrays(layer, average_of_layer, slice(size))
                calls.append(arrays._replace(grads=as_array(grad).ravel(), copy=as_array(copy).ravel()))
                self.copies.append(copy)
                self.grads[first] = grad
            self.kernel_calls.append(calls)

    def update(self, index: int) -> None:
        """Update a layer's parameters by `grads`, their average and their copies. Two threads may do two at once."""
        step, learning_rate, ema_weight = float(self.num_steps[0]), float(self.learning_rate), float(self.ema_weight)
        for arrays in self.kernel_calls[index]:
            kernels.adam(step, learning_rate, self.beta1, self.beta2, EPS, ema_weight, *arrays)
        if self.averaged and index == 0:
            num_statistics = len(self.averaged[0].live) - len(self.layers[0].parameters)
            live, average = (tensor[:num_statistics] for tensor in self.averaged[0])
            average.lerp_(live, self.ema_weight)


def kernel_arrays(layer: Layer, average: Tensor | None, part: slice) -> KernelArrays:
    """Return part of a layer's tensors as arrays of kernels.adam, without a bfloat16 copy."""
    return KernelArrays(
        layer.grads[part].numpy(),
        layer.parameters[part].numpy(),
        layer.exp_avg[part].numpy(),
        layer.exp_avg_sq[part].numpy(),
        None if average is None else average[part].numpy(),
        copy=None,
    )


def floats(network: nn.Module) -> list[Tensor]:
    """Return a network's running statistics, then its parameters; not copies."""
    tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
    return sorted(tensors, key=lambda t: isinstance(t, nn.Parameter))


def numels(network: nn.Module, layer_sizes: Sequence[int]) -> list[int]:
    """Return how many numbers each layer holds, given how many parameters it has."""
    counts = iter([parameter.numel() for parameter in network.parameters()])
    return [sum(next(counts) for _ in range(size)) for size in layer_sizes]


def join(tensors: Sequence[Tensor]) -> Tensor:
    """Make the tensors views of one new tensor (N,), and return it."""
    joined = torch.cat([t.data.flatten() for t in tensors])
    for t, view in zip(tensors, split_like(joined, tensors), strict=True):
        t.data = view
    return joined


def split_like(joined: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a joined tensor as views, each in the shape of one of `tensors`."""
    parts = torch.split(joined, [t.numel() for t in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
