"""Do people see the defaults that the recipes declare?"""

import pytest

from gan.config import RunConfig
from gan.recipes.describe import defaults_table, describe


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("recipe", "dcgan: convolutions, class-conditional. Default tuned."),
        ("num_steps", "Recipe: published and tuned 92,763, dcgan 30,000."),
        ("conditional", "Recipe: published no, tuned and dcgan yes."),
        ("learning_rate", "Recipe: published 1e-4, tuned 6e-4, dcgan 2e-3."),
        ("lr_decay_start", "Recipe: published 1, tuned 0.15 (shorter runs up to 0.43), dcgan 0.17."),
        ("lr_decay_to", "Recipe: published 1e-4, tuned 3e-5 (shorter runs up to 2e-4), dcgan 3e-4."),
        ("dropout", "Recipe: 0."),
        ("snapshot_steps", "Default 1000."),
        ("seed", "Default 0."),
        ("num_threads", "Default the usable cores, at most 8."),
    ],
)
def test_an_option_names_its_defaults(name: str, ending: str) -> None:
    assert describe(name).endswith(ending)


def test_the_table_has_a_row_an_option() -> None:
    lines = defaults_table().splitlines()
    assert lines[0] == "| option | published | tuned | dcgan |"
    assert "| `--lr-decay-to` | 1e-4 | 3e-5 | 3e-4 |" in lines
    assert "| `--on-collapse` | ignore | restart | restart |" in lines
    assert len(lines) == 2 + 14


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_each_field_of_a_run_is_described(name: str) -> None:
    text = describe(name)
    assert text.endswith(".") and "PydanticUndefined" not in text and not text.startswith("None")
