"""Is a config checked, filled in once, and compared field by field?"""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gan.config import RecipeName, TrainConfig
from gan.errors import ConfigMismatchError


def configs_of(recipes: list[RecipeName], max_dropout: float) -> st.SearchStrategy[TrainConfig]:
    return st.builds(
        TrainConfig,
        recipe=st.sampled_from(recipes),
        num_steps=st.none() | st.integers(1, 10**8),
        precision=st.sampled_from(["float32", "bfloat16", "auto"]),
        seed=st.none() | st.integers(0, 2**63 - 1),
        learning_rate=st.none() | st.floats(1e-9, 1),
        conditional=st.sampled_from([None, True]),
        dropout=st.none() | st.floats(0, max_dropout),
        snapshot_steps=st.integers(1, 10**6),
    )


configs = configs_of(["published", "tuned"], 0.99) | configs_of(["dcgan"], 0)


def resolved(config: TrainConfig) -> TrainConfig:
    return config.resolved(seed=0, device="cpu", num_threads=2)


@given(configs)
def test_resolving_fills_every_field_and_changes_none_that_was_given(config: TrainConfig) -> None:
    run = resolved(config)
    assert {None, "auto"}.isdisjoint(run.model_dump().values())
    assert config.differences(run) == []


@given(configs)
def test_json_brings_a_config_back(config: TrainConfig) -> None:
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@given(configs, configs)
def test_a_difference_is_named_exactly_where_both_say_something_else(asked: TrainConfig, made: TrainConfig) -> None:
    run = resolved(made)
    given_fields = {name: getattr(asked, name) for name in asked.model_fields_set}
    differing = {n for n, value in given_fields.items() if value not in (None, "auto", getattr(run, n))}
    assert {line.split(":")[0] for line in asked.differences(run)} == differing


def test_published_is_the_table() -> None:
    run = resolved(TrainConfig(recipe="published"))
    assert (run.num_steps, run.batch_size, run.latent_dim, run.conditional) == (92_763, 64, 100, False)
    assert (run.learning_rate, run.beta1, run.beta2) == (1e-4, 0.9, 0.999)
    assert (run.dropout, run.augment_translate, run.r1_gamma, run.ema_decay) == (0, 0, 0, 0)
    assert (run.snapshot_steps, run.on_collapse) == (1000, "ignore")


def test_the_step_size_falls_evenly_once_refining_has_begun() -> None:
    run = resolved(
        TrainConfig(num_steps=100, lr_decay_start=0.5, learning_rate=9e-3, lr_decay_from=5e-3, lr_decay_to=1e-3)
    )
    assert [run.learning_rate_after(step) for step in (0, 49, 50, 75, 100)] == pytest.approx(
        [9e-3, 9e-3, 5e-3, 3e-3, 1e-3]
    )
    never = resolved(TrainConfig(num_steps=100, lr_decay_start=1, learning_rate=9e-3))
    assert never.learning_rate_after(99) == 9e-3


@pytest.mark.parametrize(
    ("num_steps", "lr_decay_start", "lr_decay_to", "augment_start"),
    [(10**6, 0.15, 3e-5, 0.15), (92_763, 0.15, 3e-5, 0.15), (46_382, 0.29, 1.15e-4, 0.575), (100, 0.43, 2e-4, 1)],
)
def test_a_short_run_of_tuned_refines_later_and_less(
    num_steps: int, lr_decay_start: float, lr_decay_to: float, augment_start: float
) -> None:
    run = resolved(TrainConfig(num_steps=num_steps))
    assert run.lr_decay_start == pytest.approx(lr_decay_start, abs=4e-4)
    assert run.augment_start == pytest.approx(augment_start, abs=1e-3)
    assert run.lr_decay_to == pytest.approx(lr_decay_to, rel=2e-3)
    given_one = resolved(TrainConfig(num_steps=num_steps, lr_decay_start=0.5))
    assert (given_one.lr_decay_start, given_one.lr_decay_to) == (0.5, run.lr_decay_to)


def test_the_own_length_of_a_recipe_has_its_values_to_the_bit() -> None:
    run = resolved(TrainConfig())
    assert (run.num_steps, run.lr_decay_start, run.augment_start, run.lr_decay_to) == (92_763, 0.15, 0.15, 3e-5)


