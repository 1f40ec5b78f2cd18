"""Are images translated by whole pixels, at random, and gradients taken back?"""

import torch

from gan.recipes.augment import Translation

IMAGES = torch.arange(784.0).repeat(25, 1)
EACH = torch.arange(25)


def translation() -> Translation:
    return Translation(2, IMAGES.device)


def test_an_image_is_translated_by_two_rows_and_a_column_and_new_pixels_are_black() -> None:
    image = translation().apply(IMAGES, EACH)[1].view(28, 28)  # from 2 rows above and 1 column to the left
    assert torch.equal(image[2:, 1:], IMAGES[0].view(28, 28)[:-2, :-1])
    assert (image[:2] == -1).all() and (image[:, 0] == -1).all()


def test_the_middle_one_of_all_translations_changes_nothing() -> None:
    assert torch.equal(translation().apply(IMAGES, EACH)[12], IMAGES[12])


def test_a_gradient_is_taken_back_as_by_autograd() -> None:
    images, grads = IMAGES.clone().requires_grad_(), torch.randn(25, 784)
    padded = torch.nn.functional.pad(images.view(25, 28, 28), (2, 2, 2, 2), value=-1)
    translated = torch.stack(
        [padded[n, y : y + 28, x : x + 28] for n, (y, x) in enumerate(zip(EACH // 5, EACH % 5, strict=True))]
    )
    assert torch.equal(translated.flatten(1), translation().apply(IMAGES, EACH))
    (expected,) = torch.autograd.grad(translated.flatten(1), images, grads)
    assert torch.equal(translation().backward(grads, EACH), expected)


def test_every_translation_is_as_likely() -> None:
    drawn = translation().draw(25_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, translation().draw(25_000, torch.Generator().manual_seed(0)))
    assert ((drawn.bincount(minlength=25) - 1000).abs() < 150).all()


def test_colours_are_translated_alike_and_new_pixels_have_the_colour_of_the_background() -> None:
    images = torch.arange(3 * 16.0).repeat(9, 1)
    background = (-1.0, 0.0, 1.0)
    moved = Translation(1, images.device, side=4, background=background).apply(images, torch.arange(9))
    image = moved[0].view(3, 4, 4)  # from 1 row above and 1 column to the left
    assert torch.equal(image[:, 1:, 1:], images[0].view(3, 4, 4)[:, :-1, :-1])
    assert [image[channel, 0].unique().item() for channel in range(3)] == list(background)
