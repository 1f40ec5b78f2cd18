"""Is a run that cannot be reported refused, with the file that is missing or damaged?"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gan.errors import RunError
from gan.images import grid_png
from gan.report.page import render
from gan.runs.derived import losses_npz
from gan.runs.run_dir import RunDir
from tests.support.sample_run import random_images, write_sample_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return write_sample_run(tmp_path / "sample")


def test_a_run_without_a_grid_has_no_report_yet(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", steps=[])
    with pytest.raises(
        RunError, match=r"no grid yet.*the first is drawn at step 1,000.*gan train --run-dir .*--resume"
    ):
        render(run)
    assert not run.report_path.parent.exists()


def replaced(name: str, content: bytes) -> Callable[[RunDir], Path]:
    def damage(run: RunDir) -> Path:
        (run.path / name).write_bytes(content)
        return run.path / name

    return damage


def removed(name: str) -> Callable[[RunDir], Path]:
    def damage(run: RunDir) -> Path:
        (run.path / name).unlink()
        return run.path / name

    return damage


def cut(name: str) -> Callable[[RunDir], Path]:
    def damage(run: RunDir) -> Path:
        path = run.path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return damage


def of_losses(g_losses: list[float], d_losses: list[float]) -> bytes:
    return losses_npz(np.array(g_losses, np.float32), np.array(d_losses, np.float32))


GRID = "grids/step-002000.png"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (removed("losses.npz"), "missing"),
        (removed("reals.png"), "missing"),
        (removed("metrics.jsonl"), "missing or empty"),
        (replaced("metrics.jsonl", b""), "missing or empty"),
        (replaced("metrics.jsonl", b"{}\n"), "damaged"),
        (replaced("provenance.json", b"{}"), "cannot be read"),
        (replaced("config.json", b'{"version": 1, "seed": -1}'), "no run can have this config (seed: "),
        (cut("losses.npz"), "damaged"),
        (replaced("losses.npz", b""), "damaged"),
        (replaced("losses.npz", of_losses([], [])), "expected two series of one length"),
        (replaced("losses.npz", of_losses([1, 2], [1])), "found g_loss (2,) and d_loss (1,)"),
        (replaced("losses.npz", of_losses([1, 2, 3], [1, float("nan"), 3])), "step 2 are not finite"),
        (cut(GRID), "not a complete PNG"),
        (replaced(GRID, b""), "not a complete PNG"),
        (replaced(GRID, b"<html>"), "not a complete PNG"),
        (replaced(GRID, grid_png(random_images(20))), "152x122 pixels, unlike the grids before it"),
        (cut("reals.png"), "not a complete PNG"),
        (replaced("neighbours.png", b"<html>"), "not a complete PNG"),
    ],
)
def test_a_missing_or_damaged_file_is_named_and_nothing_is_written(
    run: RunDir, damage: Callable[[RunDir], Path], said: str
) -> None:
    path = damage(run)
    with pytest.raises(RunError, match=f"{re.escape(str(path))}.*{re.escape(said)}"):
        render(run)
    assert not run.report_path.parent.exists()
