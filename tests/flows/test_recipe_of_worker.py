"""Which recipes does a worker take: the built-in ones, and those that its GAN_RECIPES names?"""

import shlex
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from flows.cli import gan_train as command
from flows.gan_train import gan_train
from flows.settings import Settings, recipes_from_env
from gan.errors import RecipeError, SettingError
from tests.support.custom_recipe import ADDRESS, write_package
from tests.support.custom_recipe import fresh as fresh
from tests.support.flow_run import CONFIG, run

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(write_package(tmp_path / "place"))
    return tmp_path / "place"


def config() -> Any:
    return CONFIG.model_copy(update={"recipe": ADDRESS})


@pytest.mark.usefixtures("api", "environment", "package")
def test_a_worker_refuses_a_recipe_that_it_does_not_name(environment: Path) -> None:
    state = run(config())
    assert state.is_failed() and "a worker takes it if its GAN_RECIPES names it" in (state.message or "")
    assert isinstance(state.result(raise_on_failure=False), RecipeError)
    assert not (environment / "runs").exists()


@pytest.mark.usefixtures("api", "environment", "package")
def test_a_worker_trains_a_recipe_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_RECIPES", f"other.module:IT, {ADDRESS}")
    assert run(config()).is_completed()


def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipes_from_env() == []
    monkeypatch.setenv("GAN_RECIPES", "mine")
    with pytest.raises(SettingError, match="GAN_RECIPES has 'mine' in it, which is no address of a recipe"):
        recipes_from_env()


def test_the_form_offers_the_recipes_that_were_named_at_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    def offered() -> dict[str, Any]:
        schema = parameter_schema(gan_train).model_dump_for_openapi()
        found: dict[str, Any] = schema["definitions"]["TrainConfig"]["properties"]["recipe"]
        return found

    built_in = ["published", "tuned", "dcgan"]
    assert (offered()["enum"], offered()["default"], offered()["type"]) == (built_in, "tuned", "string")
    monkeypatch.setenv("GAN_RECIPES", ADDRESS)
    assert offered()["enum"] == [*built_in, ADDRESS]


def test_the_command_that_resumes_names_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_RUN_ID", "mine")
    name, *words = shlex.split(Settings.from_env(ADDRESS).command)
    assert command.make_context(name, words).params["recipe"] == ADDRESS
    assert "--recipe" not in Settings.from_env("dcgan").command
