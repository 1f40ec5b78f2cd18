"""Where in the life of a run is a process frozen or killed, so that the record shows that it was inside?"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gan.storage.address import open_store
from gan.sync.lease import hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from tests.support.gate import Gate, Wanted, asks
from tests.support.life import CONFIG, RUN_ID, Life, Machine, Patch, freeze_in_evaluation, freeze_in_report
from tests.support.quirk_proxy import Request, quirky
from tests.support.s3_server import S3Server
from tests.support.training import train

BEGUN, TRAINED = 2, 4  # a step that an earlier machine has left, and one that is trained here
OWN = f"/attempts/{RUN_ID}/[^/]+"


def _decides(request: Request) -> bool:
    return asks("PUT", "/leases/.*")(request) and b'"committed":{' in request.body


@dataclass(frozen=True)
class Stage:
    """A place in the life of a run: a request that is in flight, or a function in which the process stops itself."""

    name: str
    wanted: Wanted = lambda request: False
    patch: Patch | None = None

    def __str__(self) -> str:
        return self.name


STAGES = [
    Stage("fetch", asks("GET", rf"{OWN}/checkpoints/step-\d+.safetensors")),
    Stage("train", asks("PUT", f"{OWN}/checkpoints/step-{TRAINED:06d}.safetensors")),
    Stage("flush", asks("PUT", f"{OWN}/checkpoints/step-{CONFIG.num_steps:06d}.safetensors")),
    Stage("report", patch=freeze_in_report),
    Stage("publish-send", asks("PUT", f"{OWN}/report/index.html")),
    Stage("publish-manifest", asks("PUT", f"{OWN}/manifest.json")),
    Stage("publish-decide", _decides),
    Stage("publish-copy", asks("PUT", f"/runs/{RUN_ID}/losses.npz")),
    Stage("publish-end", asks("PUT", f"/runs/{RUN_ID}/manifest.json")),
    Stage("publish-clear", asks("DELETE", f"{OWN}/.*")),
    Stage("evaluate", patch=freeze_in_evaluation),
    Stage("promote", asks("PUT", "/champion.json")),
]


def write_begun(path: Path) -> Path:
    """Train the first steps of a run."""
    train(path, CONFIG, stop_at=BEGUN)
    return path


def send_begun(begun: Path, address: str) -> None:
    """Leave the first steps of a run in a store, as a machine that was lost does."""
    with hold(StoredRun(open_store(address), RUN_ID)) as lease, uploading(begun, lease) as uploader:
        uploader.flush(60)


@contextmanager
def stopped_at(
    stage: Stage, server: S3Server, folder: Path, address: str, patch: Patch | None = None
) -> Iterator[tuple[Life, Gate]]:
    """Start a life on a new machine and let it come to a stage; kill it after the block if it still lives.

    Its request is then in flight, held by the gate, or it has stopped itself.
    """
    gate = Gate(stage.wanted)
    with quirky(server, gate) as proxy:
        life = Machine(folder, server.environment(proxy.url)).live(address, patch or stage.patch)
        try:
            if stage.patch:
                life.wait_until_frozen()
            else:
                assert gate.reached.wait(60), life.log
            yield life, gate
        finally:
            life.kill()
            gate.open.set()
