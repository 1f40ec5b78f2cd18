"""How was the classifier of gan/evaluation trained? This program trains it again and writes its weights.

It trains on MNIST's training images, about 8 minutes on one core. The same machine and the same torch give the same
bytes. Another type of processor rounds differently and gives a classifier of the same quality with another hash. Then
set WEIGHTS_SHA256 in gan/evaluation/classifier.py to the hash that this program prints.
"""

import argparse
import hashlib
import math
import time
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from gan.data.dataset import load_dataset
from gan.evaluation.classifier import WEIGHTS, Classifier
from gan.images import from_uint8
from gan.seeds import derive_seed, make_rng

SEED = 0
EPOCHS = 10
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.3
# Bounds of the augmentation. It draws each value uniformly between minus the bound and the bound.
ROTATION = math.radians(10)
SCALING = 0.1
TRANSLATION_PIXELS = 2.0
# The weights in the package were made with these names. Other names give other seeds, and so other weights.
WEIGHTS_PURPOSE, AUGMENTATION_PURPOSE = "judge weights", "judge augmentation"


def main() -> None:
    """Train, print the test accuracy after each epoch, write the weights and print their SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    torch.set_num_threads(1)  # the number of threads changes bits
    classifier = train(
        torch.from_numpy(data.train_images).unsqueeze(1),
        torch.from_numpy(data.train_labels).long(),
        torch.from_numpy(data.test_images).unsqueeze(1),
        torch.from_numpy(data.test_labels).long(),
    )
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()})
    args.out.write_bytes(weights)
    print(f"{args.out}: {len(weights)} bytes, SHA-256 {hashlib.sha256(weights).hexdigest()}")  # noqa: T201


def train(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> Classifier:
    """Return a classifier trained on images (N, 1, 28, 28) uint8 and labels (N,)."""
    torch.manual_seed(derive_seed(SEED, WEIGHTS_PURPOSE))
    classifier = Classifier().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    rng = make_rng(SEED, AUGMENTATION_PURPOSE)
    for epoch in range(EPOCHS):
        began = time.perf_counter()
        classifier.train()
        for chosen in torch.split(torch.randperm(len(images), generator=rng), BATCH_SIZE):
            features = classifier.features(augment(from_uint8(images[chosen]), rng))
            loss = F.cross_entropy(classifier.to_logits(F.dropout(features, DROPOUT)), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        share = accuracy(classifier, test_images, test_labels)
        seconds = time.perf_counter() - began
        print(f"epoch {epoch + 1}: {share:.2%} of the test images correct, {seconds:.0f} s", flush=True)  # noqa: T201
    return classifier


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Rotate, scale and translate each image (B, 1, 28, 28) a little. New pixels are background."""
    angle, scale, right, down = (torch.rand(4, len(images), generator=rng) * 2 - 1).unbind()
    angle, scale = angle * ROTATION, 1 + scale * SCALING
    cos, sin = angle.cos() * scale, angle.sin() * scale
    largest = 2 * TRANSLATION_PIXELS / images.shape[-1]  # translation, in units of half an image
    matrices = torch.stack([cos, -sin, right * largest, sin, cos, down * largest], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    changed = F.grid_sample(images + 1, grid, align_corners=False) - 1
    return changed.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of images (N, 1, 28, 28) uint8 that the classifier classifies correctly."""
    classifier.eval()
    predicted = [classifier(from_uint8(part)).argmax(1) for part in torch.split(images, 1000)]
    return float((torch.cat(predicted) == labels).float().mean())


if __name__ == "__main__":
    main()
