"""Do steps in CUDA graphs give the bits of single steps, is each step taken once, and what if no graph can be made?

Without a GPU, a stand-in for CUDA's capture replays the steps themselves. All else is what runs on a GPU.
"""

import logging
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine import cuda_graphs, factory
from gan.engine.base import R1_EVERY
from gan.engine.cuda_graphs import Capture, GraphSteps, Steps, capture_graph, steps_per_graph
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.training import loop as training
from gan.training.loop import train
from tests.support.digits import digits
from tests.support.fault_form import IS_LONG

pytestmark = pytest.mark.usefixtures("small_networks")

DIGITS = digits(300)  # epochs of 9 steps of 32
OTHER_BITS = "training continues without CUDA graphs: a graph of 10 steps gives other bits than single steps"


class Replays:
    """Stand in for CUDA's capture. Record the step at which each launch begins."""

    def __init__(self, state: TrainState, disturb: Callable[[TrainState], object] = lambda state: None) -> None:
        self.state, self.disturb = state, disturb
        self.began_at: list[int] = []

    def __call__(self, steps: Callable[[], None], rng: torch.Generator) -> Callable[[], None]:
        assert rng is self.state.rng

        def replay() -> None:
            self.began_at.append(self.state.step)
            steps()
            self.disturb(self.state)

        return replay


def begin(device: str = "cpu", **fields: object) -> tuple[TrainState, TrainConfig, Batches]:
    asked = TrainConfig(**{"num_steps": 60, "snapshot_steps": 26, "batch_size": 32, "augment_start": 0.43, **fields})
    config = resolve(asked, seed=0, device=device, num_threads=1)
    return TrainState(config), config, Batches(*DIGITS, config.batch_size, 0, device)


def result(state: TrainState, config: TrainConfig, batches: Batches, stop_at: int | None = None) -> dict[str, bytes]:
    """Train to the end, and return the bytes that a run promises: state and grids."""
    snapshots = train(state, config, batches, lambda: stop_at is not None and state.step >= stop_at)
    images = {f"grid {snapshot.step}": snapshot.images for snapshot in snapshots}
    return {name: tensor.numpy().tobytes() for name, tensor in (state.tensors() | images).items()}


@cache
def undisturbed() -> dict[str, bytes]:
    """Return what the default training leaves when it takes its steps one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "steps_for", Steps)
        return result(*begin())


@pytest.fixture(autouse=True)
def _gpu_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the GPU's engine on the CPU, too."""
    monkeypatch.setattr(factory, "CpuEngine", GpuEngine)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Capture], None]:
    """Let training take graphs of at most 10 steps, made by the given capture."""
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPH_STEPS", 10)
    return lambda capture: monkeypatch.setattr(training, "steps_for", partial(GraphSteps, capture=capture))


@pytest.mark.parametrize(
    ("snapshot_steps", "size", "with_r1"),
    [(1000, 50, 50), (50, 50, 50), (51, 50, 50), (120, 40, 40), (997, 32, 30), (49, 49, 40), (1, 1, 0)],
)
def test_few_steps_are_left_over_before_a_snapshot(snapshot_steps: int, size: int, with_r1: int) -> None:
    assert (steps_per_graph(snapshot_steps, 1), steps_per_graph(snapshot_steps, R1_EVERY)) == (size, with_r1)


FEW = {"num_steps": 10, "batch_size": 25, "augment_start": 0}
# dcgan takes a second a step in bfloat16 on some CPUs
FIVE = FEW | {"num_steps": 5, "snapshot_steps": 5, "r1_gamma": 0}
SIXTY = {"num_steps": 60, "batch_size": 25}


@pytest.mark.parametrize(
    ("recipe", "precision", "fields", "num_graphs"),
    [
        ("published", "float32", {}, 7),
        ("published", "bfloat16", FEW, 1),
        ("tuned", "float32", {}, 4),
        ("tuned", "bfloat16", FEW, 1),
        ("dcgan", "float32", FEW, 1),
        ("dcgan", "bfloat16", FIVE, 1),
        pytest.param("published", "bfloat16", {}, 7, marks=pytest.mark.kill),
        pytest.param("tuned", "bfloat16", {}, 4, marks=pytest.mark.kill),
        pytest.param("dcgan", "float32", {}, 4, marks=pytest.mark.kill),
        pytest.param("dcgan", "bfloat16", {} if IS_LONG else SIXTY, 4, marks=pytest.mark.kill),
    ],
)
def test_steps_in_graphs_are_the_same_bits(
    recipe: str, precision: str, fields: dict[str, object], num_graphs: int, use: Callable[[Capture], None]
) -> None:
    one_by_one = result(*begin(recipe=recipe, precision=precision, **fields))
    state, config, batches = begin(recipe=recipe, precision=precision, **fields)
    use(capture := Replays(state))
    assert result(state, config, batches) == one_by_one
    assert len(capture.began_at) == num_graphs
    grids = {f"grid {fields['num_steps']}"} if fields else {"grid 26", "grid 52", "grid 60"}
    assert grids <= one_by_one.keys()


