"""Is a flipped bit or a cut file of a run found, made again or harmless, and never sealed?

FAULTS=long flips 1,000 bits uniform over the bytes and 50 in each small file, and cuts 200 files.
"""

import random
import shutil
from pathlib import Path

import pytest

from gan.errors import GanError
from gan.report.page import render
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.damage import cut, finished_run, flip_bit, names_of, sealed_damage
from tests.support.fault_form import IS_LONG
from tests.support.killing import differing
from tests.support.training import train

pytestmark = pytest.mark.faults
NUM_FLIPS, NUM_EACH, NUM_CUTS, NUM_RESUMES = (1000, 50, 200, 200) if IS_LONG else (60, 2, 20, 20)
SMALL_BYTES = 20_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "finished")


def places(run: Path, rng: random.Random) -> list[str]:
    """Return the names of files to flip a bit in: uniform over all bytes, then each small file."""
    sizes = {name: (run / name).stat().st_size for name in names_of(run)}
    return [
        *rng.choices(list(sizes), list(sizes.values()), k=NUM_FLIPS),
        *(name for name, size in sizes.items() if size < SMALL_BYTES for _ in range(NUM_EACH)),
    ]


def test_no_flipped_bit_of_a_finished_run_is_sealed(tmp_path: Path, finished: Path) -> None:
    rng = random.Random(6)
    num_refused = 0
    for name in places(finished, rng):
        run = shutil.copytree(finished, tmp_path / "run")
        flip_bit(run / name, rng)
        damage = sealed_damage(run, finished)
        assert damage != [name], name
        assert damage in (None, []), damage
        num_refused += damage is None
        shutil.rmtree(run)
    assert num_refused > NUM_FLIPS


def test_no_cut_file_of_a_finished_run_is_sealed(tmp_path: Path, finished: Path) -> None:
    rng = random.Random(7)
    for name in rng.choices(names_of(finished), k=NUM_CUTS):
        run = shutil.copytree(finished, tmp_path / "run")
        cut(run / name, rng)
        assert sealed_damage(run, finished) in (None, []), name
        shutil.rmtree(run)


def test_a_flipped_bit_of_an_unfinished_run_is_made_again_or_named(tmp_path: Path, finished: Path) -> None:
    rng = random.Random(8)
    train(tmp_path / "unfinished", stop_at=35)
    names = names_of(tmp_path / "unfinished")
    num_ended = 0
    for name in rng.choices(names, k=NUM_RESUMES):
        run = shutil.copytree(tmp_path / "unfinished", tmp_path / "run")
        flip_bit(run / name, rng)
        try:
            train(run, resume=True)
            assert differing(run, finished) == [], name
            render(RunDir(run))
            seal(run, "run")
            assert not verify(StoredRun.at(run)).problems
            num_ended += 1
        except GanError as error:
            # Without the losses of the first steps no checkpoint can be resumed from; a warning names the piece.
            said = "none of the 4 checkpoints verifies" if name.startswith(layout.JOURNAL) else "damaged since"
            assert said in str(error), name
        shutil.rmtree(run)
    assert num_ended > NUM_RESUMES / 2


def test_without_the_journal_damage_is_sealed(tmp_path: Path, finished: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / layout.JOURNAL)
    flip_bit(run / "grids/step-000010.png", random.Random(9))
    assert sealed_damage(run, finished) == ["grids/step-000010.png"]
