"""Is an .npz file imported, and refused where it is not what it says?"""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from gan.errors import DataError
from gan.sets.loading import load_set
from gan.sets.set_import import Imported, open_source
from gan.sets.sources.base import Form
from tests.support.pictures import COLOUR, GREY, imported, noise


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def run(path: Path, form: Form = GREY) -> Imported:
    return imported(path, path.parent / "sets", form=form)


def header(shape: tuple[int, ...], dtype: str = "|u1", is_fortran: bool = False) -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": is_fortran, "shape": shape})
    return file.getvalue()


def archive(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(f"{name}.npy", data)
    return path


def test_images_and_labels_are_imported(tmp_path: Path) -> None:
    images, labels = noise(30), np.arange(30) % 3 * 5
    found = run(save(tmp_path / "a.npz", images=images, labels=labels))
    assert found.manifest.classes == ["0", "5", "10"]
    data = load_set(tmp_path / "sets", "mine")
    expected = {image.tobytes(): label // 5 for image, label in zip(images, labels, strict=True)}
    for part, numbers in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert [expected[image.tobytes()] for image in part] == numbers.tolist()
    assert (len(data.train_images), len(data.test_images)) == (27, 3)


def test_labels_may_be_missing(tmp_path: Path) -> None:
    assert run(save(tmp_path / "a.npz", images=noise(10))).manifest.classes == []


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_may_have_channels(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 40, 32, channels), np.uint8)
    found = run(save(tmp_path / "a.npz", images=images), COLOUR)
    assert (found.manifest.sizes_before[0].width, found.manifest.sizes_before[0].height) == (32, 40)
    assert found.manifest.converted == ({"transparent": 10} if channels == 4 else {})


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": noise(10).astype(np.float32)}, "`images` is float32 .10, 28, 28., expected uint8"),
        ({"images": noise(10)[0]}, "expected uint8 .N, H, W."),
        ({"images": np.zeros((5, 28, 28, 2), np.uint8)}, "expected uint8 .N, H, W."),
        ({"images": np.zeros((0, 28, 28), np.uint8)}, "expected 1 to 100,000,000 images"),
        ({"images": np.zeros((1, 0, 28), np.uint8)}, "expected 1 to 100,000,000 images"),
        ({"pictures": noise(10)}, "found pictures.npy, expected an array `images`"),
        ({"images": np.array([{}, {}], object)}, "Python objects"),
        ({"images": noise(10), "labels": np.array(["a"] * 10, object)}, "Python objects"),
        (
            {"images": noise(10), "labels": np.zeros(9, np.int64)},
            "`labels` is int64 .9,., expected whole numbers .10,.",
        ),
        ({"images": noise(10), "labels": np.zeros(10)}, "`labels` is float64"),
        ({"images": np.asfortranarray(noise(10))}, "Fortran's order"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_source(save(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header((10**9, 28, 28)) + bytes(784), "`images` has 784 bytes, expected 784,000,000,000"),
        (header((1, 28, 28)) + bytes(785), "`images` has 785 bytes, expected 784"),
        (header((2**40, 2**40, 2**40)), "`images` has 0 bytes, expected 1,3"),
        (header((1, 28, 28))[:-30], "is no good .npz file"),
        (b"no array", "is no good .npz file"),
        (header((-1, 28, 28)), "`images` has 0 bytes, expected -784"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "is no good .npz file"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "version .3, 0."),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_source(archive(tmp_path / "a.npz", images=data))


def test_a_size_that_the_archive_lies_about_costs_no_memory(tmp_path: Path) -> None:
    """The archive says 784 bytes, as the header does, and unpacks to 200 MB."""
    path = archive(tmp_path / "a.npz", images=header((10, 28, 28)) + bytes(200 << 20))
    real, said = (len(header((10, 28, 28))) + size for size in (200 << 20, 7840))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(real.to_bytes(4, "little"), said.to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(DataError, match="is no good .npz file"):
        run(path)
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()
    assert list((tmp_path / "sets").iterdir()) == []


@pytest.mark.parametrize("cut", [100, 1000])
def test_a_damaged_archive_is_refused_and_nothing_is_written(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "a.npz", images=noise(10))
    raw = bytearray(path.read_bytes())
    raw[cut] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataError, match="a.npz"):
        run(path)
    path.write_bytes(raw[:cut])
    with pytest.raises(DataError, match="is no good .npz file"):
        run(path)
    assert not (tmp_path / "sets").exists() or list((tmp_path / "sets").iterdir()) == []
