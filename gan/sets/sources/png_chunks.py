"""Which chunks of a PNG file are no part of the picture, and cost the picture if Pillow sees them?

A text or a colour profile may be packed a thousandfold. Pillow then refuses the whole file. No text is kept in any
case, and a profile of that size is none.
"""

import struct
import zlib

from PIL import PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PROFILE = b"iCCP"
FRAME = 12  # bytes of a chunk beside its content: length, kind, checksum


def without_ballast(data: bytes) -> bytes:
    """Return a PNG file without texts and huge profiles. Other data, and a damaged rest, stay as they are."""
    if not data.startswith(SIGNATURE):
        return data
    kept, start, place = bytearray(), 0, len(SIGNATURE)
    while place + FRAME <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + FRAME + length
        if end <= len(data) and (kind in TEXTS or (kind == PROFILE and _is_huge(data[place + 8 : end - 4]))):
            kept += data[start:place]
            start = end
        place = end
    return bytes(kept) + data[start:]


def _is_huge(profile: bytes) -> bool:
    """Return whether Pillow refuses to unpack a profile: its name, a zero, the method, and the packed bytes."""
    packed = profile[profile.find(b"\0") + 2 :]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return bool(unpacker.unconsumed_tail)
