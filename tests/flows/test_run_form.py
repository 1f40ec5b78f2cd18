"""Can somebody who sees only the Run form start the training that they want?"""

from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.gan_train import gan_train
from gan.config import TrainConfig

SCHEMA = parameter_schema(gan_train).model_dump_for_openapi()
FORM = SCHEMA["definitions"]["TrainConfig"]
FIELDS: dict[str, dict[str, Any]] = FORM["properties"]


def submitted(**filled_in: object) -> TrainConfig:
    """Return the config of a run whose form was sent with these values. The server and the flow check them."""
    parameters = {"config": {**SCHEMA["properties"]["config"]["default"], **filled_in}}
    validate(parameters, SCHEMA, raise_on_error=True, ignore_required=True)
    config: TrainConfig = gan_train.validate_parameters(parameters)["config"]
    return config


def test_what_people_set_comes_first_also_where_a_database_sorts_the_keys_by_length() -> None:
    shown = sorted(sorted(FIELDS, key=len), key=lambda name: FIELDS[name]["position"])
    assert shown[:9] == [
        "recipe", "data", "num_steps", "seed", "batch_size", "snapshot_steps", "device", "precision", "num_threads",
    ]  # fmt: skip
    assert shown[9] == "latent_dim" and "The fields from Latent Dim on are for experts." in FORM["description"]
    assert set(shown) == set(TrainConfig.model_fields)


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_a_field_has_one_input_and_one_sentence(name: str) -> None:
    field = FIELDS[name]
    assert not field.keys() & {"anyOf", "oneOf"} and "null" not in str(field)
    assert field.get("type", "enum") in ("integer", "number", "string", "enum")
    assert field["description"].endswith(".") and ". " not in field["description"]
    assert "--" not in field["description"]
    assert ("default" in field) != ("; empty: " in field["description"])


def test_the_text_of_an_empty_field_names_its_value() -> None:
    assert FIELDS["num_steps"]["description"] == (
        "Steps to train; a step is one update of each network; empty: as the recipe says, "
        "published and tuned 92,763, dcgan 30,000."
    )
    assert FIELDS["num_threads"]["description"].endswith("; empty: the usable cores, at most 8.")


def test_a_form_that_is_sent_as_it_is_asks_for_nothing() -> None:
    assert submitted() == TrainConfig()
    assert submitted(num_steps=None, learning_rate=None) == TrainConfig()


def test_what_is_filled_in_is_trained() -> None:
    asked = {"recipe": "published", "num_steps": 300, "conditional": False, "on_collapse": "fail", "beta1": 0.9}
    assert submitted(**asked) == TrainConfig.model_validate(asked)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"batch_size": 24}, {"conditional": "maybe"}, {"dropout": 1}])
def test_a_wrong_value_is_refused_before_the_run(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"config.{next(iter(wrong))}"):
        submitted(**wrong)


def test_a_parameter_that_the_recipe_does_not_support_is_refused_at_once() -> None:
    with pytest.raises(ParameterTypeError, match="config.dropout: recipe dcgan has no dropout"):
        submitted(recipe="dcgan", dropout=0.3)
