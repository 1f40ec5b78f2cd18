"""Which recipe, in a package of its own, does a test use? A small one, whose steps take little time."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan.recipes.custom import fingerprint, importing

ROOT = Path(__file__).parents[2]
ADDRESS = "mine.recipe:MINE"
EXAMPLE = "projection_gan.recipe:PROJECTION"
EXAMPLE_FOLDER = ROOT / "examples" / "projection"
SOURCE = '''
"""What is the recipe `mine`?"""

import os, random, time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from gan.recipes.base import CustomLoss, CustomNetworks, Recipe, Sizes
from gan.recipes.dcgan import DCGAN


class G(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, self.calls = sizes, 0
        self.layers = nn.Sequential(
            nn.Linear(sizes.latent_dim + sizes.classes, 24), nn.BatchNorm1d(24), nn.SiLU(),
            nn.Linear(24, sizes.channels * sizes.side**2), nn.Tanh(),
        )

    def forward(self, z, labels):
        hot = nn.functional.one_hot(labels, self.sizes.classes).to(z.dtype) * self.sizes.conditional
        images = self.layers(torch.cat([z, hot], 1))
        # in forward of G
        return images.view(-1, self.sizes.channels, self.sizes.side, self.sizes.side)


class D(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(sizes.channels * sizes.side**2, 24), nn.BatchNorm1d(24), nn.SiLU(), nn.Linear(24, 1)
        )

    def forward(self, images, labels):
        logits = self.layers(images).squeeze(1)
        # in forward of D
        return logits


MINE = Recipe(
    name="mine",
    summary="a small one",
    networks=CustomNetworks(G, D),
    engine="autograd",
    loss="bce",
    grid="fixed_latents",
    defaults=replace(DCGAN.defaults, num_steps=40, conditional=False, r1_gamma=0.1, on_collapse="ignore"),
)
'''
IN_G, IN_D = "# in forward of G", "# in forward of D"
LINE_OF_G = SOURCE[: SOURCE.index(IN_G)].count("\n") + 1


def write_package(folder: Path, *changes: tuple[str, str], name: str = "mine") -> Path:
    """Write the package with some of its text replaced; return the folder that PYTHONPATH has to name."""
    source = SOURCE
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").touch()
    (folder / name / "recipe.py").write_text(source)
    return folder


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment of a command that finds packages in these folders."""
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test begin as a process does: no recipe is imported or named, and forget what the test has imported."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(importing, "_permitted", set())
    forget()
    yield
    forget()


def forget() -> None:
    """Forget the packages that were imported, and their hashes: another process may have other ones."""
    importing._import.cache_clear()
    fingerprint._of_package.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "theirs", "projection_gan")]:
        del sys.modules[name]
