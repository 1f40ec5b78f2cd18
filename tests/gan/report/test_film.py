"""Does the film show exactly the grids it was given?"""

import io
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from gan.images import grid_png
from gan.report.film import FILM_BYTES, Frame, film_gif, frame_png


def pixels(png: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png))))


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(seed))


def frames_of(film: bytes) -> Iterator[Image.Image]:
    return ImageSequence.Iterator(Image.open(io.BytesIO(film)))


def test_a_frame_of_a_page_has_16_greys_and_is_smaller() -> None:
    grid = grid_png(random_images(25))
    frame = frame_png(grid)
    shown = np.array(Image.open(io.BytesIO(frame)).convert("L")).astype(int)
    assert len(frame) < len(grid)
    assert set(np.unique(shown)) == {17 * level for level in range(16)}
    assert np.abs(shown - pixels(grid).numpy()).max() <= 8  # half of 17


def test_a_film_shows_every_grid_in_order_with_its_step_and_holds_the_last() -> None:
    grids = [Frame(step, grid_png(random_images(25, seed=step))) for step in (1000, 2000, 3000)]
    film = film_gif(grids)
    assert film_gif(grids) == film
    shown = list(frames_of(film))
    assert [frame.size for frame in shown] == 3 * [(152, 168)]
    assert [frame.info["duration"] for frame in frames_of(film)] == [500, 500, 3000]
    assert Image.open(io.BytesIO(film)).info["loop"] == 0  # for ever


def test_a_frame_differs_from_its_grid_by_half_a_shade_and_has_a_strip_with_the_step() -> None:
    grids = [Frame(step, grid_png(random_images(25, seed=step))) for step in (1000, 2000)]
    for (_, grid), frame in zip(grids, frames_of(film_gif(grids)), strict=True):
        shown = torch.from_numpy(np.array(frame.convert("L")).astype(int))
        assert int((shown[:152] - pixels(grid)).abs().max()) <= 8
        assert set(shown[152:].unique().tolist()) == {0, 255}


def test_frames_that_differ_only_in_their_step_are_kept() -> None:
    grid = grid_png(random_images(25))
    film = film_gif([Frame(1000, grid), Frame(2000, grid)])
    first, second = (np.array(frame.convert("L")) for frame in frames_of(film))
    assert (first[:152] == second[:152]).all()
    assert (first[152:] != second[152:]).any()


def test_a_film_of_one_grid_is_one_frame() -> None:
    assert Image.open(io.BytesIO(film_gif([Frame(1000, grid_png(random_images(25)))]))).n_frames == 1


def test_a_full_film_of_noise_still_fits() -> None:
    film = film_gif([Frame(1000 * number, grid_png(random_images(25, seed=number))) for number in range(1, 94)])
    assert len(film) < FILM_BYTES
    assert Image.open(io.BytesIO(film)).n_frames == 93


def coloured_grid(step: int, side: int = 32) -> bytes:
    """Return a grid of plain colours, which change with the step."""
    colours = torch.arange(25 * 3).reshape(25, 3, 1, 1) * 3 + step
    return grid_png((colours % 256).to(torch.uint8).expand(25, 3, side, side))


def test_a_film_of_coloured_grids_is_coloured() -> None:
    film = film_gif([Frame(step, coloured_grid(step)) for step in (10, 20, 30)])
    first = next(frames_of(film)).convert("RGB")
    expected = Image.open(io.BytesIO(coloured_grid(10)))
    assert first.size == (172, 188)
    assert np.abs(np.array(first)[:172].astype(int) - np.array(expected).astype(int)).max() <= 8


def test_a_large_grid_is_halved_in_a_film_and_in_the_frames_of_a_page() -> None:
    grid = coloured_grid(10, side=64)
    assert next(frames_of(film_gif([Frame(10, grid)]))).size == (166, 182)
    assert Image.open(io.BytesIO(frame_png(grid))).size == (166, 166)


def test_a_film_that_is_too_large_in_the_fewest_colours_has_every_second_frame() -> None:
    noise = torch.randint(0, 256, (25, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
    film = film_gif([Frame(step, grid_png(noise.roll(step, 0))) for step in range(1, 200)])
    assert len(film) <= FILM_BYTES
    assert 1 < Image.open(io.BytesIO(film)).n_frames < 199