def test_a_run_of_a_version_without_a_field_goes_on_as_it_began() -> None:
    run = resolved(TrainConfig(num_steps=100))
    newer = dict.fromkeys(["conditional", "lr_decay_to", "augment_start", "on_collapse"])
    older = run.model_copy(update={**newer, "lr_decay_start": 0.43, "augment_translate": 2}).completed()
    assert [older.learning_rate_after(step) for step in (0, 50, 99)] == [6e-4, 2e-4, 2e-4]
    assert [older.shifts_after(step) for step in (42, 43)] == [False, True]
    assert (older.conditional, older.on_collapse) == (False, "restart")
    assert run.completed() == run


def test_shifts_begin_at_a_share_of_their_own() -> None:
    run = resolved(TrainConfig(num_steps=100, augment_translate=1, augment_start=0.2, lr_decay_start=0.5))
    assert [run.shifts_after(step) for step in (19, 20, 49, 50)] == [False, True, True, True]
    assert not resolved(TrainConfig(num_steps=100, augment_translate=0, augment_start=0)).shifts_after(99)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_steps", 0),
        ("num_steps", 1.5),
        ("seed", -1),
        ("batch_size", 24),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("beta1", 1),
        ("dropout", 1),
        ("r1_gamma", -1),
        ("augment_translate", 9),
        ("device", "tpu"),
        ("recipe", "secret"),
        ("nun_steps", 5),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        TrainConfig(**{field: value})


def test_dcgan_has_no_dropout() -> None:
    with pytest.raises(ValidationError, match="(?s)dropout.*recipe dcgan has no dropout: leave it out, or give 0"):
        TrainConfig(recipe="dcgan", dropout=0.3)
    assert resolved(TrainConfig(recipe="dcgan", dropout=0)).dropout == 0
    assert resolved(TrainConfig(recipe="tuned", dropout=0.3)).dropout == 0.3


def test_the_digit_takes_the_place_of_ten_latents() -> None:
    with pytest.raises(ValidationError, match="(?s)conditional.*--latent-dim 11 or more, or --no-conditional"):
        TrainConfig(latent_dim=10)
    assert not resolved(TrainConfig(latent_dim=10, conditional=False)).conditional
    assert not resolved(TrainConfig(latent_dim=1, recipe="published")).conditional
    assert resolved(TrainConfig(latent_dim=1, recipe="dcgan")).conditional
    with pytest.raises(ValidationError, match="(?s)conditional.*dcgan is always told the digit: leave it out"):
        TrainConfig(recipe="dcgan", conditional=False)


def test_resuming_with_other_values_names_both_of_each() -> None:
    run = resolved(TrainConfig(num_steps=100))
    with pytest.raises(ConfigMismatchError, match=r"(?s)num_steps: the run has 100, asked for 200.*seed: .*0.*7"):
        TrainConfig(num_steps=200, seed=7).check_resumes(run, "store/runs/x")


def test_resuming_with_nothing_said_or_auto_is_no_difference() -> None:
    run = resolved(TrainConfig(recipe="published", num_steps=100, device="cpu"))
    TrainConfig().check_resumes(run, "store/runs/x")
    TrainConfig(device="auto", precision="auto", seed=None).check_resumes(run, "store/runs/x")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_auto_precision_is_settled_once(precision: Literal["float32", "bfloat16"]) -> None:
    made = TrainConfig(precision="auto").resolved(seed=0, device="cpu", num_threads=1, precision=precision)
    assert made.precision == precision
    elsewhere = made.resolved(seed=1, device="cpu", num_threads=2, precision="float32")
    assert elsewhere == made


def test_the_names_of_older_versions_are_read_and_the_new_ones_written() -> None:
    old = {
        "refine_from": 0.2,
        "refine_learning_rate": 3e-4,
        "final_learning_rate": 1e-5,
        "max_shift": 1,
        "shift_from": 0.3,
    }
    config = TrainConfig.model_validate(old)
    new = {
        "lr_decay_start": 0.2,
        "lr_decay_from": 3e-4,
        "lr_decay_to": 1e-5,
        "augment_translate": 1,
        "augment_start": 0.3,
    }
    assert config == TrainConfig(**new)
    assert config.model_dump(exclude_unset=True) == new