@pytest.mark.parametrize(
    ("recipe", "began_at"),
    [
        ("published", [0, 8, 16, 26, 34, 42, 52]),
        ("tuned", [0, 10, 30, 40]),
    ],  # tuned's start at a multiple of ten, as R1 does
)
def test_a_graph_ends_before_a_snapshot_and_not_at_an_epoch(
    recipe: str, began_at: list[int], use: Callable[[Capture], None]
) -> None:
    state, config, batches = begin(recipe=recipe)
    use(capture := Replays(state))
    result(state, config, batches)
    assert capture.began_at == began_at


def test_a_stop_is_seen_between_graphs(use: Callable[[Capture], None]) -> None:
    state, config, batches = begin()
    use(Replays(state))
    found = result(state, config, batches, stop_at=7)
    assert state.step == 10 and len(state.g_losses) == 10
    assert not any(name.startswith("grid") for name in found)


@pytest.mark.parametrize("stop_at", [1, 24, 25, 27, 52, 58])
def test_resuming_at_any_step_gives_the_same_bits(stop_at: int, use: Callable[[Capture], None]) -> None:
    state, config, batches = begin()
    result(state, config, batches, stop_at)  # single steps: a graph cannot stop inside
    resumed = TrainState(config).load({name: tensor.clone() for name, tensor in state.tensors().items()})
    use(Replays(resumed))
    found = result(resumed, config, batches)
    assert found == {name: undisturbed()[name] for name in found}


def test_too_few_steps_for_a_graph_capture_none(use: Callable[[Capture], None]) -> None:
    state, config, batches = begin(num_steps=4)
    use(capture := Replays(state))
    assert result(state, config, batches) == result(*begin(num_steps=4))
    assert capture.began_at == []


def test_a_capture_that_fails_leaves_the_steps_as_they_are(
    use: Callable[[Capture], None], caplog: pytest.LogCaptureFixture
) -> None:
    use(capture_graph)  # CUDA's own, which cannot record operations on the CPU
    assert result(*begin()) == undisturbed()
    assert len(caplog.messages) == 1 and "training continues without CUDA graphs: " in caplog.text


@pytest.mark.parametrize(
    ("disturb", "what"),
    [
        (lambda state: state.discriminator.layers[0].bias.data[0].add_(1e-6), "discriminator.layers.0.bias"),
        (lambda state: state.ema.layers[0].bias.data[0].mul_(1 + 1e-6), "ema.layers.0.bias"),
        (lambda state: torch.randn(16, generator=state.rng), "random"),
    ],
)
def test_a_graph_that_gives_other_bits_is_not_used(
    disturb: Callable[[TrainState], object],
    what: str,
    use: Callable[[Capture], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    state, config, batches = begin()
    use(capture := Replays(state, disturb))
    assert result(state, config, batches) == undisturbed()
    assert capture.began_at == [0]
    assert caplog.messages == [f"{OTHER_BITS} (first difference: {what})"]


@pytest.mark.gpu
@pytest.mark.usefixtures("full_networks")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", ["published", "tuned", "dcgan"])
def test_graphs_on_a_gpu_are_the_same_bits(
    recipe: str, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = {"device": "cuda", "recipe": recipe, "precision": precision, "num_steps": 330, "snapshot_steps": 110}
    found = result(*begin(**asked))
    assert caplog.messages == []  # the graphs were used

    def failing(steps: Callable[[], None], rng: torch.Generator) -> Callable[[], None]:
        raise RuntimeError("not wanted")

    monkeypatch.setattr(training, "steps_for", partial(GraphSteps, capture=failing))
    assert result(*begin(**asked)) == found


@pytest.mark.gpu
@pytest.mark.usefixtures("full_networks")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", ["tuned", "dcgan"])
def test_a_run_on_a_gpu_resumes_to_the_same_bits(recipe: str, precision: str) -> None:
    asked = {"device": "cuda", "recipe": recipe, "precision": precision, "num_steps": 330, "snapshot_steps": 110}
    undisturbed = result(*begin(**asked))
    state, config, batches = begin(**asked)
    for stop_at in (30, 120, 200, 321, None):
        found = result(state, config, batches, stop_at)
        state = TrainState(config).load({name: tensor.clone() for name, tensor in state.tensors().items()})
    assert found == {name: undisturbed[name] for name in found}


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
