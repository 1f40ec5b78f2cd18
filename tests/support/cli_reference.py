"""What do the commands offer, as docs/cli.md prints it? `python -m tests.support.cli_reference` writes it again."""

from pathlib import Path

import click

from flows.cli import gan_train
from gan.cli.main import gan
from gan.cli.options import FIRST_OPTIONS
from gan.config import TrainConfig

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
BEGIN = "<!-- The rest of this page is generated: python -m tests.support.cli_reference -->\n"


def commands() -> dict[str, click.Command]:
    """Return every command that has options of its own, by the words that a person types."""
    found: dict[str, click.Command] = {"gan": gan}
    for name, command in gan.commands.items():
        if isinstance(command, click.Group):
            found |= {f"gan {name} {each}": inner for each, inner in command.commands.items()}
        else:
            found[f"gan {name}"] = command
    return {**found, "gan-train": gan_train}


def reference() -> str:
    """Return the generated part of the page, in Markdown."""
    sections = [_section(words, command) for words, command in commands().items()]
    return "\n".join([_training(), *sections])


def page() -> str:
    """Return the whole page: the hand-written part, then the generated part."""
    by_hand, _, _ = PAGE.read_text().partition(BEGIN)
    return f"{by_hand}{BEGIN}\n{reference()}"


def _training() -> str:
    """Describe the options that `gan train` and `gan-train` have in common: the fields of TrainConfig."""
    shared = [option for option in gan_train.params if option.name in TrainConfig.model_fields]
    first = [option for option in shared if option.name in FIRST_OPTIONS]
    expert = [option for option in shared if option.name not in FIRST_OPTIONS]
    intro = "`gan train` and `gan-train` have these. Each is a field of `config.json` and of the flow's parameter."
    return f"## Training options\n\n{intro}\n\n{_table(first)}\n### Expert training options\n\n{_table(expert)}"


def _section(words: str, command: click.Command) -> str:
    usage = " ".join([words, *command.collect_usage_pieces(click.Context(command))])
    text = f"## {words}\n\n```text\n{usage}\n```\n\n{command.help}\n\n"
    if TrainConfig.model_fields.keys() <= {param.name for param in command.params}:
        own = [param for param in command.params if param.name not in TrainConfig.model_fields]
        return f"{text}The [training options](#training-options), and:\n\n{_table(own)}"
    return f"{text}{_table(command.params)}"


def _table(params: list[click.Parameter]) -> str:
    rows = [_row(param) for param in params if isinstance(param, click.Option) and not param.hidden]
    return "".join(f"{row}\n" for row in ["| option | what it does |", "|---|---|", *rows])


def _row(option: click.Option) -> str:
    record = option.get_help_record(click.Context(click.Command("")))
    assert record
    flags, text = (part.replace("|", "\\|").replace(" RANGE", "") for part in record)
    return f"| `{flags}` | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page())
