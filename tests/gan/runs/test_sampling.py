"""Do samples have the requested count, seed and digit, and come from a good checkpoint?"""

from pathlib import Path

import pytest
import torch

from gan.engine.state import TrainState
from gan.errors import CheckpointError, ConfigMismatchError
from gan.recipes.draw import draw
from gan.recipes.generator import CLASS_COUNTS
from gan.recipes.networks import make_networks
from gan.runs import checkpoint
from gan.runs.sampling import load_sampler
from tests.support.configs import run_config


def test_the_same_seed_gives_the_same_first_samples_whatever_the_count() -> None:
    generator, _ = make_networks(run_config(conditional=True))
    many = draw(generator.eval(), 100, 1030, seed=3)
    assert torch.equal(many[:25], draw(generator, 100, 25, seed=3))
    assert not torch.equal(many[:25], draw(generator, 100, 25, seed=4))


@pytest.mark.parametrize("recipe", ["tuned", "dcgan"])
def test_one_digit_is_drawn_from_latents_of_its_class(recipe: str) -> None:
    generator, _ = make_networks(run_config(recipe=recipe, conditional=True))
    asked: list[torch.Tensor] = []
    generator.register_forward_pre_hook(lambda _, inputs: asked.append(generator.labels(*inputs)))
    sevens = draw(generator.eval(), 100, 1030, seed=0, digit=7)
    assert sevens.shape == (1030, 1, 28, 28) and (torch.cat(asked) == 7).all()


def test_a_generator_without_classes_cannot_draw_a_chosen_digit() -> None:
    generator, _ = make_networks(run_config(recipe="published"))
    with pytest.raises(ConfigMismatchError, match="--digit: the run is not class-conditional"):
        draw(generator, 100, 25, seed=0, digit=7)


def test_samples_have_the_classes_of_the_training_images(tmp_path: Path) -> None:
    config, counts = run_config(num_steps=100), torch.tensor([0, 0, 5, 0, 0, 0, 0, 1, 0, 0])
    path = checkpoint.save(tmp_path, TrainState(config, class_counts=counts).tensors(), config.model_dump(mode="json"))
    network, _, _ = load_sampler(path)
    assert network.labels(torch.randn(1000, 100)).unique().tolist() == [2, 7]
    with pytest.raises(ConfigMismatchError, match="training images have no 3. They have 2, 7"):
        draw(network, 100, 25, seed=0, digit=3)


def test_a_path_that_names_nothing_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nope: there is no such run or checkpoint\. Check the path\.$"):
        load_sampler(tmp_path / "nope")


def test_a_checkpoint_without_class_counts_has_those_of_mnist(tmp_path: Path) -> None:
    config = run_config(num_steps=100)
    path = checkpoint.save(tmp_path, TrainState(config).tensors(), config.model_dump(mode="json"))
    assert "class_counts" not in checkpoint.load(path).tensors
    assert load_sampler(path)[0].class_counts.tolist() == [*CLASS_COUNTS]


def test_a_checkpoint_without_the_generator_of_its_config_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config(num_steps=100)
    tensors = TrainState(config).tensors()
    fields = config.model_dump(mode="json")
    checkpoint.save(tmp_path, {**tensors, "step": torch.tensor(10)}, fields)
    checkpoint.save(tmp_path, {**tensors, "step": torch.tensor(20)}, {**fields, "latent_dim": 64})
    newest = checkpoint.save(tmp_path, {**tensors, "step": torch.tensor(30)}, {**fields, "latent_dim": None})
    assert load_sampler(tmp_path)[2] == 10
    assert "step-000020.safetensors: its generator is not the one of its config" in caplog.text
    with pytest.raises(CheckpointError, match=r"step-000030\.safetensors: no run can have its config .latent_dim: "):
        load_sampler(newest)


def test_a_path_where_nothing_is_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="typo: there is no such run or checkpoint. Check the path."):
        load_sampler(tmp_path / "typo")
