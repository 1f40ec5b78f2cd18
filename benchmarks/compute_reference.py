"""Which values of the real MNIST images are samples compared with? Run `benchmarks.train_classifier` first.

This program writes the file that gan/evaluation/reference.py reads. Another type of processor rounds differently and
gives other bytes. Then set SHA256 there to the hash that this program prints.
"""

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from gan.data.dataset import load_dataset
from gan.evaluation.evaluator import NUM_QUICK, NUM_SAMPLES, Evaluator
from gan.evaluation.reference import PATH


def main() -> None:
    """Compute the reference, write it and print its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args()
    data = load_dataset(args.data_dir)
    assert data.is_mnist
    torch.set_num_threads(1)  # the number of threads changes bits
    evaluator = Evaluator(replace(data, sha256={}))  # without the hashes of MNIST, the evaluator computes the reference
    for count in (NUM_QUICK, NUM_SAMPLES):
        evaluator.floor(count)
    evaluator.precision_recall_floor(NUM_SAMPLES)
    content = evaluator.reference._replace(nearest=evaluator.nearest).encode()
    args.out.write_bytes(content)
    print(f"{args.out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")  # noqa: T201


if __name__ == "__main__":
    main()
