"""Is a config checked, compared field by field, and are its schedules computed?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gan.config import LEFT_OUT, RecipeName, RunConfig, TrainConfig
from gan.errors import ConfigMismatchError
from tests.support.configs import resolved, run_config


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


@given(configs)
def test_resolving_fills_every_field_and_changes_none_that_was_given(config: TrainConfig) -> None:
    run = resolved(config)
    assert {None, "auto"}.isdisjoint(run.model_dump().values())
    assert config.differences(run) == []


@given(configs)
def test_json_brings_a_config_back(config: TrainConfig) -> None:
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    run = resolved(config)
    assert RunConfig.model_validate_json(run.model_dump_json()) == run


@given(configs, configs)
def test_a_difference_is_named_exactly_where_both_say_something_else(asked: TrainConfig, made: TrainConfig) -> None:
    run = resolved(made)
    given_fields = {name: getattr(asked, name) for name in asked.model_fields_set}
    differing = {n for n, value in given_fields.items() if value not in (None, "auto", getattr(run, n))}
    assert {line.split(":")[0] for line in asked.differences(run)} == differing


def test_the_config_of_a_run_has_the_fields_in_the_same_order_and_none_is_open() -> None:
    of_run = list(RunConfig.model_fields)[len(TrainConfig.model_fields) :]
    assert list(RunConfig.model_fields) == [*TrainConfig.model_fields, *of_run]
    assert {"data", "init_from", *of_run} == LEFT_OUT
    assert LEFT_OUT.isdisjoint(run_config().model_dump())
    with pytest.raises(ValidationError, match="num_steps"):
        RunConfig(**{**run_config().model_dump(), "num_steps": None})
    with pytest.raises(ValidationError, match="device"):
        RunConfig(**{**run_config().model_dump(), "device": "auto"})


def test_the_learning_rate_decays_linearly_once_its_decay_has_begun() -> None:
    run = run_config(num_steps=100, lr_decay_start=0.5, learning_rate=9e-3, lr_decay_from=5e-3, lr_decay_to=1e-3)
    assert [run.learning_rate_after(step) for step in (0, 49, 50, 75, 100)] == pytest.approx(
        [9e-3, 9e-3, 5e-3, 3e-3, 1e-3]
    )
    never = run_config(num_steps=100, lr_decay_start=1, learning_rate=9e-3)
    assert never.learning_rate_after(99) == 9e-3


def test_augmentation_begins_at_a_share_of_its_own() -> None:
    run = run_config(num_steps=100, augment_translate=1, augment_start=0.2, lr_decay_start=0.5)
    assert [run.translates_after(step) for step in (19, 20, 49, 50)] == [False, True, True, True]
    assert not run_config(num_steps=100, augment_translate=0, augment_start=0).translates_after(99)


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


def test_resuming_with_other_values_names_both_of_each() -> None:
    run = run_config(num_steps=100)
    with pytest.raises(ConfigMismatchError, match=r"(?s)num_steps: the run has 100, asked for 200.*seed: .*0.*7"):
        TrainConfig(num_steps=200, seed=7).check_resumes(run, "store/runs/x")


def test_resuming_without_values_or_with_auto_is_no_difference() -> None:
    run = run_config(recipe="published", num_steps=100, device="cpu")
    TrainConfig().check_resumes(run, "store/runs/x")
    TrainConfig(device="auto", precision="auto", seed=None).check_resumes(run, "store/runs/x")


def test_the_names_of_older_versions_are_read_and_the_new_ones_written() -> None:
    old = {"refine_from": 0.2, "refine_learning_rate": 3e-4, "final_learning_rate": 1e-5, "max_shift": 1,
           "shift_from": 0.3}  # fmt: skip
    config = TrainConfig.model_validate(old)
    new = {"lr_decay_start": 0.2, "lr_decay_from": 3e-4, "lr_decay_to": 1e-5, "augment_translate": 1,
           "augment_start": 0.3}  # fmt: skip
    assert config == TrainConfig(**new)
    assert config.model_dump(exclude_unset=True) == new
