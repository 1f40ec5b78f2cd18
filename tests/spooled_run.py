"""How does a test get a run directory that grows by snapshots, without a training's time?"""

from pathlib import Path

import torch

from gan import checkpoint
from gan.config import TrainConfig
from gan.files import atomic_write
from gan.images import grid_png
from gan.run_dir import RunDir, SnapshotMetrics
from tests.sample_run import PROVENANCE, evaluation, random_images

CONFIG = TrainConfig(num_steps=1000, snapshot_steps=10).resolved(seed=0, device="cpu", num_threads=1)


class SpooledRun:
    """Write what training writes, in its order; checkpoints hold little but the losses."""

    def __init__(self, path: Path, config: TrainConfig = CONFIG, num_weights: int = 1000) -> None:
        self.dir = RunDir(path)
        self.num_weights = num_weights
        self.num_bytes = 0  # of all grids and checkpoints, the pruned ones too
        path.mkdir(parents=True)
        self.dir.write_config(config)
        self.dir.write_provenance(PROVENANCE)
        atomic_write(self.dir.reals_path, grid_png(random_images(25)))

    def snapshot(self, step: int, distance: float | None = None) -> None:
        """Write the grid, the metrics, with the distance where there is one, and the checkpoint of a step; prune."""
        images = random_images(25).roll(step, 0)
        atomic_write(self.dir.grid_path(step), grid_png(images))
        line = SnapshotMetrics(
            step=step, g_loss=1, d_loss=1, steps_per_second=50, seconds=step / 50, time="now",
            evaluation=evaluation(step, distance) if distance else None,
        )  # fmt: skip
        lines = [*self.dir.read_metrics(), line]
        atomic_write(self.dir.metrics_path, "".join(each.model_dump_json() + "\n" for each in lines).encode())
        losses = torch.arange(step, dtype=torch.float32)
        weights = torch.randn(self.num_weights, generator=torch.Generator().manual_seed(step))
        tensors = {"step": torch.tensor(step), "g_losses": losses, "d_losses": losses / 2, "weights": weights}
        path = checkpoint.save(self.dir.checkpoints_dir, tensors, CONFIG.model_dump(mode="json"))
        self.num_bytes += path.stat().st_size + self.dir.grid_path(step).stat().st_size
        best = self.dir.best_checkpoint(lines)
        checkpoint.prune(self.dir.checkpoints_dir, CONFIG.snapshot_steps, 1000, best.step if best else None)


def spooled(path: Path) -> dict[str, bytes]:
    """Return the files that a store gets while training goes on."""
    names = ("config.json", "provenance.json", "reals.png", "metrics.jsonl", "grids/*", "checkpoints/*")
    found = [file for name in names for file in path.glob(name)]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}
