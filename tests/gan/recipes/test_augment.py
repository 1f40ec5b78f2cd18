"""Are images shifted by whole pixels, at random, and gradients brought back?"""

import torch

from gan.recipes.augment import Shifts

IMAGES = torch.arange(784.0).repeat(25, 1)
EACH = torch.arange(25)


def shifts() -> Shifts:
    return Shifts(2, IMAGES.device)


def test_an_image_goes_by_two_rows_and_a_column_and_black_comes_in() -> None:
    image = shifts().there(IMAGES, EACH)[1].view(28, 28)  # from 2 rows above and 1 column to the left
    assert torch.equal(image[2:, 1:], IMAGES[0].view(28, 28)[:-2, :-1])
    assert (image[:2] == -1).all() and (image[:, 0] == -1).all()


def test_the_middle_one_of_all_shifts_is_none() -> None:
    assert torch.equal(shifts().there(IMAGES, EACH)[12], IMAGES[12])


def test_a_gradient_goes_back_as_autograds() -> None:
    images, deltas = IMAGES.clone().requires_grad_(), torch.randn(25, 784)
    padded = torch.nn.functional.pad(images.view(25, 28, 28), (2, 2, 2, 2), value=-1)
    shifted = torch.stack(
        [padded[n, y : y + 28, x : x + 28] for n, (y, x) in enumerate(zip(EACH // 5, EACH % 5, strict=True))]
    )
    assert torch.equal(shifted.flatten(1), shifts().there(IMAGES, EACH))
    (expected,) = torch.autograd.grad(shifted.flatten(1), images, deltas)
    assert torch.equal(shifts().back(deltas, EACH), expected)


def test_every_shift_is_as_likely() -> None:
    drawn = shifts().draw(25_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, shifts().draw(25_000, torch.Generator().manual_seed(0)))
    assert ((drawn.bincount(minlength=25) - 1000).abs() < 150).all()
