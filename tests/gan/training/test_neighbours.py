"""Are the nearest training images found and shown beside the samples?"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from gan.errors import RunError
from gan.images import grid_cells, grid_png
from gan.runs.journal import Journal
from gan.runs.run_dir import RunDir
from gan.training.neighbours import CHUNK, nearest, sheet_png, write_neighbours
from tests.support.digits import digits
from tests.support.sample_run import random_images

IMAGES = torch.from_numpy(digits(50)[0]).unsqueeze(1)


def test_the_images_of_a_grid_are_read_back() -> None:
    assert torch.equal(grid_cells(grid_png(IMAGES[:25]), side=28), IMAGES[:25])


def test_the_nearest_is_the_one_with_the_least_squared_difference() -> None:
    samples = random_images(25)
    differences = (samples.double()[:, None] - IMAGES.double()[None]).square().sum((2, 3, 4))  # (25, 50)
    assert torch.equal(nearest(samples, IMAGES), IMAGES[differences.argmin(1)])


def test_copies_find_themselves_in_any_chunk() -> None:
    many = torch.zeros(CHUNK + 50, 1, 28, 28, dtype=torch.uint8)
    many[CHUNK:] = IMAGES
    assert torch.equal(nearest(IMAGES, many), IMAGES)


def test_a_sheet_shows_pairs(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.grids_dir.mkdir()
    run.grid_path(30).write_bytes(grid_png(IMAGES[:25]))
    write_neighbours(Journal(run.path), 30, 255 - IMAGES.squeeze(1).numpy())
    assert run.neighbours_path.read_bytes() == sheet_png(IMAGES[:25], nearest(IMAGES[:25], 255 - IMAGES))
    write_neighbours(Journal(run.path), 30, np.concatenate([digits(9, seed=3)[0], IMAGES.squeeze(1).numpy()]))
    pairs = pad(torch.cat([pad(IMAGES[:25], (0, 2)), IMAGES[:25]], 3), (1, 1, 1, 1), value=96)
    assert run.neighbours_path.read_bytes() == grid_png(pairs, padding=4)


@pytest.mark.parametrize("content", [None, b"", grid_png(IMAGES[:25])[:200]])
def test_a_damaged_grid_is_named(tmp_path: Path, content: bytes | None) -> None:
    run = RunDir(tmp_path)
    run.grids_dir.mkdir()
    if content is not None:
        run.grid_path(30).write_bytes(content)
    with pytest.raises(RunError, match=r"step-000030\.png: not a whole PNG.*train the run again"):
        write_neighbours(Journal(run.path), 30, IMAGES.squeeze(1).numpy())
