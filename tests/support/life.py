"""How does a test let a process live through a whole run, on a machine of its own, and freeze or kill it there?

The process does what the tasks of the flow do, in their order, without Prefect. Its machine has a folder for its runs
and one for temporary files, where the locks of its holders lie: two machines share only the store. It is forked from a
server that has imported torch, so that it starts at once.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.config import TrainConfig
from gan.evaluation.evaluator import Evaluator
from gan.registry import promotion
from gan.report import page
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.storage.local import LocalStore
from gan.sync import publish, resume
from gan.sync.lease import Lease, Timing, hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from gan.training.runner import open_run
from tests.support.digits import mnist
from tests.support.real_digits import real_digits

RUN_ID = "a"
CONFIG = TrainConfig(num_steps=6, snapshot_steps=2, num_threads=1)
NUM_SAMPLES = 300
FLUSH_SECONDS = 60
Patch = Callable[[], None]  # changes the process before it begins; a function of a module, which can be pickled

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


class Quick(Timing):
    """A lease that another machine may take after 2 s. Its holder counts on it for a minute: its clock is no help."""

    @property
    def holder_seconds(self) -> float:
        """Return more than the lease lasts."""
        return 60.0


QUICK = Quick(heartbeat_seconds=0.2, expiry_seconds=2.0)


def live(address: str, folder: Path, config: TrainConfig = CONFIG, timing: Timing = QUICK) -> None:
    """Take a run from wherever it is to its end: fetch, train, flush, report, publish, evaluate, promote."""
    run_path = folder / "runs" / RUN_ID
    run = StoredRun(open_store(address), RUN_ID)
    with hold(run, timing) as lease, RunDir(run_path).held():
        train(lease, run_path, config)
        page.render(RunDir(run_path))
        publish.publish(run_path, lease)
        promote(lease, run_path)
        lease.check()


def train(lease: Lease, run_path: Path, config: TrainConfig = CONFIG) -> None:
    """Fetch what another machine has trained, train the rest, and wait until the store has all of it."""
    resume.fetch_run(lease, run_path)
    with (
        open_run(run_path, config, mnist(), resume=True, is_held=True) as run,
        uploading(run_path, lease) as uploader,
    ):

        def should_stop() -> bool:
            print(f"step {run.state.step}", flush=True)  # noqa: T201 - the record of the soak test
            return uploader.lease_lost

        for snapshot in run.train(should_stop):
            print(f"saved {snapshot.step}", flush=True)  # noqa: T201
            uploader.wake()
        uploader.flush(FLUSH_SECONDS)


def promote(lease: Lease, run_path: Path) -> None:
    """Measure the copy of a published run on this machine, and make it the champion if it is better."""
    evaluator = Evaluator(real_digits())
    copy = StoredRun(LocalStore(run_path.parents[1]), RUN_ID)
    challenger = promotion.measure(copy, evaluator, num_samples=NUM_SAMPLES)
    lease.check()
    store = lease.run.store
    promotion.promote(store, challenger, promotion.comparer(store, challenger, evaluator), "life")


@dataclass
class Machine:
    """A machine: a folder, and how it reaches the store."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def run_path(self) -> Path:
        """Return the directory of the run."""
        return self.folder / "runs" / RUN_ID

    @property
    def log(self) -> str:
        """Return what the processes of this machine have printed."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self, target: Callable[..., None], *args: Any, patch: Patch | None = None) -> "Life":
        """Start a process on this machine."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        # Where memory is short, Rust's own traceback would wait for itself for ever, in a lock.
        environment = {**self.environment, "TMPDIR": str(self.folder / "tmp"), "RUST_BACKTRACE": "0"}
        process = _server.Process(target=_begin, args=(environment, self.folder / "log", target, args, patch))
        process.start()
        return Life(process, self)

    def live(self, address: str, patch: Patch | None = None, **options: Any) -> "Life":
        """Start a process that takes the run of a store to its end."""
        return self.start(_live, address, self.folder, options, patch=patch)


@dataclass
class Life:
    """A process on a machine."""

    process: Any
    machine: Machine

    @property
    def log(self) -> str:
        """Return what the machine's processes have printed."""
        return self.machine.log

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.process.pid, number)

    def wait_until_frozen(self, seconds: float = 60) -> None:
        """Wait until the process is stopped, by itself or by us."""
        deadline = time.monotonic() + seconds
        while self._state() != "T":
            assert self.process.is_alive() and time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def ended(self, seconds: float = 90) -> int:
        """Wait until the process ends, and return its exit code; kill it after this time."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it did not end in {seconds} s:\n{self.log[-3000:]}")
        return int(self.process.exitcode)

    def kill(self) -> None:
        """End the process by SIGKILL, frozen or not."""
        self.process.kill()
        self.process.join()

    def _state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def freeze_in_report() -> None:
    """Let this process stop itself while it makes the report's film."""
    _freeze_in(page, "film_gif")


def freeze_in_evaluation() -> None:
    """Let this process stop itself while the judge looks at the samples."""
    _freeze_in(promotion, "classify")


def _freeze_in(module: Any, name: str) -> None:
    function = getattr(module, name)

    def frozen(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGSTOP)
        return function(*args)

    setattr(module, name, frozen)


def _live(address: str, folder: Path, options: dict[str, Any]) -> None:
    live(address, folder, **options)


def _begin(
    environment: dict[str, str], log: Path, target: Callable[..., None], args: tuple[Any, ...], patch: Patch | None
) -> None:
    """Do what a new process does on its machine. An error ends it with a traceback in its log, and exit code 1."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(environment)
    with log.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
    if patch:
        patch()
    target(*args)
