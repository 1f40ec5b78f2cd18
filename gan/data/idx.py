"""Which uint8 array does an idx file, gzipped or not, hold?"""

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from gan.errors import IdxFormatError

GZIP_MAGIC = b"\x1f\x8b"
UINT8_CODE = 0x08
DTYPES = {UINT8_CODE: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def encode(array: NDArray[np.uint8]) -> bytes:
    """Return the idx bytes of an array: magic, dimensions (big-endian), content."""
    return struct.pack(f">HBB{array.ndim}I", 0, UINT8_CODE, array.ndim, *array.shape) + array.tobytes()


def decode(raw: bytes, where: str, item_shape: tuple[int, ...], max_items: int) -> NDArray[np.uint8]:
    """Return the writable array (N, *item_shape) that raw idx bytes hold, with N from 1 to `max_items`.

    Raises:
        IdxFormatError: the bytes are not exactly one such file. The message names `where`, the found and the expected
            value.
    """
    size = raw_size(raw, where, item_shape, max_items)
    if len(raw) != size:
        fault = "is truncated" if len(raw) < size else "has trailing bytes"
        raise IdxFormatError(f"{where}: {fault}: found {len(raw):,} bytes, expected {size:,} by its header")
    header = _header(item_shape)
    num_items = header.unpack_from(raw)[3]
    return np.frombuffer(raw, np.uint8, offset=header.size).reshape(num_items, *item_shape).copy()


def unpack(data: bytes, where: str, item_shape: tuple[int, ...], max_items: int) -> bytes:
    """Return the raw idx bytes of data. The first bytes, not a name, say whether the data is gzipped.

    The idx header is read first and limits how much is unpacked, so a gzip bomb takes no memory.

    Raises:
        IdxFormatError: the data is not exactly one gzip member, with a correct CRC and the content that its idx header
            describes.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        head = unpacker.decompress(data, _header(item_shape).size)
        size = raw_size(head, f"{where} (unpacked)", item_shape, max_items)
        # One byte more than expected, to detect a file that is too long.
        raw = head + unpacker.decompress(unpacker.unconsumed_tail, size - len(head) + 1)
    except zlib.error as error:
        raise IdxFormatError(f"{where}: damaged gzip ({error})") from error
    if len(raw) > size:
        raise IdxFormatError(f"{where}: unpacks to more than the {size:,} bytes expected by its idx header")
    if not unpacker.eof:
        raise IdxFormatError(f"{where}: gzip is truncated: found {len(raw):,} unpacked bytes, expected {size:,}")
    if unpacker.unused_data:
        raise IdxFormatError(
            f"{where}: found {len(unpacker.unused_data):,} bytes after the gzip member, expected exactly one member"
        )
    return raw


def check_head(head: bytes, where: str, item_shape: tuple[int, ...], max_items: int) -> None:
    """Check the idx header at the beginning of a file, gzipped or not.

    Raises:
        IdxFormatError: the header does not describe 1 to `max_items` uint8 items of `item_shape`.
    """
    unpacked = " (unpacked)" if head.startswith(GZIP_MAGIC) else ""
    raw_size(_first_bytes(head, where, _header(item_shape).size), f"{where}{unpacked}", item_shape, max_items)


def shape_of_items(data: bytes, where: str, num_dims: int) -> tuple[int, ...]:
    """Return the shape of one item, of `num_dims` dimensions, by the header of a file, gzipped or not.

    Raises:
        IdxFormatError: the data does not begin with the header of a uint8 idx file of such items.
    """
    header = _header((0,) * num_dims)
    head = _first_bytes(data, where, header.size)[: header.size]
    dims = header.unpack(head)[4:] if len(head) == header.size else (1,) * num_dims
    if 0 in dims:
        raise IdxFormatError(f"{where}: found items of shape {dims}, expected at least one pixel")
    raw_size(head, where, dims, 2**32)  # the magic number, and a header that is whole
    return dims


def raw_size(head: bytes, where: str, item_shape: tuple[int, ...], max_items: int) -> int:
    """Return the size in bytes that a raw idx file with this head must have.

    Raises:
        IdxFormatError: the head does not describe 1 to `max_items` uint8 items of `item_shape`.
    """
    header = _header(item_shape)
    magic = bytes([0, 0, UINT8_CODE, 1 + len(item_shape)])
    if head[:4] != magic:
        raise IdxFormatError(
            f"{where}: begins with {head[:4]!r}{_kind(head)}, expected {magic!r} (idx, uint8, {magic[3]} dimensions)"
        )
    if len(head) < header.size:
        raise IdxFormatError(f"{where}: is truncated: found {len(head)} bytes, expected a header of {header.size}")
    num_items, *dims = header.unpack_from(head)[3:]
    if tuple(dims) != item_shape:
        raise IdxFormatError(f"{where}: found items of shape {tuple(dims)}, expected {item_shape}")
    if not 1 <= num_items <= max_items:
        raise IdxFormatError(f"{where}: found a header of {num_items:,} items, expected 1 to {max_items:,}")
    return header.size + int(num_items) * math.prod(item_shape)


def _first_bytes(data: bytes, where: str, num_bytes: int) -> bytes:
    """Return the first bytes of a gzipped file, unpacked; any other file as it is. Raises IdxFormatError."""
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, num_bytes)
    except zlib.error as error:
        raise IdxFormatError(f"{where} (unpacked): damaged gzip ({error})") from error


def _header(item_shape: tuple[int, ...]) -> struct.Struct:
    """Return the layout of an idx header: two zero bytes, dtype code, number of dimensions, dimensions."""
    return struct.Struct(f">HBB{1 + len(item_shape)}I")


def _kind(head: bytes) -> str:
    """Return what bytes that are not the expected idx file look like, if that is known."""
    if not head:
        return " (an empty file)"
    if head.lstrip()[:1] == b"<":
        return " (an HTML or XML page, such as an error or sign-in page)"
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in DTYPES:
        return f" (idx, {DTYPES[head[2]]}, {head[3]} dimensions)"
    return ""
