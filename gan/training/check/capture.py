"""What in the forward passes of a recipe would a CUDA graph refuse? No GPU is needed to ask.

The networks are called on fake tensors: they have a device, a shape and no numbers. Each network is followed up to the
first thing that needs a number. Backward passes, and kernels that no graph can hold, are not seen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan.config import RunConfig
from gan.recipes.networks import make_networks, sizes_of

BATCH = 25


def refusals(config: RunConfig, line: Callable[[], str | None], line_of: Callable[[BaseException], str]) -> list[str]:
    """List what a CUDA graph would refuse. `line` and `line_of` tell which line of the recipe runs, or has raised."""
    generator, discriminator = make_networks(config)
    sizes = sizes_of(config)
    found: list[str] = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        z = torch.empty(BATCH, config.latent_dim, device="cuda")
        images = torch.empty(BATCH, sizes.channels, sizes.side, sizes.side, device="cuda")
        labels = torch.empty(BATCH, dtype=torch.int64, device="cuda")
        for name, network, inputs in (
            ("generator", generator, (z,)),
            ("discriminator", discriminator, (images, labels)),
        ):
            copies = _Copies(line)
            try:
                with copies:
                    functional_call(network, _on_gpu(network), inputs)
            except Exception as error:  # noqa: BLE001 - any: it is somebody else's code, on tensors it was not made for
                found.append(f"{name}: {_reason(error)} ({line_of(error)})")
            found += [f"{name}: {each}" for each in copies.found]
    return found


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Find operations that copy between the host and the device: each waits."""

    def __init__(self, line: Callable[[], str | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.line = line
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note it where its tensors are on both."""
        out = func(*args, **(kwargs or {}))
        devices = {each.device.type for each in tree_leaves((args, out)) if isinstance(each, Tensor) and each.dim()}
        if func._schema.name in ("aten::_to_copy", "aten::copy_") and len(devices) > 1:
            self.found.append(f"a copy between host and device ({self.line() or 'outside of the recipe'})")
        return out


def _on_gpu(network: nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: torch.empty(each.shape, dtype=each.dtype, device="cuda") for name, each in tensors.items()}


def _reason(error: BaseException) -> str:
    """Return what a forward pass did that has no answer without numbers."""
    cause = error.__cause__ or error
    name = type(cause).__name__
    known = {
        "DataDependentOutputException": "it waits for a number, as .item() and `if tensor` do",
        "DynamicOutputShapeException": "a shape depends on data",
    }
    text = str(cause).strip().splitlines()
    return known.get(name, f"it fails on a GPU's tensors: {name}: {text[0] if text else ''}")
