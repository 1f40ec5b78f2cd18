"""Do pictures show exactly the pixels they were given?"""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from torchvision import transforms
from torchvision.utils import make_grid

from gan.images import FILM_BYTES, film_gif, frame_png, from_uint8, grid_png, to_uint8

EVERY_GREY = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def pixels(png: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png))))


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(seed))


def frames_of(film: bytes) -> Iterator[Image.Image]:
    return ImageSequence.Iterator(Image.open(io.BytesIO(film)))


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


def test_a_frame_of_a_page_has_16_greys_and_is_smaller() -> None:
    grid = grid_png(random_images(25))
    frame = frame_png(grid)
    shown = np.array(Image.open(io.BytesIO(frame)).convert("L")).astype(int)
    assert len(frame) < len(grid)
    assert set(np.unique(shown)) == {17 * level for level in range(16)}
    assert np.abs(shown - pixels(grid).numpy()).max() <= 8  # half of 17


def test_a_film_shows_every_grid_in_order_with_its_step_and_holds_the_last() -> None:
    grids = [(step, grid_png(random_images(25, seed=step))) for step in (1000, 2000, 3000)]
    film = film_gif(grids)
    assert film_gif(grids) == film
    shown = list(frames_of(film))
    assert [frame.size for frame in shown] == 3 * [(152, 168)]
    assert [frame.info["duration"] for frame in frames_of(film)] == [500, 500, 3000]
    assert Image.open(io.BytesIO(film)).info["loop"] == 0  # for ever


def test_a_frame_differs_from_its_grid_by_half_a_shade_and_has_a_strip_with_the_step() -> None:
    grids = [(step, grid_png(random_images(25, seed=step))) for step in (1000, 2000)]
    for (_, grid), frame in zip(grids, frames_of(film_gif(grids)), strict=True):
        shown = torch.from_numpy(np.array(frame.convert("L")).astype(int))
        assert int((shown[:152] - pixels(grid)).abs().max()) <= 8
        assert set(shown[152:].unique().tolist()) == {0, 255}


def test_frames_that_differ_in_their_step_alone_are_kept() -> None:
    grid = grid_png(random_images(25))
    first, second = (np.array(frame.convert("L")) for frame in frames_of(film_gif([(1000, grid), (2000, grid)])))
    assert (first[:152] == second[:152]).all()
    assert (first[152:] != second[152:]).any()


def test_a_film_of_one_grid_is_one_frame() -> None:
    assert Image.open(io.BytesIO(film_gif([(1000, grid_png(random_images(25)))]))).n_frames == 1


def test_a_full_film_of_mere_noise_still_fits() -> None:
    film = film_gif([(1000 * number, grid_png(random_images(25, seed=number))) for number in range(1, 94)])
    assert len(film) < FILM_BYTES
    assert Image.open(io.BytesIO(film)).n_frames == 93
