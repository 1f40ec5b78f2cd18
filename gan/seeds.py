"""How does one seed become many independent streams?"""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """Return the 63-bit seed of one purpose ("weights", "epoch", ...) and index, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_rng(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh random number generator for one purpose."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, purpose, index))
