"""Which training images are most similar to a run's last samples: does it only copy them?"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gan.errors import RunError
from gan.evaluation.metrics import squared_distances
from gan.images import grid_cells, grid_png, with_channels
from gan.runs import layout
from gan.runs.journal import Journal
from gan.runs.run_dir import RunDir

CHUNK = 1000  # training images at a time: 3 MB of float32
GAP_PIXELS = 2
FRAME_GREY = 96


def write_neighbours(journal: Journal, step: int, train_images: np.ndarray) -> None:
    """Write neighbours.png: each sample of a step's grid beside the nearest training image, see with_channels.

    Raises:
        RunError: the grid is missing or damaged.
        StorageError: the disk refuses.
    """
    path = RunDir(journal.run_path).grid_path(step)
    try:
        samples = grid_cells(path.read_bytes(), side=train_images.shape[-1])
    except (OSError, ValueError, SyntaxError) as error:
        raise RunError(f"{path}: not a whole PNG ({error}). Restore it from a copy, or train the run again.") from error
    neighbours = nearest(samples, with_channels(train_images))
    journal.write(layout.NEIGHBOURS, sheet_png(samples, neighbours))


def nearest(images: Tensor, others: Tensor) -> Tensor:
    """Return, for each of images (N, C, H, W) uint8, the one of others (M, C, H, W) at the least L2 distance."""
    points = images.flatten(1).float()  # (N, C * H * W)
    distances = points.new_empty(len(points), len(others))  # allocated first, as in gan.evaluation.classifier.classify
    for part, to_part in zip(torch.split(others, CHUNK), torch.split(distances, CHUNK, 1), strict=True):
        to_part.copy_(squared_distances(points, part.flatten(1).float()))
    return others[distances.argmin(1)]


def sheet_png(samples: Tensor, neighbours: Tensor) -> bytes:
    """Return a PNG of pairs of images (N, C, H, W) uint8: five pairs a row, each in a thin frame."""
    pairs = torch.cat([pad(samples, (0, GAP_PIXELS)), neighbours], 3)  # (N, C, H, 2 W + 2)
    return grid_png(pad(pairs, (1, 1, 1, 1), value=FRAME_GREY), padding=4)
