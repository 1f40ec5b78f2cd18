"""How are samples drawn from a generator?"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from gan.errors import ConfigMismatchError
from gan.images import to_uint8
from gan.recipes.generator import Generator
from gan.seeds import make_rng

DIGITS = re.compile(r"[0-9]{1,9}")
MAX_LISTED = 100  # names of classes in a message
CHUNK = 1000  # images a pass: 10,000 at once would take 200 MB more


def class_number(network: Generator, text: str, names: Sequence[str] = ()) -> int:
    """Return the number of the class that `--digit` names; `names` are those of the classes, where they are known.

    A name goes before a number: a folder's classes may be called 1, 2 and 3.

    Raises:
        ConfigMismatchError: the network cannot draw that class alone.
    """
    number = names.index(text) if text in names else int(text) if DIGITS.fullmatch(text) else None
    if not network.conditional:
        raise ConfigMismatchError("--digit: the run is not class-conditional (conditional: false in its config.json)")
    counts = network.class_counts.tolist()
    if number is None or number >= len(counts) or not counts[number]:
        known = [names[each] if each < len(names) else str(each) for each, count in enumerate(counts) if count]
        listed = ", ".join(known[:MAX_LISTED]) + (f" and {len(known) - MAX_LISTED} more" if known[MAX_LISTED:] else "")
        raise ConfigMismatchError(f"--digit: the run's training images have no {text[:100]}. They have {listed}")
    return number


@torch.no_grad()
def draw(network: Generator, latent_dim: int, count: int, seed: int, digit: int | None = None) -> Tensor:
    """Return `count` samples (N, C, side, side) uint8; the same seed gives the same first samples whatever the count.

    With `digit`, all are of that class, by its number. Raises as `class_number` does.
    """
    if digit is not None:
        class_number(network, str(digit))
    rng = make_rng(seed, "samples")
    chunks = [min(CHUNK, count - done) for done in range(0, count, CHUNK)]
    device = next(network.parameters()).device  # the latents are drawn on the CPU: every device gets the same
    z = [torch.randn(CHUNK, latent_dim, generator=rng)[:size] for size in chunks]
    if digit is not None:
        z = [network.with_class(part, digit) for part in z]
    return torch.cat([to_uint8(network(part.to(device))) for part in z])
