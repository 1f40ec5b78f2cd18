"""Which run do the tests of the report use? It has grids of an untrained generator, and the files of a run."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gan.evaluation.judge import WEIGHTS_SHA256
from gan.evaluation.results import QuickEvaluation
from gan.images import grid_png, to_uint8
from gan.recipes.mlp_networks import MlpGenerator
from gan.runs import checkpoint
from gan.runs.derived import losses_npz
from gan.runs.provenance import Provenance
from gan.runs.run_dir import RunDir, SnapshotMetrics
from tests.support.configs import run_config
from tests.support.digits import digits

PROVENANCE = Provenance(
    run_id="sample",
    created="2024-05-06T07:08:09+00:00",
    device="cpu, since cuda cannot be used: there is no NVIDIA driver; Sample(R) CPU",
    git_commit="0123456789abcdef0123456789abcdef01234567",
    versions={"gan-train": "0.1.0", "python": "3.11.7", "torch": "2.6.0", "numpy": "1.26.4"},
    data={"train-images-idx3-ubyte": "ba89" + "0" * 60, "t10k-images-idx3-ubyte": "0fa7" + "1" * 60},
)


def write_sample_run(
    path: Path, steps: Sequence[int] = (1000, 2000, 3000), evaluated: Sequence[int] = (), **provenance: object
) -> RunDir:
    """Write a run with a grid at each of `steps`, finished unless they end before 3000, and return its directory.

    At `evaluated` steps it has an evaluation and, in name, a checkpoint.

    The same arguments give the same bytes. `provenance` replaces fields of PROVENANCE.
    """
    run = RunDir(path)
    num_steps = max([3000, *steps])
    run.write_config(run_config(num_steps=num_steps, seed=7, num_threads=2))
    run.write_provenance(PROVENANCE.model_copy(update=provenance))
    run.grids_dir.mkdir()
    run.reals_path.write_bytes(grid_png(torch.from_numpy(digits(25)[0]).unsqueeze(1)))
    images = random_images(25 * max(1, len(steps)))
    for index, step in enumerate(steps):
        run.grid_path(step).write_bytes(grid_png(images[25 * index :][:25]))
    g_losses, d_losses = losses(steps[-1] if steps else 500)
    run.losses_path.write_bytes(losses_npz(g_losses, d_losses))
    run.checkpoints_dir.mkdir()
    for step in evaluated:
        checkpoint.path_of(run.path, step).touch()
    found = {step: evaluation(step) for step in evaluated}
    lines = (metrics(step, g_losses, d_losses, found.get(step)).model_dump_json() + "\n" for step in steps)
    run.metrics_path.write_text("".join(lines))
    return run


@functools.cache
@torch.no_grad()
def random_images(count: int) -> torch.Tensor:
    """Return uint8 images (count, 1, 28, 28) of a generator with random weights, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return to_uint8(MlpGenerator(latent_dim=100, bn_eps=1e-5, conditional=False)(torch.randn(count, 100)))


def losses(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return g_loss and d_loss, float32 (num_steps,): step N has 1 + N / num_steps and half of it."""
    g_losses = (1 + np.arange(1, num_steps + 1) / num_steps).astype(np.float32)
    return g_losses, g_losses / 2


def evaluation(step: int, distance: float | None = None) -> QuickEvaluation:
    """Return an evaluation: the distance is 400 / (step / 1000), and class 7 is lost before step 3000."""
    shares = [0.1] * 10 if step >= 3000 else [0.2, *[0.1] * 6, 0.0, 0.1, 0.1]
    return QuickEvaluation(
        judge=WEIGHTS_SHA256,
        num_samples=2000,
        distance=distance or 400_000 / step,
        distance_floor=2.5,
        histogram_distance=0.0 if step >= 3000 else 0.1,
        classes_covered=10 if step >= 3000 else 9,
        class_shares=shares,
    )


def metrics(
    step: int, g_losses: np.ndarray, d_losses: np.ndarray, found: QuickEvaluation | None = None
) -> SnapshotMetrics:
    """Return a snapshot's figures at 50 steps/s, means over the 1000 steps before it."""
    last = slice(max(0, step - 1000), step)
    return SnapshotMetrics(
        step=step,
        g_loss=float(g_losses[last].mean()),
        d_loss=float(d_losses[last].mean()),
        steps_per_second=50.0,
        seconds=step / 50,
        time=f"2024-05-06T08:{step // 3000:02d}:{step // 50 % 60:02d}.000+00:00",
        evaluation=found,
    )
