"""What is said of an error that nobody has foreseen? One line, which names the file that has the traceback.

A lack of memory can show itself anywhere, and each library has other words for it. It is named as what it is.
"""

import errno
import os
import re
import tempfile
import traceback

from gan.storage.masking import masked

MORE_MEMORY = "Give the process more, or end others, and run the same command again: a run resumes."
NO_MEMORY = re.compile(  # the words of torch, CUDA, C++, oneDNN and safetensors
    "can(no|')t allocate memory|out of memory|bad_alloc|could not create a primitive|PyObject pointer is null",
    re.IGNORECASE,
)


def unexpected(error: BaseException) -> str:
    """Return the line for an error, without secrets. Where no file can have its traceback, the traceback is before it.

    Each call writes another file.
    """
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    # The lines before a SyntaxError's own are indented.
    what = masked(next((line for line in lines if line[:1].strip()), type(error).__name__)).rstrip(".")
    trace = masked_traceback(error)
    said, advice = f"unexpected: {what}", " If it happens again, report that file."
    if is_lack_of_memory(error):
        said, advice = f"error: there is not enough memory ({what})", f" {MORE_MEMORY}"
    try:
        handle, path = tempfile.mkstemp(prefix="gan-error-", suffix=".txt")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            file.write(trace)
    except OSError as full:
        return f"{trace}{said}. The traceback is above: no file can hold it ({full})."
    return f"{said}. The traceback is in {path}.{advice}"


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is used up, here or on the GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def masked_traceback(error: BaseException) -> str:
    """Return the traceback of an error without secrets."""
    return masked("".join(traceback.format_exception(error)))
