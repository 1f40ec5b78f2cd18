"""What happens to output that cannot be written, because its reader or its terminal has gone?"""

import errno
import io
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GONE = (errno.EPIPE, errno.EIO)  # of a pipe whose reader has ended, of a terminal that is closed


class StandardFile(io.FileIO):
    """Write to a standard stream, and drop what cannot be written: no command ends in the middle for want of a reader.

    What the layers above buffer reaches this file, too, also when Python ends.
    """

    failure: OSError | None = None  # the last one

    def write(self, data: "ReadableBuffer", /) -> int:
        """Return the number of bytes written, or dropped."""
        try:
            while (count := super().write(data)) is None:  # a pipe that does not block, and is full
                select.select([], [self], [])
        except OSError as error:
            self.failure = error
            return memoryview(data).nbytes
        return count


def drop_unwritable_output() -> None:
    """Make sys.stdout and sys.stderr drop what cannot be written. A stream that was replaced before stays as it is."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, dropping(stream))


def dropping(stream: io.TextIOWrapper) -> TextIO:
    """Return a stream with the same file and the same settings that drops what cannot be written."""
    with suppress(OSError):
        stream.flush()
    file = StandardFile(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        cast(io.BufferedWriter, file) if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,  # a path can have any byte
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def failure_of(stream: TextIO) -> OSError | None:
    """Return why output to a stream was dropped, or None where all of it was written."""
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    return getattr(getattr(buffer, "raw", buffer), "failure", None)
