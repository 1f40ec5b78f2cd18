"""Does a flow run use what its environment says, and refuse what it cannot use?"""

import shlex

import pytest

from flows.cli import gan_train
from flows.settings import Settings
from gan.errors import DataError, SettingError

SWITCHES = ("GAN_NO_PINNED_HASH", "GAN_FROM_SCRATCH", "GAN_SEED_BY_SCHEDULE")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a patch of an environment that names only the run."""
    for name in ("GAN_STORE", "GAN_DATA_DIR", "GAN_MNIST_MIRRORS", *SWITCHES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GAN_RUN_ID", "mine")
    return monkeypatch


def test_the_command_that_resumes_is_short_where_nothing_was_given() -> None:
    assert Settings.from_env().command == "gan-train --run-id mine"


def test_the_command_that_resumes_repeats_what_was_given(environment: pytest.MonkeyPatch) -> None:
    mirrors = ("https://one.example/mnist", "file:///my%20mirror")
    environment.setenv("GAN_STORE", "my store")
    environment.setenv("GAN_DATA_DIR", "it's data")
    environment.setenv("GAN_MNIST_MIRRORS", ",".join(mirrors))
    environment.setenv("GAN_NO_PINNED_HASH", "1")
    name, *words = shlex.split(Settings.from_env().command)
    given = gan_train.make_context(name, words).params
    assert (given["run_id"], given["store"], given["data_dir"]) == ("mine", "my store", "it's data")
    assert (given["mirrors"], given["no_pinned_hash"]) == (mirrors, True)


def test_a_mirror_with_a_password_is_refused_before_it_is_printed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GAN_MNIST_MIRRORS", "https://me:hunter2@one.example/mnist")
    with pytest.raises(DataError, match="is not a mirror") as caught:
        Settings.from_env()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("0", False), ("", False)])
def test_a_switch_is_on_or_off(environment: pytest.MonkeyPatch, value: str, is_on: bool) -> None:
    for name in SWITCHES:
        environment.setenv(name, value)
    settings = Settings.from_env()
    assert (settings.pinned, settings.from_scratch, settings.default_seed > 0) == (not is_on, is_on, is_on)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["true", "yes", "on", "2", "1 ", "false"])
def test_a_switch_with_another_value_is_refused(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(
        SettingError, match=f"^{name} is '{value}'. Set it to 1 to switch it on, or to 0 to leave it off.$"
    ):
        Settings.from_env()
