"""How many kernels does a step launch on a GPU, and how long do their launches alone take?

`python -m tests.support.kernel_counts` prints the table of docs/engine.md.
"""

from functools import partial

import click
import pytest
import torch

from benchmarks import published_loop
from gan.engine.base import R1_EVERY
from tests.support.fake_cuda import Operations, captured

FULL_RUN = 92_763
LAUNCH_SECONDS = (2e-6, 3e-6)  # of one kernel in a CUDA graph
PRECISIONS = ("float32", "bfloat16")
# Name, recipe and the first of its steps that are counted.
PHASES = (
    ("`published`", "published", 0),
    ("`tuned`, first steps", "tuned", 0),
    ("`tuned`, with augmentation", "tuned", 40),
)


def of_recipe(recipe: str, precision: str, step: int) -> float:
    """Return the kernels of a captured step: the mean over the period of R1, whose first step is `step`."""
    operations = captured(recipe, precision)
    with_r1, without = (operations[each].kernels.total() for each in (step, step + 1))
    return (with_r1 + (R1_EVERY - 1) * without) / R1_EVERY


def of_published_loop() -> int:
    """Return the kernels of a step of the tutorial's loop with its data in memory, whose Adam updates all at once."""
    images = torch.zeros(2 * published_loop.BATCH_SIZE, 1, 28, 28, dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", partial(torch.optim.Adam, foreach=True))  # as on a GPU
        steps = published_loop.train(published_loop.batches_from_memory(images), "cpu")
        next(steps)
        with Operations() as operations:
            next(steps)
    return operations.kernels.total()


def row(name: str, precision: str, kernels: float, published: int) -> str:
    """Return a row of the table."""
    least, most = (kernels * seconds * FULL_RUN for seconds in LAUNCH_SECONDS)
    return f"| {name} | {precision} | {kernels:.0f} | {published / kernels:.1f} | {least:.0f} to {most:.0f} s |"


def rows() -> list[str]:
    """Return the rows of the table: the tutorial's loop, published, and tuned before and after augmentation starts."""
    base = of_published_loop()
    found = [row("the tutorial's loop, data in memory", "float32", base, base)]
    for name, recipe, step in PHASES:
        found += [row(name, precision, of_recipe(recipe, precision, step), base) for precision in PRECISIONS]
    return found


if __name__ == "__main__":
    click.echo("\n".join(rows()))
