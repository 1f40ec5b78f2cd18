"""How does a test damage a file of a run, and see whether a manifest vouches for it?"""

import random
from pathlib import Path

from gan.errors import GanError
from gan.report.page import render
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.training import train


def finished_run(path: Path) -> Path:
    """Train a run to its end, and make its report; it has no manifest yet."""
    train(path)
    render(RunDir(path))
    return path


def flip_bit(path: Path, rng: random.Random) -> None:
    """Flip a random bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """Cut a file at a random byte."""
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def names_of(run: Path) -> list[str]:
    """List the files of a run directory."""
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def sealed_damage(run: Path, whole: Path) -> list[str] | None:
    """Seal a run; return the files whose content is not that of the whole run, or None where sealing is refused."""
    try:
        seal(run, "run")
    except GanError:
        return None
    assert not verify(StoredRun.at(run)).problems
    names = (name for name in names_of(whole) if not name.startswith(layout.JOURNAL))
    return [name for name in names if (run / name).read_bytes() != (whole / name).read_bytes()]
