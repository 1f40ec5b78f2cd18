"""How does a test train a small run, to its end or to a step?"""

from pathlib import Path

from gan.config import TrainConfig
from gan.training.runner import Run, open_run
from tests.support.digits import mnist

CONFIG = TrainConfig(num_steps=40, snapshot_steps=10, num_threads=1)
DATA = mnist()


def train(path: Path, config: TrainConfig = CONFIG, stop_at: int | None = None, **options: bool) -> Run:
    """Train a run, to its end or to a step."""
    with open_run(path, config, DATA, **options) as run:
        for _ in run.train(lambda: run.state.step == stop_at):
            pass
    return run
