"""How was the judge made? Trains it on MNIST's training split and writes its weights: some 8 minutes on one core.

The same machine and torch give the same bytes again; another kind of processor rounds otherwise and gives a judge of
the same quality with another hash, which then has to be pinned as gan.evaluation.classifier.SHA256.
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
TURN = math.radians(10)  # the augmentation's bounds, uniform
SCALE = 0.1
SHIFT_PIXELS = 2.0


def main() -> None:
    """Train, print the test accuracy of each epoch, write the weights and print their SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    torch.set_num_threads(1)  # the number of threads changes bits
    judge = train(
        torch.from_numpy(data.train_images).unsqueeze(1),
        torch.from_numpy(data.train_labels).long(),
        torch.from_numpy(data.test_images).unsqueeze(1),
        torch.from_numpy(data.test_labels).long(),
    )
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in judge.state_dict().items()})
    args.out.write_bytes(weights)
    print(f"{args.out}: {len(weights)} bytes, SHA-256 {hashlib.sha256(weights).hexdigest()}")  # noqa: T201


def train(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor) -> Classifier:
    """Return a judge trained on images (N, 1, 28, 28) uint8 and labels (N,)."""
    torch.manual_seed(derive_seed(SEED, "judge weights"))
    judge = Classifier().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    rng = make_rng(SEED, "judge augmentation")
    for epoch in range(EPOCHS):
        began = time.perf_counter()
        judge.train()
        for chosen in torch.split(torch.randperm(len(images), generator=rng), BATCH_SIZE):
            features = judge.features(augmented(from_uint8(images[chosen]), rng))
            loss = F.cross_entropy(judge.to_logits(F.dropout(features, DROPOUT)), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        correct = accuracy(judge, test_images, test_labels)
        print(f"epoch {epoch + 1}: {correct:.2%} of the test images, {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
    return judge


def augmented(images: Tensor, rng: torch.Generator) -> Tensor:
    """Turn, scale and shift each image (B, 1, 28, 28) a little; what comes in from outside is background."""
    turn, scale, right, down = (torch.rand(4, len(images), generator=rng) * 2 - 1).unbind()
    turn, scale = turn * TURN, 1 + scale * SCALE
    cos, sin = turn.cos() * scale, turn.sin() * scale
    shift = 2 * SHIFT_PIXELS / images.shape[-1]
    matrices = torch.stack([cos, -sin, right * shift, sin, cos, down * shift], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    turned = F.grid_sample(images + 1, grid, align_corners=False) - 1
    return turned.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(judge: Classifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of images (N, 1, 28, 28) uint8 that the judge classifies correctly."""
    judge.eval()
    named = [judge(from_uint8(part)).argmax(1) for part in torch.split(images, 1000)]
    return float((torch.cat(named) == labels).float().mean())


if __name__ == "__main__":
    main()
