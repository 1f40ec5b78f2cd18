"""Which ways to train are compared?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from benchmarks import limit, published_loop
from benchmarks.timing import Precision, Run, Setting
from gan.config import RecipeName, TrainConfig
from gan.data.batches import Batches
from gan.data.dataset import load_dataset
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.training.loop import train

Group = Literal["loader", "memory", "ours", "limit"]
NUM_WORKERS = (0, 2, 8)
LINEAR: tuple[RecipeName, ...] = ("published", "tuned")  # of the same layers as the published loop and the limit
MAX_STEPS = 100_000_000


@dataclass(frozen=True)
class Contender:
    """Name one way to train; `prepare` is called in its own process."""

    group: Group
    name: str
    precision: Precision
    prepare: Callable[[Setting], Run]


def contenders(device: str) -> list[Contender]:
    """List those on a device in the order in which they run in each round."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    limits = [(multiplier, each) for each in precisions for multiplier in limit.multipliers(each, device)]
    return [
        *(loader(num_workers) for num_workers in NUM_WORKERS),
        Contender("memory", "published loop, data in memory", "float32", published_loop.in_memory),
        *(our_recipe(recipe, precision) for precision in precisions for recipe in LINEAR),
        *(the_limit(multiplier, precision) for multiplier, precision in limits),
    ]


def loader(num_workers: int) -> Contender:
    """Return the published loop as it stands."""
    name = f"published loop, DataLoader, {num_workers} workers"
    return Contender("loader", name, "float32", partial(published_loop.with_loader, num_workers=num_workers))


def our_recipe(recipe: RecipeName, precision: Precision) -> Contender:
    """Return a recipe of ours."""
    return Contender("ours", f"ours, {recipe}", precision, partial(ours, recipe=recipe, precision=precision))


def the_limit(multiplier: limit.Multiplier, precision: Precision) -> Contender:
    """Return what bounds ours at a precision."""
    prepare = partial(limit.limit, precision=precision, multiplier=multiplier)
    return Contender("limit", f"limit, by {multiplier}", precision, prepare)


def ours(setting: Setting, recipe: RecipeName, precision: Precision) -> Run:
    """Prepare gan.training.loop.train, timed by its own clock, which stops while a snapshot is taken."""
    steps = setting.warm_up_steps
    asked = TrainConfig(recipe=recipe, precision=precision, snapshot_steps=steps, num_steps=MAX_STEPS)
    config = resolve(asked, seed=0, device=setting.device, num_threads=setting.num_threads)
    data = load_dataset(setting.data_dir)
    batches = Batches(data.train_images, data.train_labels, config.batch_size, 0, setting.device)
    snapshots = train(TrainState(config), config, batches)
    return lambda num_steps: sum(next(snapshots).seconds for _ in range(num_steps // steps))
