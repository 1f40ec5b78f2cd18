"""Has a run one holder, whatever the clocks of the machines say, and although all have one boot id?"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_form import IS_LONG
from tests.support.s3_server import S3Server, new_address

pytestmark = [pytest.mark.faults, pytest.mark.compiler]
SOURCE = Path(__file__).parents[1] / "support" / "other_clock.c"
NEAR = {  # what a store accepts: 10 minutes are more than a lease lasts
    "ahead": {"CLOCK_SHIFT": "600"},
    "behind": {"CLOCK_SHIFT": "-600"},
    "back": {"CLOCK_SHIFT": "600", "CLOCK_BACK_AFTER": "4", "CLOCK_BACK": "1200"},
}
FAR = {"ahead": {"CLOCK_SHIFT": "3600"}, "behind": {"CLOCK_SHIFT": "-3600"}}
ALL = [(wrong, clock) for wrong in ("holder", "contender") for clock in NEAR]
WRONG = ALL if IS_LONG else [("holder", "back"), ("contender", "ahead"), ("contender", "behind")]
JUMPS_FAR = {"CLOCK_BACK_AFTER": "6", "CLOCK_BACK": "3600"}
ADVICE = "Set this machine's clock, for example by NTP."
EXPIRY_SECONDS = 4
# Takes the lease of a run, says so, and holds it until a line comes. argv[2] takes a protection away.
HOLDER = f"""
import sys, time
from gan.errors import GanError
from gan.storage import s3
from gan.storage.address import open_store
from gan.sync.holder import Holder
from gan.sync.lease import Timing, hold
from gan.sync.stored_run import StoredRun

if sys.argv[2] == "own clock":
    s3.age_seconds = lambda answer: max(0, time.time() - answer["LastModified"].timestamp())
if sys.argv[2] == "boot id":
    Holder.is_alive = property(lambda holder: False)
try:
    with hold(StoredRun(open_store(sys.argv[1]), "a"), Timing(0.5, {EXPIRY_SECONDS})) as lease:
        print(f"held at {{time.time():.0f}}", flush=True)
        sys.stdin.readline()
        lease.confirm()
        print("still held", flush=True)
except GanError as error:
    print(f"{{type(error).__name__}}: {{error}}", flush=True)
"""


class Process:
    """A process that takes the lease of a run."""

    def __init__(self, address: str, tmp: Path, without: str = "", **environment: str) -> None:
        tmp.mkdir(exist_ok=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", HOLDER, address, without]
        self._process = subprocess.Popen(command, env={**os.environ, **environment, "TMPDIR": str(tmp)}, **pipes)

    def line(self) -> str:
        """Return what the process says next."""
        assert self._process.stdout
        return self._process.stdout.readline()

    def end(self) -> str:
        """Let the process go on, and return all that it says."""
        said, _ = self._process.communicate("go on\n", timeout=60)
        return said


@pytest.fixture
def address(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    seaweedfs.use(monkeypatch)
    return new_address()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    library = tmp_path_factory.mktemp("clock") / "other_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    yield library


def seconds_off(said: str) -> float:
    return float(said.split()[-1]) - time.time()


@pytest.mark.parametrize(("wrong", "clock"), WRONG)
def test_a_wrong_clock_makes_no_second_holder(
    tmp_path: Path, address: str, library: Path, wrong: str, clock: str
) -> None:
    environment = {"LD_PRELOAD": str(library), **NEAR[clock]}
    first = Process(address, tmp_path / "a", **environment if wrong == "holder" else {})
    said = first.line()
    assert abs(seconds_off(said)) > 500 or wrong == "contender", said
    time.sleep(EXPIRY_SECONDS + 1)
    second = Process(address, tmp_path / "b", **environment if wrong == "contender" else {})
    assert second.end().startswith("RunInUseError: run a is being trained by process")
    assert first.end() == "still held\n"
    assert Process(address, tmp_path / "b").end().endswith("still held\n")


@pytest.mark.parametrize("clock", FAR)
def test_a_machine_an_hour_off_is_refused_by_the_store(tmp_path: Path, address: str, library: Path, clock: str) -> None:
    said = Process(address, tmp_path / "a", LD_PRELOAD=str(library), **FAR[clock]).end()
    assert said.startswith("StorageError: ") and said.endswith(f"{ADVICE}\n")


def test_a_holder_whose_clock_jumps_an_hour_back_stops_before_the_next_one_begins(
    tmp_path: Path, address: str, library: Path
) -> None:
    first = Process(address, tmp_path / "a", LD_PRELOAD=str(library), **JUMPS_FAR)
    assert first.line().startswith("held")
    time.sleep(6)
    second = Process(address, tmp_path / "b")
    assert second.line().startswith("held")
    assert first.end().endswith(f"{ADVICE}\n")
    assert second.end() == "still held\n"


def test_machines_with_one_boot_id_are_told_apart(tmp_path: Path, address: str) -> None:
    """Neither sees the locks of the other's processes."""
    first = Process(address, tmp_path / "a")
    assert first.line().startswith("held")
    assert "RunInUseError: run a is being trained" in Process(address, tmp_path / "b").end()
    assert first.end() == "still held\n"


@pytest.mark.parametrize("without", ["own clock", "boot id"])
def test_without_the_clock_of_the_store_a_second_holder_is_seen(
    tmp_path: Path, address: str, library: Path, without: str
) -> None:
    first = Process(address, tmp_path / "a")
    assert first.line().startswith("held")
    second = Process(address, tmp_path / "b", without, LD_PRELOAD=str(library), **NEAR["ahead"])
    assert second.line().startswith("held")
    assert first.end().startswith("TakenOverError: run a was taken over")
    second.end()
