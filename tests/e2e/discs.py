"""Which small data set do runs of the stack train on? Discs in colour or grey, without labels."""

from tests.e2e.stack import Stack

SETS_DIR = "/work/data/sets"  # where a run of the worker looks for a set
DRAW = """
import numpy as np
from PIL import Image
from pathlib import Path
rng, y, x = np.random.default_rng(0), *np.mgrid[:28, :28]
Path("/work/{name}").mkdir()
for number in range(900):
    inside = (x - rng.integers(8, 20)) ** 2 + (y - rng.integers(8, 20)) ** 2 < rng.integers(9, 50)
    disc = (inside[..., None] * rng.integers(60, 256, 3)).astype(np.uint8)
    Image.fromarray(disc).save(f"/work/{name}/{{number}}.png")
"""


def import_discs(stack: Stack, name: str, *options: str) -> None:
    """Draw 900 discs in the worker, and import them as a set of this name. It has no judge yet."""
    stack.exec("worker", "python", "-c", DRAW.format(name=name))
    stack.exec("worker", "gan", "data", "import", f"/work/{name}", "--name", name, "--sets-dir", SETS_DIR, *options)
