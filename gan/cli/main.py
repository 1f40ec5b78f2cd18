"""Which commands does `gan` have?"""

import logging

import click

from gan import __version__
from gan.cli.commands.champion_commands import champion
from gan.cli.commands.data_commands import data
from gan.cli.commands.judge_commands import judge
from gan.cli.commands.recipe_commands import recipe
from gan.cli.commands.run_commands import evaluate, report, sample, verify
from gan.cli.commands.store_commands import cache, prune, runs
from gan.cli.commands.train_commands import download, train, validate
from gan.cli.entry import DebugGroup, debug_option, open_standard_streams, run_command


def main() -> int:
    """Run `gan` and return its exit code."""
    open_standard_streams()  # first: the handler of the log keeps the stream that it finds
    logging.basicConfig(format="%(message)s")
    logging.getLogger("gan").setLevel(logging.INFO)  # only ours: boto3 logs where it finds credentials
    return run_command(gan)


@click.group(cls=DebugGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@debug_option()
def gan() -> None:
    """Train a GAN on MNIST, or on images of your own, into a run directory that can be resumed and verified."""


COMMANDS = (
    download, validate, train, sample, evaluate, report, verify, runs, prune, cache, champion, recipe, data, judge,
)  # fmt: skip
for command in COMMANDS:
    gan.add_command(command)
