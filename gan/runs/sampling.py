"""How are digits drawn from a trained run?"""

import io
import math
from pathlib import Path

import numpy as np
from torch import Tensor

from gan.config import TrainConfig
from gan.errors import CheckpointError
from gan.images import grid_png
from gan.recipes.networks import Generator, make_networks
from gan.runs.run_dir import RunDir
from gan.training import checkpoint


def load_sampler(path: Path) -> tuple[Generator, TrainConfig, int]:
    """Load the generator of a run's newest good checkpoint, or of one checkpoint file; return its config and step too.

    It is the averaged generator where the run has one, in eval mode, on the CPU.

    Raises:
        CheckpointError: there is no checkpoint, or none that verifies.
    """
    if path.is_dir():
        tensors, fields = checkpoint.load_newest(RunDir(path).checkpoints_dir) or _none(path)
    else:
        tensors, fields = checkpoint.load(path)
    config = TrainConfig.model_validate(fields)
    network, _ = make_networks(config)
    prefix = "ema." if config.ema_decay else "generator."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return network.eval(), config, int(tensors["step"])


def encode(images: Tensor, suffix: str) -> bytes:
    """Return images (N, 1, 28, 28) uint8 as the content of a .png (one sheet) or .npz (`images`, (N, 28, 28)) file."""
    if suffix == ".png":
        return grid_png(images, per_row=math.ceil(math.sqrt(len(images))))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.squeeze(1).numpy())
    return buffer.getvalue()


def _none(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    raise CheckpointError(f"{path}: no checkpoint there yet; train the run first, or give a run directory")
