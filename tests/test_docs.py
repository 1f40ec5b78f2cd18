"""Does README name every command, option and variable, and does its Python run?"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import gan_train
from gan.cli.champion_commands import champion
from gan.cli.main import gan
from gan.config import TrainConfig
from tests import test_layering as layering

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
NOT_DOCUMENTED = {"--help", "--version"}
COMMANDS = {**gan.commands, **{f"champion {name}": command for name, command in champion.commands.items()}}


def test_every_command_is_in_the_readme() -> None:
    assert [name for name in COMMANDS if f"`gan {name}" not in README] == []


@pytest.mark.parametrize("command", [*COMMANDS.values(), gan_train], ids=lambda command: command.name)
def test_every_option_is_in_the_readme(command: object) -> None:
    flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
    assert sorted(flag for flag in flags - NOT_DOCUMENTED if flag not in README) == []


@pytest.mark.parametrize("command", [gan, *COMMANDS.values(), gan_train], ids=lambda command: command.name)
def test_every_command_and_option_has_help(command: object) -> None:
    assert command.help
    assert [option.name for option in command.params if option.param_type_name == "option" and not option.help] == []


def test_every_field_has_a_description_and_a_row_in_the_readme() -> None:
    for name, field in TrainConfig.model_fields.items():
        assert field.description
        assert f"`--{name.replace('_', '-')}`" in README


def test_every_variable_is_in_the_readme() -> None:
    sources = [*(ROOT / "gan").glob("*.py"), *(ROOT / "flows").glob("*.py")]
    names = {name for path in sources for name in re.findall(r"\bGAN_[A-Z_]+", path.read_text())}
    assert sorted(name for name in names if f"`{name}`" not in README) == []


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", README, re.MULTILINE)) <= targets


@pytest.mark.mnist
def test_the_python_in_the_readme_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code
    short = code[1].replace("num_steps=3000", "num_steps=30, snapshot_steps=10")
    done = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["10", "20", "30"]


def test_the_architecture_page_draws_the_layers_of_the_layering_test() -> None:
    drawing = re.search(r"```text\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert drawing
    assert [line.split()[0] for line in drawing[1].splitlines()] == [*reversed(layering.LAYERS)]
    bases = re.search(r"^gan +base modules: (.*)$", drawing[1], re.MULTILINE)
    assert bases
    assert set(bases[1].split(", ")) == layering.BASE_MODULES


def test_each_file_that_the_architecture_page_names_holds_what_it_says() -> None:
    rows = [line.split(" | ") for line in ARCHITECTURE.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    assert len(rows) > 30
    for _, files, names in rows[1:]:
        texts = [(ROOT / path).read_text() for path in re.findall(r"`([^`]+)`", files)]
        for name in re.findall(r"`([^`]+)`", names):
            assert any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts), f"{files}: {name}"
