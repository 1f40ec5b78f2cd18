"""What does `gan judge` do? Heavy imports wait until a command runs."""

from pathlib import Path

import click

from gan.cli.common_options import JSON, SETS_DIR
from gan.cli.entry import DebugGroup

SET = click.option("--data", "address", required=True, metavar="NAME[@SHA]", help="The imported data set.")


@click.group(cls=DebugGroup)
def judge() -> None:
    """Train and show the judge of an imported data set. MNIST's is part of gan-train."""


@judge.command()
@SET
@SETS_DIR
def train(address: str, sets_dir: Path) -> None:
    """Train the classifier that judges samples of a data set, and freeze it with the figures of real images.

    Without labels nothing is trained: a fixed random network gives the features, and there are no classes. `gan train`
    and `gan evaluate` then use the judge by themselves.
    """
    import logging

    import torch

    from gan.evaluation.judge_training import train_judge
    from gan.sets.loading import judge_folder, load_set

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    torch.set_num_threads(1)  # the number of threads changes the bits of the weights
    folder = judge_folder(sets_dir, address)
    card = train_judge(load_set(sets_dir, address), folder)
    click.echo(f"{folder}: {card}")


@judge.command()
@SET
@SETS_DIR
@JSON
def show(address: str, sets_dir: Path, as_json: bool) -> None:
    """Show how well the judge of a data set knows it, and from how many images."""
    from gan.evaluation.judge import read_card
    from gan.sets.loading import judge_folder

    card = read_card(judge_folder(sets_dir, address))
    click.echo(card.model_dump_json() if as_json else card)
