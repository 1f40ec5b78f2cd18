"""Does a recipe fill what a config leaves open, and refuse what it does not support?"""

import ast
from pathlib import Path
from typing import Literal, get_args

import pytest
from pydantic import ValidationError

from gan.config import RecipeName, TrainConfig
from gan.recipes.resolve import RECIPES, check, resolve, stored_config
from tests.support.configs import resolved, run_config

ROOT = Path(__file__).parents[3]


def test_each_recipe_that_a_config_can_name_is_declared() -> None:
    assert list(RECIPES) == [*get_args(RecipeName)] == [recipe.name for recipe in RECIPES.values()]


def choices_by_name(path: Path) -> list[str]:
    """List the lines where a file compares a recipe with a name, matches it, or uses the name as a key."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare | ast.Match | ast.Subscript):
            parts = [node.subject, *node.cases] if isinstance(node, ast.Match) else list(ast.iter_child_nodes(node))
            constants = {each.value for part in parts for each in ast.walk(part) if isinstance(each, ast.Constant)}
            is_of_a_recipe = any("recipe" in ast.unparse(part).lower() for part in parts)
            if is_of_a_recipe and constants & RECIPES.keys():
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_nothing_is_chosen_by_the_name_of_a_recipe(tmp_path: Path) -> None:
    example = tmp_path / "example.py"
    example.write_text('a = config.recipe != "dcgan"\nb = "tuned" in recipes\nc = RECIPES["tuned"]\n')
    assert len(choices_by_name(example)) == 3
    sources = [*(ROOT / "gan").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    assert len(sources) > 80
    assert [choice for path in sources for choice in choices_by_name(path)] == []


def test_published_is_the_table() -> None:
    run = run_config(recipe="published")
    assert (run.num_steps, run.batch_size, run.latent_dim, run.conditional) == (92_763, 64, 100, False)
    assert (run.learning_rate, run.beta1, run.beta2) == (1e-4, 0.9, 0.999)
    assert (run.dropout, run.augment_translate, run.r1_gamma, run.ema_decay) == (0, 0, 0, 0)
    assert (run.snapshot_steps, run.on_collapse) == (1000, "ignore")


@pytest.mark.parametrize(
    ("num_steps", "lr_decay_start", "lr_decay_to", "augment_start"),
    [(10**6, 0.15, 3e-5, 0.15), (92_763, 0.15, 3e-5, 0.15), (46_382, 0.29, 1.15e-4, 0.575), (100, 0.43, 2e-4, 1)],
)
def test_the_learning_rate_of_a_short_run_of_tuned_decays_later_and_less(
    num_steps: int, lr_decay_start: float, lr_decay_to: float, augment_start: float
) -> None:
    run = run_config(num_steps=num_steps)
    assert run.lr_decay_start == pytest.approx(lr_decay_start, abs=4e-4)
    assert run.augment_start == pytest.approx(augment_start, abs=1e-3)
    assert run.lr_decay_to == pytest.approx(lr_decay_to, rel=2e-3)
    given_one = run_config(num_steps=num_steps, lr_decay_start=0.5)
    assert (given_one.lr_decay_start, given_one.lr_decay_to) == (0.5, run.lr_decay_to)


def test_the_own_length_of_a_recipe_has_its_values_to_the_bit() -> None:
    run = run_config()
    assert (run.num_steps, run.lr_decay_start, run.augment_start, run.lr_decay_to) == (92_763, 0.15, 0.15, 3e-5)


def test_a_run_of_a_version_without_a_field_continues_with_its_old_behaviour() -> None:
    run = run_config(num_steps=100)
    newer = dict.fromkeys(["conditional", "lr_decay_to", "augment_start", "on_collapse"])
    older = stored_config({**run.model_dump(), **newer, "lr_decay_start": 0.43, "augment_translate": 2})
    assert [older.learning_rate_after(step) for step in (0, 50, 99)] == [6e-4, 2e-4, 2e-4]
    assert [older.translates_after(step) for step in (42, 43)] == [False, True]
    assert (older.conditional, older.on_collapse) == (False, "restart")
    assert stored_config(run.model_dump()) == run


@pytest.mark.parametrize(
    ("recipe", "changed", "message"),
    [
        ("tuned", {"latent_dim": 10}, "the class takes the place of 10 latents"),
        ("dcgan", {"dropout": 0.3}, "recipe dcgan has no dropout"),
        ("dcgan", {"conditional": False}, "recipe dcgan is always class-conditional"),
        ("tuned", {"num_steps": -5}, "greater than or equal to 1"),
    ],
)
def test_a_stored_config_that_no_run_can_have_is_refused(
    recipe: RecipeName, changed: dict[str, object], message: str
) -> None:
    fields = run_config(recipe=recipe).model_dump()
    assert stored_config(fields).recipe == recipe
    with pytest.raises(ValidationError, match=message):
        stored_config({**fields, **changed})


def test_a_stored_config_without_a_field_that_all_versions_had_is_refused() -> None:
    fields = run_config().model_dump()
    del fields["learning_rate"]
    with pytest.raises(ValueError, match="learning_rate"):
        stored_config(fields)


def test_dcgan_has_no_dropout() -> None:
    with pytest.raises(ValidationError, match="(?s)dropout.*recipe dcgan has no dropout: leave it out, or give 0"):
        check(TrainConfig(recipe="dcgan", dropout=0.3))
    assert run_config(recipe="dcgan", dropout=0).dropout == 0
    assert run_config(recipe="tuned", dropout=0.3).dropout == 0.3


def test_the_class_takes_the_place_of_ten_latents() -> None:
    with pytest.raises(ValidationError, match="(?s)conditional.*--latent-dim 11 or more, or --no-conditional"):
        check(TrainConfig(latent_dim=10))
    assert not run_config(latent_dim=10, conditional=False).conditional
    assert not run_config(latent_dim=1, recipe="published").conditional
    assert run_config(latent_dim=1, recipe="dcgan").conditional
    with pytest.raises(ValidationError, match="(?s)conditional.*dcgan is always class-conditional: leave this"):
        check(TrainConfig(recipe="dcgan", conditional=False))


def test_a_config_that_the_recipe_does_not_support_is_refused() -> None:
    with pytest.raises(ValidationError, match="dropout"):
        resolved(TrainConfig(recipe="dcgan", dropout=0.3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_auto_precision_is_resolved_once(precision: Literal["float32", "bfloat16"]) -> None:
    made = resolve(TrainConfig(precision="auto"), seed=0, device="cpu", num_threads=1, precision=precision)
    assert made.precision == precision
    elsewhere = resolve(made, seed=1, device="cpu", num_threads=2, precision="float32")
    assert elsewhere == made
