"""Are the vitals measured without changing the training, and reproducibly?"""

import pytest
import torch

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.state import TrainState
from gan.evaluation.judge import load_classifier
from gan.health import FLAT, Vitals
from gan.training.loop import Snapshot, train
from gan.training.vitals import measure
from tests.support.configs import run_config
from tests.support.digits import digits


def trained(recipe: str = "tuned", num_steps: int = 20) -> tuple[TrainState, TrainConfig, Batches, Snapshot]:
    config = run_config(recipe=recipe, num_steps=num_steps)
    state, batches = TrainState(config), Batches(*digits(128), config.batch_size, 0)
    (snapshot,) = train(state, config, batches)
    return state, config, batches, snapshot


def vitals_of(state: TrainState, config: TrainConfig, batches: Batches, snapshot: Snapshot) -> Vitals:
    return measure(state, config, batches(state.step), snapshot, None)


@pytest.mark.parametrize("recipe", ["published", "tuned", "dcgan"])
def test_measuring_changes_nothing_and_finds_the_same_again(recipe: str) -> None:
    state, config, batches, snapshot = trained(recipe)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    found = vitals_of(state, config, batches, snapshot)
    assert vitals_of(state, config, batches, snapshot) == found
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    assert state.generator.training


def test_the_vitals_of_a_working_training() -> None:
    found = vitals_of(*trained())
    assert found.spread > 0.1 and found.slope > 0.1
    assert found.real_variance > 100 and found.variance / found.real_variance > 1e-3
    assert (found.stuck_steps, found.num_classes) == (0, None)


def test_a_zeroed_discriminator_gives_every_image_the_same_logit() -> None:
    state, *others = trained()
    for parameter in state.discriminator.parameters():
        parameter.data.zero_()
    found = vitals_of(state, *others)
    assert (found.spread, found.accuracy, found.slope) == (0, 0.5, 0.5)


def test_below_a_relu_head_there_is_no_slope() -> None:
    state, *others = trained("published")
    state.discriminator.layers[-1].bias.data.fill_(-100)
    found = vitals_of(state, *others)
    assert (found.accuracy, found.slope) == (0.5, 0) and found.spread > FLAT


def test_a_saturated_discriminator_that_is_right_has_no_slope_either() -> None:
    state, *others = trained(num_steps=1)  # G draws grey still: digits, on black, are darker
    for parameter in state.discriminator.parameters():
        parameter.data.zero_()
    first, *middle, head = state.discriminator.layers
    first.weight.data[0], first.bias.data[0] = -1, -300
    for layer in middle:
        layer.weight.data[0, 0] = 1
    head.weight.data[0, 0] = 100
    found = vitals_of(state, *others)
    assert (found.accuracy, found.slope) == (1, 0)


def test_images_all_alike_do_not_vary() -> None:
    state, config, batches, snapshot = trained()
    batches.images[:] = batches.images[0].clone()
    assert vitals_of(state, config, batches, snapshot).real_variance < FLAT


def test_the_classifier_is_used_from_step_10000_on() -> None:
    state, config, batches, snapshot = trained()
    state.step = 10_000
    found = measure(state, config, batches(1), snapshot, load_classifier())
    assert found.num_classes == 1
