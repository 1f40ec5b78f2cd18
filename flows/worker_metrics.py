"""What does Prometheus read of a worker? The steps, the speed, the upload backlog and the checkpoint of its run.

The process that trains writes these figures to a file (flows.run_metrics), and the worker shows the files of living
processes at /metrics. So training never waits for a reader. GAN_METRICS_ADDRESS says where the worker listens.
"""

import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gan.errors import SettingError

FOLDER = "FLOWS_METRICS_FOLDER"  # the worker sets it for the processes that it starts
HELP = {
    "steps": "Steps that the run in training has trained.",
    "steps_planned": "Steps that the run is to train.",
    "steps_per_second": "Speed of the training loop before the last snapshot.",
    "checkpoint_age_seconds": "Seconds since the last checkpoint was written.",
    "upload_backlog_files": "Files that the store does not have yet.",
    "upload_backlog_bytes": "Bytes that the store does not have yet.",
    "upload_backlog_seconds": "Seconds since the store had everything.",
}

log = logging.getLogger(__name__)


def page(folder: Path) -> str:
    """Return what Prometheus reads: one line for each figure of each run in training."""
    runs = [figures for path in sorted(folder.glob("*.json")) if (figures := _read(path))]
    lines = ["# HELP gan_train_runs Runs in training.", "# TYPE gan_train_runs gauge", f"gan_train_runs {len(runs)}"]
    for name, text in HELP.items():
        lines += [f"# HELP gan_train_{name} {text}", f"# TYPE gan_train_{name} gauge"]
        lines += [f"gan_train_{name}{{run={json.dumps(run['run'])}}} {run[name]}" for run in runs if name in run]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the figures in a file, or None if its process has ended, which removes the file."""
    if not Path("/proc", path.stem).exists():
        path.unlink(missing_ok=True)
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:  # the run has ended in this moment
        return None
    if "checkpoint" in figures:
        figures["checkpoint_age_seconds"] = round(time.time() - figures["checkpoint"], 1)
    return figures


@contextmanager
def metrics_server(address: str | None) -> Iterator[dict[str, str]]:
    """Serve /metrics at an address HOST:PORT during this block; yield what the environment of a run must have.

    Raises:
        SettingError: the address is none, or this machine cannot give it.
    """
    if not address:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="gan-train-metrics-") as folder, _listen(address, Path(folder)) as server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield {FOLDER: folder}
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def handle_error(self, _request: object, address: object) -> None:
        """Log what ends an answer, as a reader that has gone. Python would print its traceback."""
        log.debug("the answer to %s ends: %s", address, sys.exception())


def _listen(address: str, folder: Path) -> ThreadingHTTPServer:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 <= int(port) < 65536):
        raise SettingError(f"GAN_METRICS_ADDRESS is {address!r}. Set it to HOST:PORT, for example 127.0.0.1:9464.")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_page = self.path.partition("?")[0] == "/metrics"
            content = page(folder).encode() if is_page else b"see /metrics\n"
            self.send_response(200 if is_page else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: object) -> None:
            """Log no requests."""

    try:
        return _Server((host, int(port)), Handler)
    except OSError as error:
        raise SettingError(
            f"GAN_METRICS_ADDRESS is {address}, where nothing can listen: {error.strerror}. Set it to a free HOST:PORT."
        ) from error
