"""Are images of any side and colour, with and without labels, trained, resumed, sampled and reported?"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan.config import DataShape, TrainConfig
from gan.data.batches import Batches
from gan.data.dataset import Dataset
from gan.engine.state import TrainState
from gan.errors import ConfigMismatchError, DataError
from gan.recipes.draw import draw
from gan.recipes.resolve import resolve
from gan.report.page import render
from gan.runs.run_dir import RunDir
from gan.runs.sampling import load_sampler
from gan.training.runner import open_run
from tests.support.digits import digits
from tests.support.killing import differing
from tests.support.reference import check_equal

WHITE = (255, 255, 255)
pytestmark = pytest.mark.usefixtures("small_networks")
CONFIG = TrainConfig(recipe="dcgan", num_steps=4, snapshot_steps=2, batch_size=25, num_threads=1)


def made_up(side: int, channels: int, num_classes: int) -> Dataset:
    rng = np.random.default_rng(0)
    shape = (64, side, side) if channels == 1 else (64, channels, side, side)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    labels = (np.arange(64) % max(num_classes, 1)).astype(np.uint8)
    classes = tuple(f"class {number}" for number in range(num_classes))
    return Dataset(images, labels, images, labels, {"made-up": "0" * 64}, side, channels, classes, WHITE)


@pytest.mark.parametrize(
    ("recipe", "side", "channels", "num_classes"),
    [
        *(("dcgan", *shape) for shape in ((28, 3, 10), (32, 1, 26), (32, 3, 0), (64, 3, 0))),
        *(("tuned", *shape) for shape in ((28, 1, 26), (32, 3, 10), (64, 3, 0), (28, 1, 0))),
        ("published", 28, 1, 0),
    ],
)
def test_a_run_on_other_images(tmp_path: Path, recipe: str, side: int, channels: int, num_classes: int) -> None:
    data, asked = made_up(side, channels, num_classes), CONFIG.model_copy(update={"recipe": recipe})
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with open_run(stopped, asked, data) as run:
        next(run.train())
    with open_run(stopped, asked, data, resume=True) as run:
        list(run.train())
    with open_run(whole, asked, data) as run:
        list(run.train())
    assert differing(stopped, whole) == []
    config = RunDir(whole).read_config()
    assert config.data_shape == data.shape == DataShape(side, channels, num_classes, WHITE)
    assert config.conditional == (num_classes > 0)

    sampler, _, _ = load_sampler(whole)
    samples = draw(sampler.eval(), config.latent_dim, 3, seed=0)
    assert samples.shape == (3, channels, side, side)
    if num_classes:
        drawn = sampler.labels(sampler.with_class(torch.randn(5, config.latent_dim), num_classes - 1))
        assert drawn.tolist() == 5 * [num_classes - 1]
    render(RunDir(whole))
    grid = Image.open(io.BytesIO(RunDir(whole).grid_path(4).read_bytes()))
    assert grid.mode == ("L" if channels == 1 else "RGB")
    assert Image.open(io.BytesIO(RunDir(whole).film_path.read_bytes())).n_frames == 2


def test_no_file_of_a_run_shows_the_images_of_a_private_set(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", CONFIG, replace(made_up(32, 3, 0), is_private=True)) as run:
        list(run.train())
    made = RunDir(tmp_path / "run")
    assert np.array(Image.open(io.BytesIO(made.reals_path.read_bytes()))).max() == 0
    assert not made.neighbours_path.exists()
    render(made)


def test_a_class_that_a_run_does_not_have_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", CONFIG, made_up(32, 1, 26)) as run:
        list(run.train())
    sampler, config, _ = load_sampler(tmp_path / "run")
    with pytest.raises(ConfigMismatchError, match="--digit: the run's training images have no 26. They have 0, 1, 2"):
        draw(sampler, config.latent_dim, 1, seed=0, digit=26)


def test_new_pixels_have_the_colour_of_the_background(tmp_path: Path) -> None:
    config = resolve(CONFIG, seed=0, device="cpu", num_threads=1, shape=made_up(32, 3, 0).shape)
    assert config.background == "ffffff"


@pytest.mark.parametrize(
    ("recipe", "shape", "says"),
    [
        ("published", DataShape(32), r"recipe published trains on images of side 28, in grey, with at most 10 classes"),
        ("published", DataShape(28, 1, 26), "channel and 26 classes. Choose --recipe dcgan"),
        (
            "tuned",
            DataShape(48),
            "recipe tuned trains on images of side 28, 32, 64, in grey or RGB, with at most 1,",
        ),
        ("tuned", DataShape(28, 1, 1001), "1,001 classes"),
        ("published", DataShape(28, 3), "3 channels and 10 classes"),
        ("dcgan", DataShape(48), "recipe dcgan trains on images of side 28, 32, 64, in grey or RGB"),
    ],
)
def test_images_for_which_a_recipe_has_no_networks(recipe: str, shape: DataShape, says: str) -> None:
    with pytest.raises(DataError, match=says):
        resolve(TrainConfig(recipe=recipe), seed=0, device="cpu", num_threads=1, shape=shape)


def test_tuned_has_no_dropout_where_the_class_is_an_input_of_its_own() -> None:
    asked = TrainConfig(recipe="tuned", dropout=0.3)
    resolve(asked, seed=0, device="cpu", num_threads=1)
    with pytest.raises(DataError, match="recipe tuned has no dropout on these images: leave --dropout out"):
        resolve(asked, seed=0, device="cpu", num_threads=1, shape=DataShape(32))


@pytest.mark.usefixtures("full_networks")
def test_tuned_on_26_classes_equals_the_plain_reading_over_20_steps_in_float64() -> None:
    asked = TrainConfig(num_steps=20, snapshot_steps=10, augment_start=0.5, batch_size=25)
    config = resolve(asked, seed=0, device="cpu", num_threads=1, shape=DataShape(28, 1, 26))
    state, images = TrainState(config, torch.float64), digits(512)[0]
    batches = Batches(images, np.arange(512).astype(np.uint8) % 26, config.batch_size, 0, dtype=torch.float64)
    check_equal(state, config, batches)


def test_classes_are_refused_for_images_without_labels() -> None:
    asked = TrainConfig(recipe="dcgan", conditional=True)
    with pytest.raises(DataError, match="the images have no labels, and --conditional needs them"):
        resolve(asked, seed=0, device="cpu", num_threads=1, shape=DataShape(num_classes=0))


def test_runs_on_mnist_have_the_config_that_they_had() -> None:
    config = resolve(CONFIG, seed=0, device="cpu", num_threads=1).model_dump()
    assert {"side", "channels", "num_classes", "background"}.isdisjoint(config)
