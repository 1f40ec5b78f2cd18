"""Which real images does a step see?"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan.compiled import Array, compiled_exact
from gan.errors import DataError
from gan.images import from_uint8
from gan.seeds import make_rng


class Real(NamedTuple):
    """Real images, and which digits they show."""

    images: Tensor  # (B, 1, 28, 28) in [-1, 1]
    digits: Tensor  # (B,) int64


class Batches:
    """Address real batches by step: a permutation an epoch from the seed, the incomplete last batch dropped.

    The set lives on the device as uint8, so that a batch is one gather. Nothing here is state: the same step
    gives the same batch, in whatever order steps are asked for.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take uint8 images (N, 28, 28) and labels (N,). Raises DataError when they do not fill one batch."""
        if len(images) < batch_size:
            raise DataError(f"{len(images)} training images do not fill one batch of {batch_size}; lower --batch-size")
        self.images = torch.from_numpy(images).unsqueeze(1).to(device)  # (N, 1, 28, 28) uint8
        self.rows = images.reshape(len(images), -1)
        self.digits = torch.from_numpy(labels).to(device, torch.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.dtype = dtype
        self.num_batches = len(images) // batch_size
        self._epoch = -1
        self._order = torch.empty(0)

    def __call__(self, step: int) -> Real:
        """Return the batch of a step, counted from 1."""
        return self.gather(self.chosen(step))

    def chosen(self, step: int) -> Tensor:
        """Return which images (B,) a step sees, without waiting for the device."""
        epoch, index = divmod(step - 1, self.num_batches)
        if epoch != self._epoch:
            # Drawn on the CPU, so that every device sees the same batches.
            order = torch.randperm(len(self.images), generator=make_rng(self.seed, "epoch", epoch))
            if self.images.is_cuda:
                order = order.pin_memory()  # a copy from other memory waits until all steps before it are done
            self._order = order.to(self.images.device, non_blocking=True)
            self._epoch = epoch
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def gather(self, chosen: Tensor) -> Real:
        """Return the images that `chosen` (B,) names."""
        if chosen.is_cuda:
            images = from_uint8(self.images.index_select(0, chosen)).to(self.dtype)
        else:
            images = torch.empty(len(chosen), *self.images.shape[1:], dtype=self.dtype)
            _gather(self.rows, chosen.numpy(), images.flatten(1).numpy())
        return Real(images, self.digits.index_select(0, chosen))


@compiled_exact
def _gather(images: Array, chosen: Array, out: Array) -> None:
    """Write the uint8 images (N, D) that `chosen` (B,) names as [-1, 1] into out (B, D)."""
    half, one = out.dtype.type(127.5), out.dtype.type(1)
    for row in range(chosen.size):
        number = chosen[row]
        for column in range(images.shape[1]):
            out[row, column] = out.dtype.type(images[number, column]) / half - one
