"""How does a test take a GPU's steps where there is none? On fake tensors: they have a device, a shape and no numbers.

A fake tensor shows which operations run, on which device, and whether one waits for the host or has a shape that
depends on data. It shows nothing of numerics, memory, streams, or of kernels that are missing for a dtype.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine import state as engine_state
from gan.engine.cuda_graphs import GraphSteps
from gan.engine.factory import engine_for
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.seeds import make_rng

NO_KERNEL = ("empty", "new_empty", "_local_scalar_dense")  # allocations, and the copy of one number to the host


class Operations(TorchDispatchMode):
    """Count the operations inside that may launch a kernel, and those of all that touch a tensor on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.on_cpu: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        # Fused Adam changes its arguments and returns nothing. Torch has none for fake tensors.
        out = None if func._schema.name == "aten::_fused_adam_" else func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        if launches_a_kernel(func):
            self.kernels[name] += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != "cuda" for tensor in tensors):
            self.on_cpu[name] += 1
        return out


def launches_a_kernel(func: OpOverload) -> bool:
    """Return whether an operation computes: it is no view of another tensor, no allocation and no question to torch."""
    space, name = func._schema.name.split("::")
    is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
    return space == "aten" and not is_view and name not in NO_KERNEL


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Make all tensors inside fake, on the device `cuda`, too. What torch cannot do with them today is replaced."""
    with FakeTensorMode(allow_non_fake_inputs=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "to", _move)  # torch's own swaps the content of tensors; fake ones forbid it
        patch.setattr(engine_state, "copy", SimpleNamespace(deepcopy=_copy))  # torch's own reads an address
        patch.setattr(engine_state, "make_rng", _cpu_rng)  # without a driver there is no generator of CUDA's
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # else autocast is off
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        yield


def _move(self: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    for module in self.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(parameter.detach().to(device, dtype)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device, dtype if buffer.is_floating_point() else None))
    return self


def _copy(network: nn.Module) -> nn.Module:
    copies: dict[int, Tensor] = {id(each): nn.Parameter(each.detach().clone()) for each in network.parameters()}
    copies |= {id(each): each.clone() for each in network.buffers()}
    return copy.deepcopy(network, copies)


def _cpu_rng(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    return make_rng(seed, purpose, index)


def steps_on_fake_cuda(**fields: Any) -> GraphSteps:
    """Return the 50 steps of a training, the last 25 of which augment. Call it inside `fake_cuda`."""
    asked = TrainConfig(num_steps=50, snapshot_steps=50, augment_translate=2, augment_start=0.5, **fields)
    config = resolve(asked, seed=0, device="cuda", num_threads=1)
    images, labels = np.zeros((config.batch_size, 28, 28), np.uint8), np.zeros(config.batch_size, np.uint8)
    batches = Batches(images, labels, config.batch_size, 0, "cuda")
    losses = torch.empty(config.snapshot_steps, 2, device="cuda")
    return GraphSteps(engine_for(TrainState(config), config), batches, losses, lambda steps, rng: steps)


def operations_of(steps: GraphSteps, step: int) -> Operations:
    """Return the operations of one step, as a graph captures them."""
    engine, row = steps.engine, step - steps.state.step
    with Operations() as operations:
        real = steps.batches.gather(steps.image_indices[row])
        engine.step(real, steps.step_losses[row], row, steps.rates[row].unbind())
    return operations


@cache
def captured(recipe: str, precision: str, dropout: float = 0.0) -> dict[int, Operations]:
    """Return the operations by step: 0 and 40 with R1 in tuned, 1 and 41 without it; 40 and 41 augment."""
    with fake_cuda():
        steps = steps_on_fake_cuda(recipe=recipe, precision=precision, dropout=dropout)
        assert isinstance(steps.engine, GpuEngine)
        return {step: operations_of(steps, step) for step in (0, 1, 40, 41)}
