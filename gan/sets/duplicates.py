"""Which images of a set occur more than once, exactly or nearly?

Nearly: the difference hash of 64 bits says for each pair of neighbours in a 9x8 grey miniature whether the right one is
brighter by more than noise. Two images are near where at most 4 bits differ, and where their grey levels in a miniature
of 16x16 differ by at most MAX_GREY on average. Without the second rule, most small images of few shapes would be near.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from gan.compiled import Array, compiled_exact
from gan.sets.set_manifest import Strict

MAX_BITS = 4
SMALL = 16  # pixels
MAX_GREY = 8  # of 255
MARGIN = 4  # of 255: less is noise, as a JPEG file leaves it in even areas
MAX_COMPARED = 100_000  # every pair of them: some seconds
MAX_PAIRS = 100  # that are named
ONES, TWOS, FOURS = (np.uint64(0x0101010101010101 * factor) for factor in (0x55, 0x33, 0x0F))
BYTES, ONE, TWO, FOUR, TOP = (np.uint64(value) for value in (0x0101010101010101, 1, 2, 4, 56))


class Pair(Strict):
    """Two identical images in both splits."""

    train: int = Field(ge=0, description="Index of the first such image among the training images.")
    test: int = Field(ge=0, description="Index among the test images.")
    train_name: str = Field(description="Its name in the source.")
    test_name: str = Field(description="Its name in the source.")


class Duplicates(Strict):
    """How many images repeat others."""

    exact_in_train: int = Field(ge=0, description="Training images that equal an earlier one.")
    exact_in_test: int = Field(ge=0, description="Test images that equal an earlier one.")
    exact_between: int = Field(ge=0, description="Test images that equal a training image.")
    other_label: int = Field(ge=0, description="Images that equal one of another class.")
    pairs: list[Pair] = Field(description="The first of exact_between, at most 100.")
    near_in_train: int = Field(ge=0, description="Different training images with a near one among them.")
    near_in_test: int = Field(ge=0, description="Different test images with a near one among them.")
    near_between: int = Field(ge=0, description="Different test images that are near a training image.")
    num_compared: int = Field(ge=0, description="Different images that were compared for near ones, at most 100,000.")
    num_different: int = Field(ge=0, description="Different images in the set.")


class Look(NamedTuple):
    """How an image looks from afar."""

    bits: int  # the difference hash, 64 bits
    small: bytes  # SMALL x SMALL grey levels


class Images(NamedTuple):
    """What is known of the images of a split, in the order in which they are stored."""

    hashes: list[bytes]  # SHA-256 of the pixels
    bits: NDArray[np.uint64]  # (N,)
    small: NDArray[np.uint8]  # (N, SMALL * SMALL)
    labels: list[int]
    names: list[str]


def look_of(pixels: NDArray[np.uint8]) -> Look:
    """Return the look of an image (side, side) or (3, side, side)."""
    grey = Image.fromarray(pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L")
    steps = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    bits = int.from_bytes(np.packbits(steps[:, 1:] > steps[:, :-1] + MARGIN).tobytes(), "big")
    return Look(bits, grey.resize((SMALL, SMALL), Image.Resampling.BOX).tobytes())


def find_duplicates(train: Images, test: Images) -> Duplicates:
    """Compare every image with every other one."""
    first_train, first_test = _first_of_each(train.hashes), _first_of_each(test.hashes)
    between = [index for index, content in enumerate(test.hashes) if content in first_train]
    near = _near(train, test, first_train, first_test)
    return Duplicates(
        exact_in_train=len(train.hashes) - len(first_train),
        exact_in_test=len(test.hashes) - len(first_test),
        exact_between=len(between),
        other_label=_other_label(train, test),
        pairs=[_pair(train, test, first_train, index) for index in between[:MAX_PAIRS]],
        num_different=len(first_train.keys() | first_test.keys()),
        **near,
    )


def _pair(train: Images, test: Images, first_train: dict[bytes, int], index: int) -> Pair:
    place = first_train[test.hashes[index]]
    return Pair(train=place, test=index, train_name=train.names[place], test_name=test.names[index])


def _first_of_each(hashes: Sequence[bytes]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for index, content in enumerate(hashes):
        first.setdefault(content, index)
    return first


def _other_label(train: Images, test: Images) -> int:
    """Count the images whose pixels occur in another class, too."""
    first: dict[bytes, int] = {}
    several = set()
    for images in (train, test):
        for content, label in zip(images.hashes, images.labels, strict=True):
            if first.setdefault(content, label) != label:
                several.add(content)
    return sum(content in several for images in (train, test) for content in images.hashes)


def _near(train: Images, test: Images, first_train: dict[bytes, int], first_test: dict[bytes, int]) -> dict[str, int]:
    """Count near images. Those that occur in both splits are compared as training images."""
    in_train = sorted(first_train)
    in_test = sorted(first_test.keys() - first_train.keys())
    share = min(1.0, MAX_COMPARED / (len(in_train) + len(in_test)))  # sorted by content, so the first are any
    in_train, in_test = in_train[: int(share * len(in_train))], in_test[: int(share * len(in_test))]
    train_places = [first_train[content] for content in in_train]
    test_places = [first_test[content] for content in in_test]
    bits = np.concatenate([train.bits[train_places], test.bits[test_places]])
    flags = np.zeros((len(bits), 2), np.bool_)
    _mark_near(bits, np.concatenate([train.small[train_places], test.small[test_places]]), len(in_train), flags)
    return {
        "near_in_train": int(flags[: len(in_train), 0].sum()),
        "near_in_test": int(flags[len(in_train) :, 1].sum()),
        "near_between": int(flags[len(in_train) :, 0].sum()),
        "num_compared": len(bits),
    }


@compiled_exact
def _mark_near(hashes: Array, small: Array, num_train: int, flags: Array) -> None:
    """Set flags[i, 0] where image i has a near one among the first `num_train`, flags[i, 1] where among the rest.

    Hashes are (N,), miniatures (N, D). The bits of a number are counted in pairs, in fours, in bytes, then all.
    """
    for i in range(hashes.size):
        for j in range(i + 1, hashes.size):
            bits = hashes[i] ^ hashes[j]
            bits = bits - ((bits >> ONE) & ONES)
            bits = (bits & TWOS) + ((bits >> TWO) & TWOS)
            bits = (((bits + (bits >> FOUR)) & FOURS) * BYTES) >> TOP
            if bits > MAX_BITS:
                continue
            difference = np.int64(0)
            for place in range(small.shape[1]):
                difference += abs(np.int64(small[i, place]) - np.int64(small[j, place]))
            if difference <= MAX_GREY * small.shape[1]:
                flags[i, 0 if j < num_train else 1] = True
                flags[j, 0 if i < num_train else 1] = True
