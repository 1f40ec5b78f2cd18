"""Does training compute what its definition says, and end as it should?"""

import random
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.base import Engine
from gan.engine.cpu.engine import CpuEngine
from gan.engine.cpu.threads import SECOND_THREAD
from gan.engine.factory import engine_for
from gan.engine.gpu import GpuEngine
from gan.engine.state import TrainState
from gan.errors import TrainingDivergedError
from gan.recipes.resolve import resolve
from gan.training.loop import train
from tests.support.digits import digits
from tests.support.fault_form import num
from tests.support.reference import Reference, check_equal

LIVE_SEED = 0  # a seed whose published networks both live on these digits; on most D, or G for want of a gradient, dies


def begin(recipe: str, dtype: torch.dtype = torch.float32, **fields: object) -> tuple[TrainState, TrainConfig, Batches]:
    config = TrainConfig(recipe=recipe, **{"snapshot_steps": 10, "augment_start": 0.5, **fields})
    config = resolve(config, seed=LIVE_SEED, device="cpu", num_threads=1)
    return TrainState(config, dtype), config, Batches(*digits(512), config.batch_size, LIVE_SEED, dtype=dtype)


def small(num_steps: int) -> dict[str, int]:
    """Make the steps of a short test small, too: in bfloat16 they are slow on some CPUs."""
    return {"batch_size": 25} if num_steps < 60 else {}


def take(engine: Engine, batches: Batches, losses: torch.Tensor) -> None:
    """Take a step for each row of losses."""
    with engine.running():
        for row in losses:
            engine.step(batches(engine.state.step + 1), row)
            engine.state.step += 1


