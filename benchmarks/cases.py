"""Which ways to train does the speed benchmark compare?

A case is one of these ways.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal, get_args

from benchmarks import compiled_loop, limit, published_loop
from benchmarks.timing import Precision, Setting, TimeSteps
from gan.config import RecipeName, TrainConfig
from gan.data.batches import Batches
from gan.data.dataset import load_dataset
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.training.loop import train

Group = Literal["loader", "memory", "peer", "ours", "limit"]
NUM_WORKERS = (0, 2, 8)
LINEAR: tuple[RecipeName, ...] = ("published", "tuned")  # they have the layers of the published loop and of the limit
MAX_STEPS = 100_000_000
INSTALL_JAX = "jax: pip install --no-deps --require-hashes -r requirements-bench.lock"


@dataclass(frozen=True)
class Case:
    """One way to train. `prepare` is called in a process of its own."""

    group: Group
    name: str
    precision: Precision
    prepare: Callable[[Setting], TimeSteps]


def list_cases(device: str) -> list[Case]:
    """Return the cases for a device, in the order in which they run in each round."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    limits = [(matmul, each) for each in precisions for matmul in limit.matmul_names(each, device)]
    return [
        *(loader_case(num_workers) for num_workers in NUM_WORKERS),
        Case("memory", "published loop, data in memory", "float32", published_loop.prepare_with_data_in_memory),
        *(case for case in peer_cases() if case.name not in missing_peers()),
        *(our_case(recipe, precision) for precision in precisions for recipe in LINEAR),
        *(limit_case(matmul, precision) for matmul, precision in limits),
    ]


def loader_case(num_workers: int) -> Case:
    """Return the published loop, unchanged."""
    name = f"published loop, DataLoader, {num_workers} workers"
    return Case("loader", name, "float32", partial(published_loop.prepare_with_loader, num_workers=num_workers))


def peer_cases() -> list[Case]:
    """Return the published step as other programs compile it."""
    precisions: tuple[Precision, ...] = get_args(Precision)
    compiled = [(each, partial(compiled_loop.prepare, precision=each)) for each in precisions]
    return [
        *(Case("peer", "torch.compile", precision, prepare) for precision, prepare in compiled),
        *(Case("peer", "JAX", precision, partial(prepare_jax, precision=precision)) for precision in precisions),
    ]


def missing_peers() -> dict[str, str]:
    """Return by name which peers cannot run here: what is missing, and the command that installs it."""
    found = {"torch.compile": compiled_loop.missing(), "JAX": None if find_spec("jax") else INSTALL_JAX}
    return {name: missing for name, missing in found.items() if missing}


def prepare_jax(setting: Setting, precision: Precision) -> TimeSteps:
    """Prepare jax_loop.py. It is imported only here, in the process of a case: JAX may not be installed."""
    prepared: TimeSteps = pkgutil.resolve_name("benchmarks.jax_loop:prepare")(setting, precision)
    return prepared


def our_case(recipe: RecipeName, precision: Precision) -> Case:
    """Return one of our recipes."""
    return Case("ours", f"ours, {recipe}", precision, partial(prepare_ours, recipe=recipe, precision=precision))


def limit_case(matmul: limit.MatmulName, precision: Precision) -> Case:
    """Return the limit of our speed at a precision."""
    prepare = partial(limit.prepare_limit, precision=precision, matmul=matmul)
    return Case("limit", f"limit, by {matmul}", precision, prepare)


def prepare_ours(setting: Setting, recipe: RecipeName, precision: Precision) -> TimeSteps:
    """Prepare gan.training.loop.train. Its own clock times it, and stops while a snapshot is taken."""
    steps = setting.warm_up_steps
    asked = TrainConfig(recipe=recipe, precision=precision, snapshot_steps=steps, num_steps=MAX_STEPS)
    config = resolve(asked, seed=0, device=setting.device, num_threads=setting.num_threads)
    data = load_dataset(setting.data_dir)
    batches = Batches(data.train_images, data.train_labels, config.batch_size, 0, setting.device)
    snapshots = train(TrainState(config), config, batches)
    return lambda num_steps: sum(next(snapshots).seconds for _ in range(num_steps // steps))
