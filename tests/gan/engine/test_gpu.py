"""Does the GPU's engine take the steps of the CPU's? In float64, on the CPU, where both run."""

from itertools import product

import pytest
import torch

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.cpu.engine import CpuEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from tests.support.digits import digits

DIGITS = digits(512)
SEED = 4  # one of those whose published networks both learn on these digits; on others G has no gradient


def trained(engine_class: type[CpuEngine | GpuEngine], **fields: object) -> dict[str, torch.Tensor]:
    """Take 12 steps; R1, if it applies, at the first and the 11th, and translation, if it applies, from the seventh."""
    asked = TrainConfig(num_steps=12, snapshot_steps=12, batch_size=32, augment_start=0.5, **fields)
    config = resolve(asked, seed=SEED, device="cpu", num_threads=1)
    state = TrainState(config, torch.float64)
    batches = Batches(*DIGITS, config.batch_size, 0, dtype=torch.float64)
    engine, losses = engine_class(state, config), torch.empty(12, 2, dtype=torch.float64)
    with engine.running():
        for step in range(12):
            engine.step(batches(step + 1), losses[step])
            state.step = step + 1
    return {**state.tensors(), "losses": losses}


@pytest.mark.parametrize(
    ("recipe", "r1_gamma", "augment_translate", "dropout"),
    [*product(["published", "tuned"], [0.0, 0.1], [0, 2], [0.0, 0.3])],
)
def test_what_runs_on_a_gpu_takes_the_steps_of_a_cpu(
    recipe: str, r1_gamma: float, augment_translate: int, dropout: float
) -> None:
    extras = {"r1_gamma": r1_gamma, "augment_translate": augment_translate, "dropout": dropout}
    ours, theirs = (trained(engine, recipe=recipe, **extras) for engine in (CpuEngine, GpuEngine))
    assert ours["losses"].std(0).min() > 1e-4  # the networks learn
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-9, msg=name)
