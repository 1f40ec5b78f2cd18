"""Do images and grids have exactly the given pixels?"""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.utils import make_grid

from gan.images import from_uint8, grid_cells, grid_png, to_uint8

EVERY_GREY = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def pixels(png: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png))))


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(seed))


@pytest.mark.parametrize(
    ("value", "grey"), [(-1, 0), (0, 128), (1, 255), (-1.5, 0), (1.5, 255), (-0.9999, 0), (1 - 1.01 / 255, 254)]
)
def test_to_uint8_rounds_to_the_nearest_grey_and_clamps(value: float, grey: int) -> None:
    assert to_uint8(torch.tensor([value], dtype=torch.float32)).tolist() == [grey]


def test_every_grey_comes_back_as_it_was() -> None:
    assert torch.equal(to_uint8(from_uint8(EVERY_GREY)), EVERY_GREY)


def test_from_uint8_is_torchvisions_to_tensor_and_normalize_to_the_bit() -> None:
    source = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    assert torch.equal(from_uint8(EVERY_GREY)[0], source(EVERY_GREY[0, 0].numpy()))


@pytest.mark.parametrize(
    ("count", "per_row", "size"), [(25, 5, (152, 152)), (3, 5, (92, 32)), (7, 5, (152, 62)), (6, 2, (62, 92))]
)
def test_a_grid_is_torchvisions_grid(count: int, per_row: int, size: tuple[int, int]) -> None:
    images = random_images(count)
    png = grid_png(images, per_row)
    assert Image.open(io.BytesIO(png)).size == size
    assert torch.equal(pixels(png), make_grid(images, per_row, padding=2)[0])


def test_a_grid_of_floats_is_the_grid_of_their_greys() -> None:
    images = random_images(25)
    assert grid_png(from_uint8(images)) == grid_png(images)


def test_a_grid_is_an_8_bit_grey_png() -> None:
    image = Image.open(io.BytesIO(grid_png(random_images(25))))
    assert (image.format, image.mode) == ("PNG", "L")


def test_a_grid_of_coloured_images_is_torchvisions_grid_and_can_be_cut_again() -> None:
    images = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
    png = grid_png(images)
    assert Image.open(io.BytesIO(png)).mode == "RGB"
    assert torch.equal(pixels(png).permute(2, 0, 1), make_grid(images, 5, padding=2))
    assert torch.equal(grid_cells(png, side=32)[:7], images)
