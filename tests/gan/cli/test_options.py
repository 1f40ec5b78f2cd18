"""Do the fields of a config become options that are easy to find?"""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from flows.cli import gan_train
from gan.cli.commands.train_commands import train
from gan.cli.options import config_from
from gan.config import TrainConfig
from gan.recipes.describe import flag_of

EVERY_FIELD: dict[str, object] = dict.fromkeys(TrainConfig.model_fields)


@pytest.mark.parametrize("command", [train, gan_train], ids=["gan train", "gan-train"])
def test_help_shows_a_dozen_options_first_and_every_option_once(command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"], prog_name="command").output
    first, expert = text.split("\nOptions:\n")[1].split("\nExpert options:\n")
    shown = [param for param in command.get_params(click.Context(command)) if isinstance(param, click.Option)]
    flags = [option.opts[0] for option in shown if not option.hidden]
    assert 12 <= sum(flag in first.split() for flag in flags) <= 16
    for name in ("recipe", "num_steps", "seed", "device"):
        assert flag_of(name) in first
    for name in ("lr_decay_start", "augment_translate", "beta1", "on_collapse"):
        assert flag_of(name) in expert
    for flag in flags:
        assert flag in first or flag in expert


def test_help_needs_no_torch() -> None:
    code = "import sys; from gan.cli.main import gan; gan(['train', '--help'], standalone_mode=False)"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


def test_what_only_reads_stores_needs_no_torch() -> None:
    """Nor does the worker: it would hold 200 MB for nothing."""
    modules = "gan.sync.listing, gan.sync.verification, gan.registry.prune, flows.worker, flows.deploy, sys"
    subprocess.run([sys.executable, "-c", f"import {modules}; assert 'torch' not in sys.modules"], check=True)


def test_only_given_options_are_set() -> None:
    assert config_from({**EVERY_FIELD, "seed": 3}).model_dump(exclude_unset=True) == {"seed": 3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "dcgan", "dropout": 0.3}, "--dropout: recipe dcgan has no dropout: leave it out, or give 0"),
        ({"latent_dim": 10}, "--conditional: the class takes the place of 10 latents: give --latent-dim 11 or more"),
    ],
)
def test_what_the_recipe_does_not_support_is_wrong_usage(given: dict[str, object], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        config_from({**EVERY_FIELD, **given})
