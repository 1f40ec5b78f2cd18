"""Which chunks of a PNG file hold no more than text?

Text may be packed a thousandfold, and Pillow refuses the whole picture then. No text is kept in any case.
"""

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
FRAME = 12  # bytes of a chunk beside its content: length, type, checksum


def without_texts(data: bytes) -> bytes:
    """Return a PNG file without its text chunks. Other data, and what is behind a damaged chunk, stay as they are."""
    if not data.startswith(SIGNATURE):
        return data
    kept, start, place = bytearray(), 0, len(SIGNATURE)
    while place + FRAME <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + FRAME + length
        if kind in TEXTS and end <= len(data):
            kept += data[start:place]
            start = end
        place = end
    return bytes(kept) + data[start:]
