"""Do the networks have the documented layers, and does dropout drop the right share?"""

import pytest
import torch

from gan.recipes.generator import CLASS_COUNTS
from gan.recipes.mlp_networks import dropout_masks
from gan.recipes.networks import make_networks
from tests.support.configs import run_config


@pytest.mark.parametrize(("recipe", "bn_eps", "slope"), [("published", 0.8, 0.0), ("tuned", 1e-5, 0.2)])
def test_layer_sizes_are_the_documented_ones(recipe: str, bn_eps: float, slope: float) -> None:
    generator, discriminator = make_networks(run_config(recipe=recipe))
    linears = [layer for layer in generator.layers if isinstance(layer, torch.nn.Linear)]
    norms = [layer for layer in generator.layers if isinstance(layer, torch.nn.BatchNorm1d)]
    assert [layer.out_features for layer in linears] == [128, 256, 512, 1024, 784]
    assert [(norm.num_features, norm.eps) for norm in norms] == [(256, bn_eps), (512, bn_eps), (1024, bn_eps)]
    assert [layer.out_features for layer in discriminator.layers] == [512, 256, 128, 1]
    assert discriminator.slope == slope


def test_a_class_conditional_network_has_the_same_layer_sizes() -> None:
    with_class, without_class = (make_networks(run_config(conditional=conditional)) for conditional in (True, False))
    for network, other in zip(with_class, without_class, strict=True):
        assert [p.shape for p in network.parameters()] == [p.shape for p in other.parameters()]


def test_tuned_reads_the_class_in_place_of_ten_latents_and_in_the_first_row() -> None:
    generator, discriminator = make_networks(run_config(conditional=True))
    z = torch.randn(2, 100)
    z[:, 0] = torch.tensor([-2.0, 2.0])
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 9]), 10)
    assert torch.equal(generator.eval()(z).flatten(1), generator.layers(torch.cat([z[:, :90], one_hot * 3], 1)))
    images = torch.full((2, 1, 28, 28), -1.0)
    written = images.clone()
    written[0, 0, 0, 0] = written[1, 0, 0, 9] = 9
    assert torch.equal(discriminator.mark_class(images.flatten(1).clone(), torch.tensor([0, 9])), written.flatten(1))
    before = images.clone()
    first, second = discriminator(images, torch.tensor([0, 9])), discriminator(images, torch.tensor([9, 0]))
    torch.testing.assert_close(first, second.flip(0))
    assert torch.equal(images, before) and (first - second).abs().min() > 1e-3


def test_dcgan_halves_and_doubles_the_width_of_the_images() -> None:
    generator, discriminator = make_networks(run_config(recipe="dcgan"))
    sizes: list[tuple[int, ...]] = []
    for layer in (*generator.layers, *discriminator.layers):
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape[1:])))
    images = generator(torch.randn(2, 100))
    assert (images.shape, discriminator(images, torch.tensor([3, 8])).shape) == ((2, 1, 28, 28), (2,))
    assert sizes == [(64, 7, 7), (32, 14, 14), (1, 28, 28), (32, 14, 14), (64, 7, 7)]
    assert sum(parameter.numel() for parameter in generator.parameters()) == 901_953


@pytest.mark.parametrize("recipe", ["tuned", "dcgan"])
def test_latents_decide_each_digit_as_often_as_there_are_images_of_it(recipe: str) -> None:
    generator, _ = make_networks(run_config(recipe=recipe))
    labels = generator.labels(torch.randn(100_000, 100, generator=torch.Generator().manual_seed(0)))
    expected = torch.tensor(CLASS_COUNTS) / sum(CLASS_COUNTS)
    torch.testing.assert_close(labels.bincount() / len(labels), expected, rtol=0, atol=0.003)


@pytest.mark.parametrize(
    "counts", [[0, 0, 0, 7, 0, 0, 0, 0, 0, 0], [0, 10, 0, 0, 30, 59, 0, 1, 0, 0], [1, *[0] * 8, 3]]
)
def test_latents_decide_the_digits_of_other_data_as_often(counts: list[int]) -> None:
    generator, _ = make_networks(run_config())
    generator.use_class_counts(torch.tensor(counts))
    z = torch.randn(100_000, 100, generator=torch.Generator().manual_seed(0))
    found = generator.labels(z).bincount(minlength=10) / len(z)
    torch.testing.assert_close(found, torch.tensor(counts) / sum(counts), rtol=0, atol=0.005)
    assert [count == 0 for count in counts] == (found == 0).tolist()
    digits = [digit for digit in range(10) if counts[digit]]
    assert all((generator.labels(generator.with_class(z, digit)) == digit).all() for digit in digits)


@pytest.mark.parametrize("digit", range(10))
def test_latents_can_be_changed_to_one_digit(digit: int) -> None:
    generator, _ = make_networks(run_config(recipe="dcgan"))
    z = torch.randn(10_000, 100, generator=torch.Generator().manual_seed(digit))
    with_digit = generator.with_class(z, digit)
    assert (generator.labels(with_digit) == digit).all() and torch.equal(with_digit[:, 1:], z[:, 1:])
    expected = z[generator.labels(z) == digit]
    assert with_digit[:, 0].mean().item() == pytest.approx(expected[:, 0].mean().item(), abs=0.02)


def test_both_networks_of_dcgan_use_the_digit() -> None:
    generator, discriminator = make_networks(run_config(recipe="dcgan"))
    z = torch.zeros(2, 100)
    z[:, 0] = torch.tensor([-2.0, 2.0])
    assert generator.labels(z).tolist() == [0, 9]
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 9]), 10) * 3
    assert torch.equal(generator.eval()(z), generator.layers(torch.cat([z, one_hot], 1)))
    hidden = discriminator.layers(generator(z))
    assert torch.equal(discriminator(generator(z), torch.tensor([4, 7])), discriminator.head(hidden)[[0, 1], [4, 7]])


def test_masks_keep_their_share_and_scale_it_up() -> None:
    masks = dropout_masks(1000, 0.3, torch.Generator().manual_seed(0), torch.empty(0))
    assert [mask.shape for mask in masks] == [(1000, 512), (1000, 256), (1000, 128)]
    for mask in masks:
        kept, value = (mask > 0).double().mean().item(), mask.max().item()
        assert kept == pytest.approx(0.7, abs=0.005) and value == pytest.approx(1 / 0.7, rel=1e-4)
        assert set(mask.unique().tolist()) == {0.0, value}


def test_masks_do_not_repeat() -> None:
    first, second, _ = dropout_masks(1000, 0.5, torch.Generator().manual_seed(0), torch.empty(0))
    agreement = (first[:, :256] == second).double().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.01)


def test_no_dropout_draws_no_random_number() -> None:
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    assert dropout_masks(64, 0.0, rng, torch.empty(0)) == []
    assert torch.equal(rng.get_state(), before)
