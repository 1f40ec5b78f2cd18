"""Does a run that is killed again and again, while its network fails and its store restarts, end with the same bytes?

4 snapshots and 2 kills; with FAULTS=long 93 snapshots and a kill every 10 minutes. Memory and descriptors stay flat,
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
from gan.sync.verification import verify
from tests.support.fault_form import IS_LONG, num
from tests.support.killing import differing
from tests.support.life import RUN_ID, Life, Machine
from tests.support.s3_server import S3Server, new_address
from tests.support.tcp_proxy import TcpProxy, proxy_to

pytestmark = pytest.mark.faults
SNAPSHOT_STEPS = num(25, 1000)  # a checkpoint has 31 MB
CONFIG = TrainConfig(num_steps=num(100, 92_763), snapshot_steps=SNAPSHOT_STEPS, num_threads=1)
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


def watch(life: Life, is_over: Callable[[], bool]) -> list[tuple[int, int]]:
    """Note what a process uses, until it ends or it is over."""
    samples = []
    while life.process.is_alive() and not is_over():
        try:
            samples.append(used(life))
        except (FileNotFoundError, ProcessLookupError):
            break
        life.process.join(POLL_SECONDS)
    return samples


def time_to_kill(life: Life) -> Callable[[], bool]:
    """Return what says that it is time to kill a process that has just begun."""
    if KILL_SECONDS:
        deadline = time.monotonic() + KILL_SECONDS
        return lambda: time.monotonic() >= deadline
    num_trained = life.log.count("trained ")
    return lambda: life.log.count("trained ") > num_trained


def num_computed(log: str) -> int:
    """Return how many steps all processes have trained up to their last snapshots."""
    total = 0
    for life in re.split(r"training steps ", log)[1:]:
        first = int(life.split()[0])
        last = [int(step) for step in re.findall(r"^trained (\d+)", life, re.MULTILINE)]
        total += max(last, default=first - 1) - first + 1
    return total


def test_a_long_run_with_kills_and_a_bad_network_has_the_same_bytes(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    quiet = Machine(tmp_path / "quiet", seaweedfs.environment())
    assert quiet.live(new_address(), config=CONFIG).ended(num(120, 8 * 3600)) == 0, quiet
    address, chance, num_kills = new_address(), Random(12), 0
    with proxy_to(seaweedfs.port) as proxy, disturbed(proxy):
        machines = [Machine(tmp_path / name, seaweedfs.environment(proxy.url)) for name in "ab"]
        while True:
            life = chance.choice(machines).live(address, config=CONFIG)
            samples = watch(life, time_to_kill(life) if num_kills < num(2, 1000) else lambda: False)
            if not life.process.is_alive() and life.ended() == 0:
                break
            num_kills += life.process.is_alive()
            life.kill()
            if IS_LONG:
                later = samples[len(samples) // 4 :]
                assert max(later)[0] < 1.2 * min(later)[0] and max(each[1] for each in later) < 64
    assert num_kills
    run = StoredRun(open_store(address), RUN_ID)
    assert verify(run).problems == []
    assert differing(life.log_path.parent / "runs" / RUN_ID, quiet.folder / "runs" / RUN_ID) == []
    computed = sum(num_computed(each.joinpath("log").read_text()) for each in (tmp_path / "a", tmp_path / "b")
                   if (each / "log").exists())  # fmt: skip
    assert CONFIG.num_steps / computed >= MIN_KEPT, computed
