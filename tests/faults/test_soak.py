"""Does a run that is killed again and again, while its network fails and its store restarts, end with the same bytes?

4 snapshots and 2 kills; with FAULTS=long 133 snapshots and a kill every 10 minutes. Memory and descriptors stay flat,
and what is trained twice is what was trained since the last snapshot.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest

from gan.config import TrainConfig
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import Uploader
from gan.sync.verification import verify
from tests.support.fault_form import IS_LONG, num
from tests.support.killing import differing
from tests.support.life import RUN_ID, Life, Machine
from tests.support.s3_server import S3Server, new_address
from tests.support.tcp_proxy import TcpProxy, proxy_to

pytestmark = pytest.mark.faults
SHORT = TrainConfig(num_steps=100, snapshot_steps=25, num_threads=1)
# A kill loses 350 steps on average: 3 % of what a CPU trains in 10 minutes at 20 steps/s.
CONFIG = TrainConfig(num_steps=92_763, snapshot_steps=700, num_threads=1) if IS_LONG else SHORT
KILL_SECONDS = 600 if IS_LONG else None  # None: after the first snapshot, however quick the machine is
POLL_SECONDS = 30 if IS_LONG else 0.02
CUT_SECONDS = num(1, 60)  # between two cuts; each third time the store is away for CUT_SECONDS
MIN_KEPT = 0.97 if IS_LONG else 0.3  # of the steps computed


@contextmanager
def disturbed(proxy: TcpProxy) -> Iterator[None]:
    """Cut the connections again and again; each third time the store does not answer for a while."""
    done = Event()

    def disturb() -> None:
        number = 0
        while not done.wait(CUT_SECONDS):
            number += 1
            proxy.cut()
            if number % 3 == 0:
                proxy.refuse()
                done.wait(CUT_SECONDS)
                proxy.accept()

    thread = Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def used(life: Life) -> tuple[int, int]:
    """Return the resident memory in MB and the number of open descriptors of a process."""
    process = Path(f"/proc/{life.process.pid}")
    found = re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())
    return int(found[1]) // 1000 if found else 0, len(list((process / "fd").iterdir()))


def watch(life: Life, is_over: Callable[[], bool], poll_seconds: float = 0.02) -> list[tuple[int, int]]:
    """Note what a process uses, until it ends or it is over."""
    samples = []
    while life.process.is_alive() and not is_over():
        try:
            samples.append(used(life))
        except (FileNotFoundError, ProcessLookupError):
            break
        life.process.join(poll_seconds)
    return samples


def time_to_kill(life: Life) -> Callable[[], bool]:
    """Return what says that it is time to kill a process that has just begun."""
    if KILL_SECONDS:
        deadline = time.monotonic() + KILL_SECONDS
        return lambda: time.monotonic() >= deadline
    num_saved = life.log.count("saved ")
    return lambda: life.log.count("saved ") > num_saved


def num_computed(machines: list[Machine]) -> int:
    """Return how many steps all processes have computed on machines, with those after their last snapshots."""
    return sum(each.log.count("\nstep ") for each in machines)


def check_is_flat(samples: list[tuple[int, int]]) -> None:
    """Raise AssertionError if a process used more and more memory or descriptors after its start."""
    later = samples[len(samples) // 4 :]
    memory, descriptors = zip(*later, strict=True)
    assert max(memory) < 1.2 * min(memory), samples
    assert max(descriptors) < 64, samples


def test_a_long_run_with_kills_and_a_bad_network_has_the_same_bytes(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    quiet = Machine(tmp_path / "quiet", seaweedfs.environment()).live(new_address(), config=CONFIG)
    address, chance, num_kills = new_address(), Random(12), 0
    with proxy_to(seaweedfs.port) as proxy, disturbed(proxy):
        machines = [Machine(tmp_path / name, seaweedfs.environment(proxy.url)) for name in "ab"]
        while True:
            life = chance.choice(machines).live(address, config=CONFIG)
            is_over = time_to_kill(life) if num_kills < num(2, 1000) else lambda: False
            samples = watch(life, is_over, POLL_SECONDS)
            if not life.process.is_alive() and life.ended() == 0:
                break
            num_kills += life.process.is_alive()
            life.kill()
            if IS_LONG:
                check_is_flat(samples)
                print(f"killed at {life.log.split()[-1]}, memory {samples[-1][0]} MB")  # noqa: T201
    assert num_kills
    assert quiet.ended(num(120, 8 * 3600)) == 0, quiet.log
    run = StoredRun(open_store(address), RUN_ID)
    assert verify(run).problems == []
    assert differing(life.machine.run_path, quiet.machine.run_path) == []
    computed = num_computed(machines)
    print(f"{num_kills} kills, {computed} steps computed for {CONFIG.num_steps}")  # noqa: T201
    assert CONFIG.num_steps / computed >= MIN_KEPT, computed


def send_nothing() -> None:
    """Take a part of the resume away: no checkpoint reaches the store while the run trains."""
    Uploader.work = lambda self: None  # type: ignore[method-assign]


def test_without_checkpoints_in_the_store_most_steps_are_computed_again(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    address = new_address()
    machines = [Machine(tmp_path / name, seaweedfs.environment()) for name in "abcde"]
    for machine in machines:
        life = machine.live(address, send_nothing, config=SHORT)
        watch(life, lambda life=life: "saved 75" in life.log)
        life.kill()
    assert SHORT.num_steps / num_computed(machines) < 0.3


def leak() -> None:
    """Keep more memory all the time."""
    kept = []
    while True:
        kept.append(bytes([1]) * 1_000_000)
        time.sleep(0.002)


def test_a_process_that_keeps_more_and_more_memory_is_seen(tmp_path: Path) -> None:
    life = Machine(tmp_path, {}).start(leak)
    deadline = time.monotonic() + 2
    samples = watch(life, lambda: time.monotonic() >= deadline)
    life.kill()
    with pytest.raises(AssertionError):
        check_is_flat(samples)