@pytest.mark.parametrize("num_steps", [20, pytest.param(500, marks=pytest.mark.kill)])
@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_losses_equal_the_plain_reading_in_float64(recipe: str, num_steps: int) -> None:
    # At tuned's own rate rounding differences grow as in any chaos, by some 30 times every 50 steps.
    rate = {"published": None, "tuned": 2e-4}[recipe]
    state, config, batches = begin(recipe, torch.float64, num_steps=num_steps, batch_size=32, learning_rate=rate)
    reference = Reference(state, config)

    expected = np.array([reference.step(batches(step)) for step in range(1, num_steps + 1)])
    list(train(state, config, batches))

    assert np.ptp(expected[-100:, 1]) > 1e-3, "the discriminator is dead: this compares ln 2 with ln 2"
    np.testing.assert_allclose(state.g_losses, expected[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.d_losses, expected[:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_steps", [20, pytest.param(40, marks=pytest.mark.kill)])
@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_what_runs_on_a_gpu_takes_the_same_steps(recipe: str, num_steps: int) -> None:
    """With dropout, and in tuned R1, and shifts in the second half; on the CPU, where it runs as well."""
    ours, config, batches = begin(recipe, torch.float64, num_steps=num_steps, batch_size=32, dropout=0.3)
    theirs = TrainState(config, torch.float64)
    losses = torch.empty(2, num_steps, 2, dtype=torch.float64)
    for state, engine, found in zip((ours, theirs), (CpuEngine, GpuEngine), losses, strict=True):
        take(engine(state, config), batches, found)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-9)
    for name, tensor in ours.tensors().items():
        torch.testing.assert_close(tensor, theirs.tensors()[name], rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_both_engines_compute_the_same_losses_also_where_a_sigmoid_is_0_or_1(recipe: str) -> None:
    state, config, _ = begin(recipe, batch_size=32)
    some = [0.0, 1e-3, 5.0, 16.0, 17.0, 40.0, 90.0, 200.0]
    logits = torch.tensor([*some, *(-each for each in some)] * 4)[torch.randperm(64)]
    found = []
    for engine in (CpuEngine(state, config), GpuEngine(state, config)):
        grads = engine.compute_losses(logits, losses := torch.empty(2))
        found.append([losses, *grads])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("engine_class", [CpuEngine, GpuEngine])
@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_in_bfloat16_losses_differ_by_roundings(recipe: str, engine_class: type[CpuEngine | GpuEngine]) -> None:
    losses = torch.empty(2, 5, 2)
    for precision, found in zip(("float32", "bfloat16"), losses, strict=True):
        state, config, batches = begin(recipe, num_steps=5, precision=precision)
        take(engine_class(state, config), batches, found)
    assert 0 < (losses[0] - losses[1]).abs().max() < 0.02


@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_two_threads_take_the_steps_of_one(recipe: str) -> None:
    """In bfloat16, where the second takes the reals; with dropout, in tuned R1, and shifts in the second half."""
    losses = torch.empty(2, 10, 2)
    for num_threads, found in zip((1, 2), losses, strict=True):
        state, config, batches = begin(recipe, num_steps=10, batch_size=32, precision="bfloat16", dropout=0.3)
        take(CpuEngine(state, config.model_copy(update={"num_threads": num_threads})), batches, found)
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_which_of_two_threads_takes_what_and_when_changes_no_bit(recipe: str) -> None:
    extras = {"dropout": 0.3, "augment_translate": 2, "r1_gamma": 0.1, "ema_decay": 0.9}
    found = []
    for helped in (False, True):
        state, config, batches = begin(recipe, num_steps=20, precision="bfloat16", batch_size=25, **extras)
        engine, chance = CpuEngine(state, config.model_copy(update={"num_threads": 2})), random.Random(0)

        def late(*args: Any, matmul: Any = engine.matmul, chance: Any = chance, **kwargs: Any) -> Any:
            time.sleep(chance.choice([0, 0, 0.002]))
            return matmul(*args, **kwargs)

        engine.matmul = late
        if not helped:
            for slot in engine.slots:
                slot.submitted = None  # so that a task runs when it is submitted
        take(engine, batches, losses := torch.empty(20, 2))
        found.append({**state.tensors(), "losses": losses})
    assert [name for name, tensor in found[0].items() if not torch.equal(tensor, found[1][name])] == []


def test_after_an_error_in_a_step_nothing_changes_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    state, config, batches = begin("tuned", num_steps=10, precision="bfloat16")
    engine = CpuEngine(state, config.model_copy(update={"num_threads": 2}))
    began, matmul = threading.Event(), engine.matmul

    def slowly(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == SECOND_THREAD:
            began.set()
            time.sleep(0.05)
        return matmul(*args, **kwargs)

    def fail(*args: Any) -> None:
        began.clear()
        assert began.wait(5)  # the second thread runs an update of D, and others are ready
        raise ValueError("no room")

    monkeypatch.setattr(engine, "matmul", slowly)
    monkeypatch.setattr(engine, "backward_g", fail)
    with pytest.raises(ValueError, match="no room"):
        take(engine, batches, torch.empty(1, 2))
    left = {name: tensor.clone() for name, tensor in state.tensors().items()}
    time.sleep(0.3)
    assert [name for name, tensor in state.tensors().items() if not torch.equal(tensor, left[name])] == []


def test_dcgan_equals_the_plain_reading_over_20_steps_in_float64() -> None:
    """Shifted in the second half; R1 at every tenth step, in both halves."""
    state, config, batches = begin("dcgan", torch.float64, num_steps=20, batch_size=25)
    reference = check_equal(state, config, batches)
    drawn_from = ("class_counts", "edges", "codes")
    buffers = [buffer for name, buffer in state.generator.named_buffers() if name not in drawn_from]
    pairs = [*zip(buffers, reference.generator.buffers(), strict=True)]
    assert len(pairs) == 12 and all(torch.allclose(ours, plain) for ours, plain in pairs)


@pytest.mark.parametrize("recipe", ["published", "tuned", "dcgan"])
@pytest.mark.parametrize(
    ("dtype", "close", "num_states"),
    [
        (torch.float32, 5e-3, 12),
        (torch.float64, 1e-9, 5),
        pytest.param(torch.float32, 5e-3, 50, marks=pytest.mark.kill),
        pytest.param(torch.float64, 1e-9, 10, marks=pytest.mark.kill),
    ],
)
def test_one_step_equals_the_plain_reading(recipe: str, dtype: torch.dtype, close: float, num_states: int) -> None:
    """Losses agree to 1e-5, the gradient of every parameter to its share of the whole gradient.

    In float32 an activation may lie on the other side of a rectifier's kink, and change its row of a gradient.
    """
    num_states = 3 if recipe == "dcgan" else num_states  # a step takes twenty times as long
    state, config, batches = begin(recipe, dtype, num_steps=5 * num_states, snapshot_steps=5, batch_size=25)
    num_alive = 0
    for _ in train(state, config, batches):
        reference, losses = Reference(state, config), torch.empty(2, dtype=dtype)
        expected = reference.step(batches(state.step + 1))

        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        twin = TrainState(config, dtype).load(before)
        engine_for(twin, config).step(batches(state.step + 1), losses)
        after = twin.tensors()

        np.testing.assert_allclose(losses.numpy(), expected, rtol=0, atol=1e-5)
        for prefix, beta1, network, plain in (
            ("g_adam", config.beta1, twin.generator, reference.generator),
            ("d_adam", config.beta1, twin.discriminator, reference.discriminator),
        ):
            whole = torch.cat([q.grad.flatten() for q in plain.parameters()]).norm()
            num_alive += bool(whole > 1e-3)
            for (name, _), q in zip(network.named_parameters(), plain.parameters(), strict=True):
                moment = f"{prefix}.{name}.exp_avg"
                gradient = (after[moment] - beta1 * before[moment]) / (1 - beta1)
                assert (gradient - q.grad).norm() <= close * (whole + 1e-4), f"gradient of {name} at {state.step}"
    assert num_alive >= num_states, "the networks are dead: this compares nothing with nothing"


def test_a_snapshot_falls_on_each_multiple_and_on_the_last_step() -> None:
    state, config, batches = begin("tuned", num_steps=25)
    assert [snapshot.step for snapshot in train(state, config, batches)] == [10, 20, 25]
    assert state.g_losses.shape == (25,)


def test_a_snapshot_shows_25_images_and_the_mean_losses() -> None:
    state, config, batches = begin("tuned", num_steps=10)
    (snapshot,) = train(state, config, batches)
    assert snapshot.images.shape == (25, 1, 28, 28)
    assert snapshot.g_loss == pytest.approx(state.g_losses.mean())


def test_the_published_grid_is_the_first_25_fakes_of_the_batch() -> None:
    state, config, batches = begin("published", num_steps=10)
    twin, _, _ = begin("published", num_steps=10)
    (snapshot,) = train(state, config, batches)
    engine = engine_for(twin, config)
    for step in range(1, 11):
        fake = engine.step(batches(step), torch.empty(2))
    assert torch.equal(snapshot.images, fake[:25])


def test_tuned_grids_come_from_the_same_latents() -> None:
    state, config, batches = begin("tuned", num_steps=20)
    first, second = train(state, config, batches)
    assert torch.equal(state.ema(state.fixed_z), second.images)
    assert not torch.equal(first.images, second.images)


def test_stopping_keeps_every_step() -> None:
    state, config, batches = begin("tuned", num_steps=25)
    snapshots = list(train(state, config, batches, should_stop=lambda: state.step == 13))
    assert [snapshot.step for snapshot in snapshots] == [10]
    assert (state.step, len(state.g_losses)) == (13, 13)


@pytest.mark.parametrize(
    ("precision", "num_steps"),
    [
        ("float32", 12),
        ("bfloat16", 12),
        pytest.param("float32", 60, marks=pytest.mark.kill),
        pytest.param("bfloat16", num(24, 60), marks=pytest.mark.kill),
    ],
)
@pytest.mark.parametrize("recipe", ["published", "tuned", "dcgan"])
def test_a_state_saved_as_tensors_continues_with_the_same_bits(recipe: str, precision: str, num_steps: int) -> None:
    state, config, batches = begin(recipe, num_steps=num_steps, precision=precision, **small(num_steps))
    training = train(state, config, batches)
    next(training)
    copied = TrainState(config).load({name: t.clone() for name, t in state.tensors().items()})
    list(training)
    list(train(copied, config, batches))
    assert all(torch.equal(ours, copied.tensors()[name]) for name, ours in state.tensors().items())


@pytest.mark.parametrize("num_steps", [12, pytest.param(num(24, 60), marks=pytest.mark.kill)])
@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_in_bfloat16_two_threads_come_to_the_bits_of_one(recipe: str, num_steps: int) -> None:
    """Each operation is one thread's; which one takes an update is left to chance."""
    threads = {}
    for num_threads in (1, 2):
        state, config, batches = begin(recipe, num_steps=num_steps, precision="bfloat16", **small(num_steps))
        list(train(state, config.model_copy(update={"num_threads": num_threads}), batches))
        threads[num_threads] = state.tensors()
    assert [name for name, one in threads[1].items() if not torch.equal(one, threads[2][name])] == []


@pytest.mark.parametrize("recipe", ["published", "dcgan"])
def test_moments_that_shrink_to_subnormal_numbers_become_0_at_every_50th_step(recipe: str) -> None:
    """A dead discriminator's would, for the rest of a run, and a step on a CPU would take ten times as long."""
    state, config, batches = begin(recipe, num_steps=50, batch_size=25, learning_rate=1e-9)
    moments = list(state.d_moments.values())
    for parameter in state.discriminator.parameters():
        parameter.data.zero_()  # by which it has no gradient
    for moment in moments:
        moment.exp_avg.fill_(1e-26)
        moment.exp_avg_sq.fill_(1e-12)
    shown = train(state, config, batches)
    next(shown)
    assert any(moment.exp_avg.any() and moment.exp_avg.max() < 1e-26 for moment in moments)
    list(shown)
    no_grads = [moment for moment in moments if moment.exp_avg_sq.max() < 1e-12]
    assert no_grads and not any(moment.exp_avg.any() for moment in no_grads)
    assert all(moment.exp_avg_sq.all() for moment in no_grads)


def test_a_nan_loss_stops_at_its_step() -> None:
    state, config, batches = begin("tuned", num_steps=30)
    training = train(state, config, batches)
    next(training)
    state.generator.layers[0].weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingDivergedError, match="step 11: g_loss is nan"):
        next(training)


def test_an_infinite_weight_stops_even_if_the_loss_is_finite() -> None:
    state, config, batches = begin("tuned", num_steps=10, learning_rate=1e-5)
    state.d_moments["layers.0.weight"].exp_avg.fill_(float("inf"))
    training = train(state, config.model_copy(update={"snapshot_steps": 1}), batches)
    with pytest.raises(TrainingDivergedError, match="step 1: a weight is not finite"):
        next(training)
