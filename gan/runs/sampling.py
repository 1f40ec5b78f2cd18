"""How are images drawn from a trained run?"""

import io
import math
from pathlib import Path

import numpy as np
from torch import Tensor

from gan.config import RunConfig
from gan.engine.state import read_class_counts
from gan.errors import CheckpointError
from gan.files import check_path
from gan.images import grid_png
from gan.recipes.generator import Generator
from gan.recipes.networks import make_networks
from gan.runs import checkpoint
from gan.runs.checkpoint import Checkpoint


def load_sampler(path: Path) -> tuple[Generator, RunConfig, int]:
    """Load the generator of a run's newest good checkpoint, or of a checkpoint file; return its config and step too.

    It is in eval mode and on the CPU. Where the run has an averaged generator (EMA), it is that one.

    Raises:
        CheckpointError: there is no checkpoint, or none verifies.
        StorageError: this user may not read the folder.
    """
    check_path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such run or checkpoint. Check the path.")
    found = checkpoint.use_newest(path, _sampler) if path.is_dir() else checkpoint.use(path, _sampler)
    if found is None:
        raise CheckpointError(f"{path}: there is no checkpoint yet. Train the run first, or give a run directory.")
    return found


def _sampler(found: Checkpoint) -> tuple[Generator, RunConfig, int]:
    """Return the generator in a checkpoint, its config and its step. Raises CheckpointError where it has none."""
    config = checkpoint.config_in(found)
    network, _ = make_networks(config)
    prefix = "ema." if config.ema_decay else "generator."
    weights = {name.removeprefix(prefix): tensor for name, tensor in found.tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"its generator is not the one of its config ({error}). Restore it from a copy."
        ) from error
    network.use_class_counts(read_class_counts(found.tensors, len(network.class_counts)))
    return network.eval(), config, found.step


def encode(images: Tensor, suffix: str) -> bytes:
    """Return images (N, C, H, W) uint8 as the content of a .png (one sheet) or .npz file.

    In the .npz, `images` is (N, H, W) for grey images and (N, H, W, 3) for RGB.
    """
    if suffix == ".png":
        return grid_png(images, per_row=math.ceil(math.sqrt(len(images))))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.permute(0, 2, 3, 1).squeeze(3).numpy())
    return buffer.getvalue()
