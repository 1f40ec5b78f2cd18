"""Is a lack of memory named as what it is, in whichever words it comes?"""

import errno
import tempfile
from pathlib import Path

import pytest

from gan.storage.unexpected import unexpected


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 32505856 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_lack_of_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = unexpected(error)
    assert said.startswith("error: there is not enough memory (") and said.endswith("a run resumes.")


def test_other_errors_are_not_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert unexpected(RuntimeError("memory format")).startswith("unexpected: RuntimeError: memory format. ")
