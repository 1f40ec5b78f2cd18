"""Which real images does a step see?"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan.compiled import Array, compiled_exact
from gan.errors import DataError
from gan.images import from_uint8, with_channels
from gan.seeds import make_rng


class Real(NamedTuple):
    """Real images and their class labels."""

    images: Tensor  # (B, C, H, W) in [-1, 1]
    labels: Tensor  # (B,) int64


class Batches:
    """The real batch of each step: one permutation per epoch, drawn from the seed, without an incomplete last batch.

    All images are on the device as uint8, so that a batch is one gather. There is no state to save: a step has the same
    batch, whatever steps were requested before.
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
        """Copy uint8 images, see with_channels, and labels (N,) to the device.

        Raises:
            DataError: they fill no batch.
        """
        if len(images) < batch_size:
            raise DataError(f"{len(images)} training images do not fill one batch of {batch_size}; lower --batch-size")
        self.images = with_channels(images).to(device)  # (N, C, H, W) uint8
        self.rows = images.reshape(len(images), -1)  # (N, C * H * W) uint8, for the compiled gather on a CPU
        self.labels = torch.from_numpy(labels).to(device, torch.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.dtype = dtype
        self.num_batches = len(images) // batch_size
        self._epoch = -1
        self._order = torch.empty(0)

    def __call__(self, step: int) -> Real:
        """Return the batch of a step. Steps count from 1."""
        return self.gather(self.indices(step))

    def indices(self, step: int) -> Tensor:
        """Return the indices (B,) of the images of a step, on the device, without waiting for it."""
        epoch, index = divmod(step - 1, self.num_batches)
        if epoch != self._epoch:
            # Drawn on the CPU, so that every device gets the same batches.
            order = torch.randperm(len(self.images), generator=make_rng(self.seed, "epoch", epoch))
            if self.images.is_cuda:
                order = order.pin_memory()  # a copy from other memory would wait for all earlier steps
            self._order = order.to(self.images.device, non_blocking=True)
            self._epoch = epoch
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def gather(self, indices: Tensor) -> Real:
        """Return the images at `indices` (B,)."""
        if indices.is_cuda:
            images = from_uint8(self.images.index_select(0, indices)).to(self.dtype)
        else:
            images = torch.empty(len(indices), *self.images.shape[1:], dtype=self.dtype)
            _gather(self.rows, indices.numpy(), images.flatten(1).numpy())
        return Real(images, self.labels.index_select(0, indices))


@compiled_exact
def _gather(images: Array, indices: Array, out: Array) -> None:
    """Convert the uint8 images (N, D) at `indices` (B,) to [-1, 1] and write them into out (B, D)."""
    half, one = out.dtype.type(127.5), out.dtype.type(1)
    for row in range(indices.size):
        index = indices[row]
        for column in range(images.shape[1]):
            out[row, column] = out.dtype.type(images[index, column]) / half - one
