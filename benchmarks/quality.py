"""How much does each part of `tuned` improve the samples? `python -m benchmarks.quality --data-dir data`

The program trains every variant with the same seeds, evaluates it as `gan evaluate` does, and prints a table.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

from gan.config import TrainConfig
from gan.data.dataset import Dataset, load_dataset
from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
from gan.evaluation.results import Evaluation
from gan.recipes.draw import draw
from gan.training.runner import open_run

SEED = 0  # of the samples, the same as in `gan evaluate`
VARIANTS: dict[str, dict[str, Any]] = {
    "tuned": {},
    "without digits": {"conditional": False},
    "without R1": {"r1_gamma": 0},
    "with translation": {"augment_start": 0.37},
    "without translation": {"augment_translate": 0},
    "without learning-rate decay": {"lr_decay_start": 1},
    "without averaging": {"ema_decay": 0},
    "repaired only": {
        "conditional": False,
        "learning_rate": 1e-4,
        "lr_decay_start": 1,
        "beta1": 0.9,
        "augment_translate": 0,
        "r1_gamma": 0,
        "ema_decay": 0,
    },
}


def measure(variant: str, seed: int, num_steps: int, precision: str, data: Dataset) -> Evaluation:
    """Train on one thread, in a temporary directory, and evaluate the generator of the last step."""
    fields = {"seed": seed, "num_steps": num_steps, "precision": precision, "num_threads": 1}
    config = TrainConfig(**{**fields, **VARIANTS[variant]})
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", config, data) as run:
        for _ in run.train():
            pass
        images = draw(run.state.sampler.eval(), config.latent_dim, NUM_SAMPLES, SEED)
    return Evaluator(data).evaluate(images)


def row(variant: str, evaluations: list[Evaluation]) -> str:
    """Return a variant's row of the table."""
    distances = ", ".join(f"{each.distance.value:.1f}" for each in evaluations)
    score = mean(each.score.value for each in evaluations if each.score)
    shares = [share for each in evaluations for share in each.class_shares]
    return f"| {variant} | {distances} | {score:.2f} | {min(shares):.1%} to {max(shares):.1%} |"


def main() -> int:
    """Print one row per variant, each as soon as it is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), help=f"Default: {', '.join(VARIANTS)}.")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--num-steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--precision", choices=["float32", "bfloat16", "auto"], default="float32")
    parser.add_argument("--jobs", type=int, default=2, help="Trainings that run at the same time, each on one thread.")
    args = parser.parse_args()
    if unknown := set(args.variants) - VARIANTS.keys():
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    data = load_dataset(args.data_dir)
    other_args = args.num_steps, args.precision, data
    print("| | distance of each seed | score | share of each class |\n|---|---|---|---|", flush=True)  # noqa: T201
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        running = {
            variant: [pool.submit(measure, variant, seed, *other_args) for seed in range(args.seeds)]
            for variant in args.variants
        }
        for variant, futures in running.items():
            print(row(variant, [future.result() for future in futures]), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
