"""How does the tutorial train? This is its loop, with torchvision's MNIST in a DataLoader, or with the data in memory.

The tutorial also writes TensorBoard events. This loop does not, so it is faster. It reads both losses at every step, as
the tutorial does for its events.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from benchmarks.timing import Setting, TimeSteps, timed
from gan.data import idx
from gan.data.dataset import Dataset, load_dataset
from gan.data.mnist import FILES
from gan.images import from_uint8
from tests.support.reference import generator, published_discriminator

BATCH_SIZE = 64
LATENT_DIM = 100
BATCH_NORM_EPS = 0.8
LEARNING_RATE = 1e-4


def prepare_with_loader(setting: Setting, num_workers: int) -> TimeSteps:
    """Prepare the tutorial's loop."""
    batches = batches_from_loader(setting.torchvision_dir, num_workers)
    return timed(partial(next, train(batches, setting.device)), setting.device)


def prepare_with_data_in_memory(setting: Setting) -> TimeSteps:
    """Prepare the same loop on images that are on the device as uint8."""
    images = torch.from_numpy(load_dataset(setting.data_dir).train_images).unsqueeze(1).to(setting.device)
    return timed(partial(next, train(batches_from_memory(images), setting.device)), setting.device)


def train(batches: Iterator[Tensor], device: str) -> Iterator[tuple[float, float]]:
    """Train on batches (B, 1, 28, 28) in [-1, 1]. Yield (g_loss, d_loss) after each step."""
    g, d = generator(LATENT_DIM, BATCH_NORM_EPS).to(device), published_discriminator().to(device)
    loss = nn.BCELoss()
    g_optimizer = torch.optim.Adam(g.parameters(), lr=LEARNING_RATE)
    d_optimizer = torch.optim.Adam(d.parameters(), lr=LEARNING_RATE)
    for batch in batches:
        real = batch.to(device)
        ones = torch.ones(len(real), 1, device=device)
        zeros = torch.zeros(len(real), 1, device=device)

        g_optimizer.zero_grad()
        fake = g(torch.randn(len(real), LATENT_DIM, device=device))
        g_loss = loss(d(fake), ones)
        g_loss.backward()
        g_optimizer.step()

        d_optimizer.zero_grad()
        d_loss = 0.5 * (loss(d(real), ones) + loss(d(fake.detach()), zeros))
        d_loss.backward()
        d_optimizer.step()
        yield g_loss.item(), d_loss.item()


def write_torchvision_files(data: Dataset, root: Path) -> None:
    """Write the four files below `root`, where torchvision's MNIST reads them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for file, array in zip(FILES, arrays, strict=True):
        (raw / file.name).write_bytes(idx.encode(array.astype(np.uint8)))


def batches_from_loader(torchvision_dir: Path, num_workers: int) -> Iterator[Tensor]:
    """Yield batches without end, by a DataLoader that starts again at each epoch."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    loader = DataLoader(
        MNIST(torchvision_dir, train=True, transform=transform),
        batch_size=BATCH_SIZE, shuffle=True, drop_last=True, num_workers=num_workers,
    )  # fmt: skip
    while True:
        for images, _labels in loader:
            yield images


def batches_from_memory(images: Tensor) -> Iterator[Tensor]:
    """Yield batches of uint8 images (N, 1, 28, 28) without end, each epoch in a new order."""
    num_images = len(images) // BATCH_SIZE * BATCH_SIZE
    while True:
        order = torch.randperm(len(images), device=images.device)[:num_images]
        for chosen in torch.split(order, BATCH_SIZE):
            yield from_uint8(images[chosen])
