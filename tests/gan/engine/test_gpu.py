"""Does the GPU's engine take the steps of the CPU's? In float64, on the same inputs, on a CPU and on a GPU.

A GPU draws other random numbers. So the engine gets those that the CPU has drawn.
"""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.base import StepInputs
from gan.engine.cpu.engine import CpuEngine
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from tests.support.digits import digits

pytestmark = pytest.mark.usefixtures("small_networks")

DIGITS = digits(512)
SEED = 4  # one of those whose published networks both learn on these digits; on others G has no gradient
NUM_STEPS = 4


def copy_to(device: str, inputs: StepInputs) -> StepInputs:
    """Return a copy on the device: an engine may change its inputs in place."""
    copied: StepInputs = tree_map(lambda each: each.clone().to(device) if isinstance(each, Tensor) else each, inputs)
    return copied


def train_both(device: str, **fields: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Take steps in both engines. R1, where there is any, is due at the first."""
    asked = TrainConfig(num_steps=NUM_STEPS, snapshot_steps=NUM_STEPS, batch_size=32, augment_start=0, **fields)
    configs = [resolve(asked, seed=SEED, device=each, num_threads=1) for each in ("cpu", device)]
    ours, theirs = (TrainState(config, torch.float64) for config in configs)
    cpu, gpu = CpuEngine(ours, configs[0]), GpuEngine(theirs, configs[1])
    batches = Batches(*DIGITS, 32, SEED, dtype=torch.float64)
    losses = torch.empty(NUM_STEPS, 2, dtype=torch.float64), torch.empty(NUM_STEPS, 2, dtype=torch.float64).to(device)
    for step in range(NUM_STEPS):
        inputs = cpu.draw_inputs(step, batches(step + 1))
        for engine, place, rows in ((cpu, "cpu", losses[0]), (gpu, device, losses[1])):
            given = copy_to(place, inputs)
            engine.draw_inputs = lambda step, real, given=given: given
            with engine.running():
                engine.step(given.real, rows[step])
            del engine.draw_inputs
            engine.state.step = step + 1
    named = ({**state._named_tensors(), "losses": rows} for state, rows in zip((ours, theirs), losses, strict=True))
    first, second = ({name: tensor.detach().cpu() for name, tensor in each.items()} for each in named)
    return first, second


each_case = pytest.mark.parametrize(
    ("recipe", "r1_gamma", "augment_translate", "dropout"),
    [*product(["published", "tuned"], [0.0, 0.1], [0, 2], [0.0, 0.3])],
)


def compare(device: str, **fields: object) -> None:
    ours, theirs = train_both(device, **fields)
    assert ours["losses"].std(0).min() > 1e-4  # both networks learn
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-9, msg=name)


@each_case
def test_the_engine_of_a_gpu_takes_the_steps_of_a_cpu_on_a_cpu(
    recipe: str, r1_gamma: float, augment_translate: int, dropout: float
) -> None:
    compare("cpu", recipe=recipe, r1_gamma=r1_gamma, augment_translate=augment_translate, dropout=dropout)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_networks")
@each_case
def test_the_engine_of_a_gpu_takes_the_steps_of_a_cpu_on_a_gpu(
    recipe: str, r1_gamma: float, augment_translate: int, dropout: float
) -> None:
    compare("cuda", recipe=recipe, r1_gamma=r1_gamma, augment_translate=augment_translate, dropout=dropout)
