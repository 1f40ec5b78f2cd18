"""How does a test get an imported data set with a judge, in a second?"""

from pathlib import Path

import numpy as np
import pytest

from gan.evaluation import judge_training
from gan.sets.loading import JUDGE, load_set
from gan.sets.set_import import import_set, open_source
from gan.sets.set_manifest import Facts, SetManifest
from gan.sets.sources.base import Form
from tests.support.real_digits import real_digits

FACTS = Facts(license="CC0", source="a <b>box</b>", attribution="A. Painter")


def import_digits(sets_dir: Path, name: str = "numerals", *, facts: Facts = FACTS) -> SetManifest:
    """Import 600 real digits under a name of their own, half of them as test images."""
    digits = real_digits()
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    sets_dir.mkdir(parents=True, exist_ok=True)
    np.savez(sets_dir.parent / f"{name}.npz", images=images, labels=labels)
    source = open_source(sets_dir.parent / f"{name}.npz")
    return import_set(source, sets_dir, name, Form(28, 1, (0, 0, 0)), test_share=0.5, facts=facts).manifest


def train_judge(sets_dir: Path, address: str, num_epochs: int = 1) -> Path:
    """Train a judge that knows little, and return its folder. Another number of epochs gives another judge."""
    data = load_set(sets_dir, address)
    assert data.judge_folder and data.judge_folder.name == JUDGE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_training, "LEAST_ACCURACY", 0.0)
        patch.setattr(judge_training, "LEAST_TEST_IMAGES", 100)
        judge_training.train_judge(data, data.judge_folder, num_epochs)
    return data.judge_folder
