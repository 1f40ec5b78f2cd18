"""How was the classifier of gan/evaluation trained? This program trains it again and writes its weights.

It trains on MNIST's training images, about 8 minutes on one core. The same machine and the same torch give the same
bytes. Another type of processor rounds differently and gives a classifier of the same quality with another hash. Then
set WEIGHTS_SHA256 in gan/evaluation/judge.py to the hash that this program prints.
"""

import argparse
import hashlib
from pathlib import Path

import safetensors.torch
import torch

from gan.data.dataset import load_dataset
from gan.evaluation.judge import WEIGHTS
from gan.evaluation.judge_training import EPOCHS, accuracy, new_classifier, train
from gan.images import with_channels


def main() -> None:
    """Train, print the test accuracy after each epoch, write the weights and print their SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    torch.set_num_threads(1)  # the number of threads changes bits
    images, test_images = with_channels(data.train_images), with_channels(data.test_images)
    classifier = new_classifier(images, num_classes=10)

    def report(epoch: int, seconds: float) -> None:
        share = accuracy(classifier, test_images, data.test_labels)
        print(f"epoch {epoch}: {share:.2%} of the test images correct, {seconds:.0f} s", flush=True)  # noqa: T201

    train(classifier, images, torch.from_numpy(data.train_labels).long(), EPOCHS, report)
    weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in classifier.state_dict().items()})
    args.out.write_bytes(weights)
    print(f"{args.out}: {len(weights)} bytes, SHA-256 {hashlib.sha256(weights).hexdigest()}")  # noqa: T201


if __name__ == "__main__":
    main()
