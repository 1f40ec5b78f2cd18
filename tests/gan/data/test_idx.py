"""Are exactly the idx files accepted, and everything else refused with a reason?"""

import gzip
import struct
import tracemalloc
import zlib
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gan.data import idx
from gan.errors import IdxFormatError
from tests.support.tiny_mnist import raw

IMAGE = (28, 28)
IMAGES = raw("train-images-idx3-ubyte")
LABELS = raw("train-labels-idx1-ubyte")
HEADER = 16
gzipped = partial(gzip.compress, mtime=0)  # the time would be in the names of tests, and differ from process to process

# One dimension or three, as labels and images have; small, so that thousands of cases take a second.
items = st.sampled_from([(), (2, 3), IMAGE]).flatmap(
    lambda shape: arrays(np.uint8, st.integers(1, 5).map(lambda count: (count, *shape)))
)
quick = settings(deadline=None, max_examples=100)


def read(data: bytes, item_shape: tuple[int, ...] = IMAGE, max_items: int = 5) -> np.ndarray:
    return idx.decode(idx.unpack(data, "f", item_shape, max_items), "f", item_shape, max_items)


def header(*dims: int, magic: bytes = b"\0\0\x08\x03") -> bytes:
    return magic + struct.pack(f">{len(dims)}I", *dims)


def test_real_digits() -> None:
    images, labels = read(gzipped(IMAGES)), read(LABELS, ())
    assert images.shape == (4, 28, 28) and images.dtype == np.uint8 and images.flags.writeable
    assert (images[0, 5, 12], images[0].sum()) == (3, 27525)
    assert labels.tolist() == [5, 0, 4, 1]


@given(items)
@quick
def test_an_encoded_array_is_decoded_unchanged(array: np.ndarray) -> None:
    data = idx.encode(array)
    for form in (data, gzipped(data), gzipped(data, 0)):
        np.testing.assert_array_equal(read(form, array.shape[1:]), array)


@given(items, st.data())
@quick
def test_no_truncation_passes(array: np.ndarray, data: st.DataObject) -> None:
    for whole in (idx.encode(array), gzipped(idx.encode(array), 0)):
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(IdxFormatError, match="^f"):
            read(whole[:cut], array.shape[1:])


@given(items, st.binary(min_size=1, max_size=40))
@quick
def test_nothing_may_follow(array: np.ndarray, tail: bytes) -> None:
    data = idx.encode(array)
    for form in (data + tail, gzipped(data + tail), gzipped(data) + tail):
        with pytest.raises(IdxFormatError, match="^f"):
            read(form, array.shape[1:])


@given(items, st.data())
@quick
def test_no_changed_header_byte_passes(array: np.ndarray, data: st.DataObject) -> None:
    damaged = bytearray(idx.encode(array))
    place = data.draw(st.integers(0, 4 * array.ndim + 3))
    damaged[place] ^= data.draw(st.integers(1, 255))
    for form in (bytes(damaged), gzipped(bytes(damaged))):
        with pytest.raises(IdxFormatError, match="^f"):
            read(form, array.shape[1:])


@given(items, st.data())
@quick
def test_a_flipped_bit_of_a_gzip_changes_no_image(array: np.ndarray, data: st.DataObject) -> None:
    damaged = bytearray(gzipped(idx.encode(array)))
    place = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[place // 8] ^= 1 << place % 8
    try:
        # gzip's head has bytes without meaning (time, system): there the content is what it was.
        np.testing.assert_array_equal(read(bytes(damaged), array.shape[1:]), array)
    except IdxFormatError as error:
        assert str(error).startswith("f")


@given(st.binary(max_size=200))
@quick
def test_noise_is_refused(data: bytes) -> None:
    for form in (data, idx.GZIP_MAGIC + data, gzipped(data)):
        with pytest.raises(IdxFormatError, match="^f"):
            read(form)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"f: begins with b'' \(an empty file\), expected b'\\x00\\x00\\x08\\x03' \(idx, uint8, 3 dimensions\)"),
        (b"<!DOCTYPE html>", r"f: begins with b'<!DO' \(an HTML or XML page"),
        (b"\n <html>", "an HTML or XML page"),
        (gzipped(b"<html>"), r"f \(unpacked\): begins with b'<htm' \(an HTML"),
        (LABELS, r"\(idx, uint8, 1 dimensions\)"),
        (header(4, 28, 28, magic=b"\0\0\x0d\x03"), r"\(idx, float32, 3 dimensions\)"),
        (header(4, 28), "f: is truncated: found 12 bytes, expected a header of 16"),
        (header(0, 28, 28), "f: found a header of 0 items, expected 1 to 5"),
        (header(2**32 - 1, 28, 28), "f: found a header of 4,294,967,295 items, expected 1 to 5"),
        (header(6, 28, 28), "f: found a header of 6 items, expected 1 to 5"),
        (header(4, 0, 28), r"f: found items of shape \(0, 28\), expected \(28, 28\)"),
        (header(4, 2**32 - 1, 2**32 - 1), r"found items of shape \(4294967295, 4294967295\)"),
        (IMAGES[:-1], "f: is truncated: found 3,151 bytes, expected 3,152 by its header"),
        (IMAGES + b"\0", "f: has trailing bytes: found 3,153 bytes, expected 3,152 by its header"),
        (gzipped(IMAGES[:-1]), "f: is truncated: found 3,151 bytes, expected 3,152"),
        (gzipped(IMAGES + b"\0"), "f: unpacks to more than the 3,152 bytes expected by its idx header"),
        (gzipped(IMAGES)[:-1], "f: gzip is truncated: found 3,152 unpacked bytes, expected 3,152"),
        (gzipped(IMAGES) + gzipped(b""), "f: found 20 bytes after the gzip member, expected exactly one"),
        (gzipped(IMAGES[:99]) + gzipped(IMAGES[99:]), "after the gzip member, expected exactly one"),
        (gzipped(IMAGES)[:-8] + b"\0" * 8, r"f: damaged gzip \(.*incorrect data check\)"),
        (gzipped(IMAGES)[:-4] + b"\0" * 4, r"f: damaged gzip \(.*incorrect length check\)"),
    ],
)
def test_bad_input_says_what_was_found_and_expected(data: bytes, message: str) -> None:
    with pytest.raises(IdxFormatError, match=message):
        read(data)


def test_a_bomb_takes_no_memory() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(header(5, 28, 28)) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(200))
    bomb += packer.flush()
    tracemalloc.start()
    with pytest.raises(IdxFormatError, match="unpacks to more than the 3,936 bytes"):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(bomb) < 1_000_000
