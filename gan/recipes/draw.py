"""How are samples drawn from a generator?"""

import torch
from torch import Tensor

from gan.errors import ConfigMismatchError
from gan.images import to_uint8
from gan.recipes.generator import Generator
from gan.seeds import make_rng

CHUNK = 1000  # images a pass: 10,000 at once would take 200 MB more


@torch.no_grad()
def draw(network: Generator, latent_dim: int, count: int, seed: int, digit: int | None = None) -> Tensor:
    """Return `count` samples (N, C, side, side) uint8; the same seed gives the same first samples whatever the count.

    With `digit`, all are of that class. Raises ConfigMismatchError when the network cannot draw that class alone.
    """
    if digit is not None and not network.conditional:
        raise ConfigMismatchError("--digit: the run is not class-conditional (conditional: false in its config.json)")
    if digit is not None and not (digit < len(network.class_counts) and network.class_counts[digit]):
        known = ", ".join(map(str, network.class_counts.nonzero().flatten().tolist()))
        raise ConfigMismatchError(f"--digit: the run's training images have no {digit}. They have {known}")
    rng = make_rng(seed, "samples")
    chunks = [min(CHUNK, count - done) for done in range(0, count, CHUNK)]
    device = next(network.parameters()).device  # the latents are drawn on the CPU: every device gets the same
    z = [torch.randn(CHUNK, latent_dim, generator=rng)[:size] for size in chunks]
    if digit is not None:
        z = [network.with_class(part, digit) for part in z]
    return torch.cat([to_uint8(network(part.to(device))) for part in z])
