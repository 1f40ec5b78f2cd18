"""Are README and docs/ true: do all options, files and commands that they name exist, and all link targets?"""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import get_args

import click
import pytest
from prefect import Task

from flows import artifacts, data_tasks, tasks
from flows.cli import gan_train
from gan.cli.main import gan
from gan.config import OnCollapse, TrainConfig
from gan.data.shared import DATASETS
from gan.health import KINDS
from gan.recipes.resolve import RECIPES
from gan.registry.champion import CHAMPION, CHAMPIONS
from gan.runs.run_dir import RunDir
from gan.sets.set_store import SETS
from gan.sync.claims import CLAIMS
from gan.sync.holder import LEASES
from gan.sync.stored_run import ATTEMPTS, RUNS
from tests import test_layering as layering
from tests.support import cli_reference

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
GENERATED = {"CHANGELOG.md", "docs/bench.md"}  # a history, and what `make bench` writes
BY_HAND = {name: text for name, text in TEXTS.items() if name not in GENERATED}
ARCHITECTURE, CLI, STORAGE = (TEXTS[f"docs/{name}.md"] for name in ("architecture", "cli", "storage"))
COMMANDS = cli_reference.commands()
OPTIONS = {
    flag for command in COMMANDS.values() for param in command.params for flag in param.opts + param.secondary_opts
}
NOT_DOCUMENTED = {"--help", "--version"}


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


def inline(text: str) -> list[str]:
    """Return the texts in backticks outside of code blocks."""
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", outside)


def table(text: str, first: str) -> dict[str, list[str]]:
    """Return the cells of the table whose header begins with a cell, by the first cell of each row."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, first
    rows = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in found[1].splitlines()]
    return {row[0]: row[1:] for row in rows}


def shell_lines(text: str) -> list[list[str]]:
    """Return the words of each command in the shell blocks."""
    return [
        shlex.split(line, comments=True)
        for block in blocks(text, "sh")
        for line in block.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the click command that words name, and its arguments."""
    command: click.Command = gan_train if words[0] == "gan-train" else gan
    rest = [word for word in words[1:] if word != "--debug"]
    while isinstance(command, click.Group):
        assert rest and rest[0] in command.commands, " ".join(words)
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_readme_is_a_front_page() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150


