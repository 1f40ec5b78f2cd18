"""Are functions compiled whatever has become of Numba's cache?"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from gan.compiled import Array, compiled

ROOT = Path(__file__).parents[2]


def double(numbers: Array) -> None:
    numbers *= 2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of Numba's cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    yield tmp_path / "cache"


def num_hits() -> int:
    """Double a number as a new process would do; return how many compiled functions come from the cache."""
    function: Any = compiled(double)
    numbers = np.array([3.0])
    function(numbers)
    assert numbers.tolist() == [6.0]
    return sum(function.stats.cache_hits.values())


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 8
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_cache_is_replaced(folder: Path, damage: Callable[[Path, float], None], kind: str) -> None:
    assert (num_hits(), num_hits()) == (0, 1)
    for share in (0, 0.4, 0.99):
        [path] = folder.rglob(f"*.{kind}")
        damage(path, share)
        num_hits()
        assert num_hits() == 1, share


def test_without_room_for_a_cache_functions_are_compiled(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    function: Any = compiled(double)
    folder.rename(folder.with_name("moved"))
    folder.write_bytes(b"")
    function(np.array([3.0]))
    function(np.array([3], dtype=np.int32))
    assert caplog.text.count("cannot keep compiled functions") == 1


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", "\0"])
def test_a_place_that_cannot_hold_a_cache_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", place)
    num_hits()


def test_variables_of_numba_have_no_effect() -> None:
    code = "import numpy as np; from gan.compiled import compiled\n"
    code += "@compiled\ndef f(n): n *= 2\nprint(type(f).__name__)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1", "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "Dispatcher" in done.stdout and "NUMBA_DISABLE_JIT is set" in done.stderr
