"""What is said of an error that nobody has foreseen? One line, which names the file that has the traceback."""

import os
import tempfile
import traceback

from gan.storage.masking import masked


def unexpected(error: BaseException) -> str:
    """Return the line for an error, without secrets. Where no file can have its traceback, the traceback is before it.

    Each call writes another file.
    """
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    # The lines before a SyntaxError's own are indented.
    what = masked(next((line for line in lines if line[:1].strip()), type(error).__name__)).rstrip(".")
    trace = masked_traceback(error)
    try:
        handle, path = tempfile.mkstemp(prefix="gan-error-", suffix=".txt")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            file.write(trace)
    except OSError as full:
        return f"{trace}unexpected: {what}. The traceback is above: no file can hold it ({full})."
    return f"unexpected: {what}. The traceback is in {path}. If it happens again, report that file."


def masked_traceback(error: BaseException) -> str:
    """Return the traceback of an error without secrets."""
    return masked("".join(traceback.format_exception(error)))