@pytest.mark.parametrize("name", BY_HAND)
def test_the_target_of_every_link_exists(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            page = (ROOT / name).parent / path if path else ROOT / name
            assert page.exists(), target
            assert not anchor or anchor in anchors(page.read_text()), target


@pytest.mark.parametrize("name", BY_HAND)
def test_every_command_in_a_shell_block_is_valid(name: str) -> None:
    for words in shell_lines(TEXTS[name]):
        if words[0] in ("gan", "gan-train"):
            command, rest = command_of(words)
            command.make_context(words[0], rest)
        if words[:2] == ["python", "-m"] or words[:2] == [".venv/bin/python", "-m"]:
            assert importlib.util.find_spec(words[2]), words


@pytest.mark.parametrize("name", BY_HAND)
def test_every_command_and_option_in_a_sentence_exists(name: str) -> None:
    for code in inline(TEXTS[name]):
        words = code.split()
        if words[0] in ("gan", "gan-train") and len(words) > 1 and words[1] not in ("...", "--help", "champion"):
            command, rest = command_of(words)
            known = {flag for param in command.params for flag in param.opts + param.secondary_opts} | {"--help"}
            assert {word for word in rest if word.startswith("--")} <= known, code
        elif words[0].startswith("--"):
            assert words[0] in OPTIONS | NOT_DOCUMENTED, code


@pytest.mark.parametrize("name", BY_HAND)
def test_every_file_of_the_code_that_is_named_exists(name: str) -> None:
    named = [code for code in inline(TEXTS[name]) if re.fullmatch(r"(gan|flows|stack|benchmarks|tests)/[\w./]+", code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_make_target_is_documented_and_every_documented_one_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    codes = [code for text in BY_HAND.values() for code in [*inline(text), *blocks(text, "sh")]]
    named = {name for code in codes for name in re.findall(r"^make ([a-z][a-z0-9-]*)", code, re.MULTILINE)}
    assert named <= targets
    assert {code for code in targets if f"`make {code}`" not in TEXTS["CONTRIBUTING.md"]} == set()


def test_the_reference_of_the_commands_is_up_to_date() -> None:
    assert cli_reference.page() == CLI, "write it anew: python -m tests.support.cli_reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    assert f"\n## {name}\n" in CLI
    flags = {flag for option in COMMANDS[name].params for flag in option.opts if flag.startswith("--")}
    assert sorted(flag for flag in flags - NOT_DOCUMENTED if flag not in CLI) == []


@pytest.mark.parametrize("command", [gan, *gan.commands.values(), *COMMANDS.values()], ids=lambda command: command.name)
def test_every_command_and_option_has_help(command: click.Command) -> None:
    assert command.help
    assert [option.name for option in command.params if option.param_type_name == "option" and not option.help] == []


def test_every_field_has_a_description_and_a_row() -> None:
    for name, field in TrainConfig.model_fields.items():
        assert field.description
        assert f"| `--{name.replace('_', '-')} " in CLI


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    sources = [path.read_text() for folder in ("gan", "flows") for path in (ROOT / folder).rglob("*.py")]
    names = {name for text in sources for name in re.findall(r"\b(?:GAN|S3)_[A-Z_]*[A-Z]\b", text)}
    documented = {name for name in table(CLI, "variable") if name.startswith(("GAN_", "S3_"))}
    assert names == documented


def test_the_keys_of_a_store_are_documented() -> None:
    keys = {key.split("RUN-ID")[0].split("SHA-256")[0] for key in table(STORAGE, "key")}
    assert keys == {RUNS, ATTEMPTS, CHAMPION, CHAMPIONS, LEASES, CLAIMS, DATASETS, f"{SETS}NAME/"}


def test_the_files_of_a_run_are_documented() -> None:
    run = RunDir(Path("run"))
    names = {path.relative_to("run").parts[0] for path in vars(run).values() if path != run.path}
    [listed] = [block for block in blocks(TEXTS["docs/quickstart.md"], "text") if "manifest.json" in block]
    assert {line.split()[0].split("/")[0] for line in listed.splitlines()[1:]} == names


def test_the_tasks_of_the_flow_are_documented() -> None:
    both = [*vars(tasks).values(), *vars(data_tasks).values()]
    found = {each.name: each for each in both if isinstance(each, Task)}
    rows = table(TEXTS["docs/deployment.md"], "task")
    delays = {name: ", ".join(map(str, task.retry_delay_seconds or [])) for name, task in found.items()}
    assert rows == {name: [str(task.retries), delays[name]] for name, task in found.items()}


def test_artifacts_diagnoses_and_actions_are_documented() -> None:
    page = TEXTS["docs/monitoring.md"]
    assert set(table(page, "artifact")) == {key for name, key in vars(artifacts).items() if name.endswith("_KEY")}
    assert set(table(page, "diagnosis")) == set(KINDS)
    assert set(table(page, "value")) == set(get_args(OnCollapse))


@pytest.mark.parametrize(("recipe", "column"), [("published", 0), ("tuned", 1), ("dcgan", 2)])
def test_the_defaults_of_a_recipe_are_documented(recipe: str, column: int) -> None:
    rows = table(TEXTS["docs/recipes.md"], "option")
    defaults = RECIPES[recipe].defaults_for()
    assert {name for name in defaults if f"--{name.replace('_', '-')}" not in rows} == set()
    for option, cells in rows.items():
        default = defaults[option.removeprefix("--").replace("-", "_")]
        if isinstance(default, bool):
            assert cells[column] == ("yes" if default else "no")
        else:
            assert type(default)(cells[column]) == default


def test_the_schedule_of_a_shorter_run_is_documented() -> None:
    short = TEXTS["docs/recipes.md"].partition("## Schedule")[2]
    num_steps = 30_921  # a third
    share = num_steps / 92_763
    for option, [formula] in table(short, "option").items():
        full, at_zero = re.fullmatch(r"(\S+) r \+ (\S+) \(1 - r\)", formula).groups()
        expected = float(full) * share + float(at_zero) * (1 - share)
        assert RECIPES["tuned"].defaults_for(num_steps)[option.removeprefix("--").replace("-", "_")] == pytest.approx(
            expected
        )


def test_the_speeds_in_the_readme_are_those_of_the_benchmark() -> None:
    found = json.loads((ROOT / "docs" / "bench.json").read_text())
    rates = {f"{median(row['rates']):.1f}" for row in found["rows"]}
    shown = [
        cell
        for row in table(TEXTS["README.md"], "steps per second").values()
        for cell in row
        if re.fullmatch(r"\d+\.\d", cell)
    ]
    assert len(shown) == 8 and set(shown) <= rates
    assert found["machine"]["git_commit"][:7] in TEXTS["docs/results.md"]


def test_the_architecture_page_draws_the_layers_of_the_layering_test() -> None:
    [drawing] = blocks(ARCHITECTURE, "text")
    assert [line.split()[0] for line in drawing.splitlines()] == [*reversed(layering.LAYERS)]
    bases = re.search(r"^gan +base modules: (.*)$", drawing, re.MULTILINE)
    assert bases
    assert set(bases[1].split(", ")) == layering.BASE_MODULES


def test_each_file_that_the_architecture_page_names_holds_what_it_says() -> None:
    rows = table(ARCHITECTURE, "question")
    assert len(rows) > 30
    for files, names in rows.values():
        texts = [(ROOT / path).read_text() for path in re.split("`?, `?", files)]
        for name in filter(None, re.split("`?, `?", names)):
            assert any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts), f"{files}: {name}"


def test_the_schemas_of_json_output_are_documented() -> None:
    rows = table(CLI, "JSON of")
    documented = {name for cell in rows for name in re.split("`?, `?", cell)}
    assert documented == {name for name, command in COMMANDS.items() if "as_json" in {p.name for p in command.params}}
    for kind, path in rows.values():
        [name] = re.findall(r"\b[A-Z]\w+", kind)
        assert re.search(rf"^class {name}\b", (ROOT / path).read_text(), re.MULTILINE), name


@pytest.mark.mnist
def test_the_python_in_the_docs_runs(tmp_path: Path) -> None:
    code = "\n".join(blocks(TEXTS["docs/python.md"], "python"))
    short = code.replace("num_steps=3000", "num_steps=30, snapshot_steps=10").replace("step-003000", "step-000030")
    done = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()][:3] == ["10", "20", "30"]
