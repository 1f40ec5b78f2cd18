"""How does a test get a run directory that grows by snapshots, without training?"""

from pathlib import Path

import torch

from gan.config import TrainConfig
from gan.files import atomic_write
from gan.images import grid_png
from gan.runs import checkpoint
from gan.runs.run_dir import RunDir, SnapshotMetrics
from tests.support.configs import run_config
from tests.support.sample_run import PROVENANCE, evaluation, random_images

CONFIG = run_config(num_steps=1000, snapshot_steps=10)


class SpooledRun:
    """Write the files of a training in their order. The checkpoints hold the losses and a few weights."""

    def __init__(self, path: Path, config: TrainConfig = CONFIG, num_weights: int = 1000) -> None:
        self.dir = RunDir(path)
        self.num_weights = num_weights
        self.num_bytes = 0  # of all grids and checkpoints, the pruned ones too
        self.rewinds: tuple[int, ...] = ()  # each attempt has other bytes under the same names
        path.mkdir(parents=True)
        self.dir.write_config(config)
        self.dir.write_provenance(PROVENANCE)
        (path / "processes.jsonl").write_text('{"version": 1}\n')
        atomic_write(self.dir.reals_path, grid_png(random_images(25)))

    def snapshot(self, step: int, distance: float | None = None) -> None:
        """Write the grid, the metrics, with the distance where there is one, and the checkpoint of a step; prune."""
        atomic_write(self.dir.grid_path(step), grid(step, len(self.rewinds)))
        line = SnapshotMetrics(
            step=step, g_loss=1, d_loss=1, steps_per_second=50, seconds=step / 50, time="now",
            evaluation=evaluation(step, distance) if distance else None,
        )  # fmt: skip
        lines = [*self.dir.read_metrics(), line]
        atomic_write(self.dir.metrics_path, "".join(each.model_dump_json() + "\n" for each in lines).encode())
        path = self._save(step)
        self.num_bytes += path.stat().st_size + self.dir.grid_path(step).stat().st_size

    def go_back(self, step: int) -> None:
        """Change the files as a run does that is sent back to a step."""
        checkpoint.discard_after(self.dir.path, step)
        for at, path in self.dir.grids():
            if at > step:
                path.unlink()
        self.rewinds = (*self.rewinds, step)
        self._save(step)
        lines = [line.model_dump_json() + "\n" for line in self.dir.read_metrics() if line.step <= step]
        atomic_write(self.dir.metrics_path, "".join(lines).encode())

    def _save(self, step: int) -> Path:
        losses = torch.arange(step, dtype=torch.float32)
        rng = torch.Generator().manual_seed(1000 * len(self.rewinds) + step)
        weights = torch.randn(self.num_weights, generator=rng)
        tensors = {"step": torch.tensor(step), "g_losses": losses, "d_losses": losses / 2, "weights": weights}
        path = checkpoint.save(self.dir.path, tensors, CONFIG.model_dump(mode="json"), self.rewinds)
        best = self.dir.best_checkpoint(self.dir.read_metrics())
        checkpoint.prune(self.dir.path, CONFIG.snapshot_steps, 1000, best.step if best else None)
        return path


def grid(step: int, num_rewinds: int) -> bytes:
    """Return the grid of an attempt at a step."""
    return grid_png(random_images(25).roll(step + num_rewinds, 0))


def spooled(path: Path) -> dict[str, bytes]:
    """Return the files that are uploaded during training."""
    once = ("config.json", "provenance.json", "reals.png")
    names = (*once, "processes.jsonl", "metrics.jsonl", "grids/*", "checkpoints/*")
    found = [file for name in names for file in path.glob(name)]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}
