"""Do samples have the requested count, seed and digit?"""

import pytest
import torch

from gan.errors import ConfigMismatchError
from gan.recipes.draw import draw
from gan.recipes.networks import make_networks
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
