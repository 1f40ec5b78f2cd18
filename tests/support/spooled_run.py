"""How does a test get a run directory that grows by snapshots, without training?"""

from pathlib import Path

import numpy as np
import torch

from gan.config import TrainConfig
from gan.engine.state import without_losses
from gan.files import atomic_write, sha256_file
from gan.health import Health
from gan.images import grid_png
from gan.runs import checkpoint, layout
from gan.runs.derived import metrics_jsonl
from gan.runs.journal import Interval, Journal
from gan.runs.run_dir import RunDir, SnapshotMetrics
from tests.support.configs import run_config
from tests.support.sample_run import PROVENANCE, evaluation, random_images

CONFIG = run_config(num_steps=1000, snapshot_steps=10)


class SpooledRun:
    """Write the files of a training in their order. The checkpoints hold a few weights."""

    def __init__(
        self, path: Path, config: TrainConfig = CONFIG, num_weights: int = 1000, *, is_old: bool = False
    ) -> None:
        """Begin a run; with `is_old`, as versions without a journal did, whose checkpoints hold all losses."""
        self.dir = RunDir(path)
        self.num_weights = num_weights
        self.num_bytes = 0  # of all grids and checkpoints, the pruned ones too
        self.rewinds: tuple[int, ...] = ()  # each attempt has other bytes under the same names
        self._step = 0  # up to which the journal has losses
        path.mkdir(parents=True)
        self.dir.write_config(config)
        self.dir.write_provenance(PROVENANCE)
        (path / "processes.jsonl").write_text('{"version": 1}\n')
        atomic_write(self.dir.reals_path, grid_png(random_images(25)))
        self.journal = Journal(path)
        if not is_old:
            self.journal.begin({}, {"config.json": sha256_file(self.dir.config_path)})

    def snapshot(self, step: int, distance: float | None = None) -> None:
        """Write the grid, the metrics, with the distance where there is one, and the checkpoint of a step; prune."""
        line = SnapshotMetrics(
            step=step, g_loss=1, d_loss=1, steps_per_second=50, seconds=step / 50, time="now",
            evaluation=evaluation(step, distance) if distance else None,
        )  # fmt: skip
        lines = self.dir.read_metrics()
        png = grid(step, len(self.rewinds))
        self._enter(step, {layout.grid(step): png}, len(lines), line)
        atomic_write(self.dir.grid_path(step), png)
        self._write_metrics([*lines, line])
        path = self._save(step)
        self.num_bytes += path.stat().st_size + self.dir.grid_path(step).stat().st_size

    def go_back(self, step: int) -> None:
        """Change the files as a run does that is sent back to a step."""
        checkpoint.discard_after(self.dir.path, step)
        for at, path in self.dir.grids():
            if at > step:
                path.unlink()
        self.rewinds = (*self.rewinds, step)
        lines = [line for line in self.dir.read_metrics() if line.step <= step]
        self._enter(step, {}, len(lines))
        self._save(step)
        self._write_metrics(lines)

    def _enter(self, step: int, contents: dict[str, bytes], lines_kept: int, *lines: SnapshotMetrics) -> None:
        after_step = min(self._step, step)
        interval = Interval.of(
            _losses(step)[after_step:], rewinds=self.rewinds, after_step=after_step, step=step, lines_kept=lines_kept,
            lines=lines,
        )  # fmt: skip
        self.journal.enter(contents, interval=interval)
        self._step = step

    def _write_metrics(self, lines: list[SnapshotMetrics]) -> None:
        atomic_write(self.dir.metrics_path, metrics_jsonl(lines))

    def _save(self, step: int) -> Path:
        g_losses, d_losses = map(torch.from_numpy, _losses(step).T.copy())
        rng = torch.Generator().manual_seed(1000 * len(self.rewinds) + step)
        health = Health(rewinds=self.rewinds).model_dump_json().encode()
        tensors = {
            "step": torch.tensor(step),
            "g_losses": g_losses,
            "d_losses": d_losses,
            "health": torch.frombuffer(bytearray(health), dtype=torch.uint8),
            "weights": torch.randn(self.num_weights, generator=rng),
        }
        fields = CONFIG.model_dump(mode="json")
        path = checkpoint.save(
            self.dir.path, without_losses(tensors) if self.journal else tensors, fields, self.rewinds
        )
        best = self.dir.best_checkpoint(self.dir.read_metrics())
        checkpoint.prune(self.dir.path, CONFIG.snapshot_steps, 1000, best.step if best else None)
        return path


def _losses(step: int) -> np.ndarray:
    """Return g_loss and d_loss of a number of steps, float32 (step, 2)."""
    return np.stack([np.arange(step), np.arange(step) / 2], 1).astype(np.float32)


def grid(step: int, num_rewinds: int) -> bytes:
    """Return the grid of an attempt at a step."""
    return grid_png(random_images(25).roll(step + num_rewinds, 0))


def spooled(path: Path) -> dict[str, bytes]:
    """Return the files that are uploaded during training."""
    once = ("config.json", "provenance.json", "reals.png")
    names = (*once, "processes.jsonl", "journal/*", "grids/*", "checkpoints/*")
    found = [file for name in names for file in path.glob(name)]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}
