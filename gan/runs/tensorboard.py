"""How are losses, grids and figures written for TensorBoard?"""

import hashlib
import io
import logging
import os
import re
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from gan.files import fsync_dir, make_folder
from gan.runs import layout

GREYSCALE = 1  # Summary.Image.colorspace
COLORSPACES = {"L": GREYSCALE, "RGB": 3}
FILE_VERSION = "brain.Event:2"
FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\..*")  # with the second at which it was opened

log = logging.getLogger(__name__)


class EventLog:
    """Write TensorBoard's event file, one snapshot at a time.

    The two losses of a step share one event, and events are built here: SummaryWriter.add_scalar takes 61 us a
    call, which is 11 s for the 185,526 losses of a full run. No file is open between two snapshots, and training does
    not depend on the folder: it may be removed, or be full.
    """

    def __init__(self, directory: Path, resumed_at: int) -> None:
        """Open a new event file. TensorBoard then ignores what older files hold after step `resumed_at`."""
        self._directory = directory
        self._path = _new_path(directory)
        self._buffer = io.BytesIO()  # records that are not in the file yet
        self._records = RecordWriter(self._buffer)
        self._has_failed = False
        self._written = hashlib.sha256()  # of the file's content
        if resumed_at:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def losses(self, first_step: int, g_losses: np.ndarray, d_losses: np.ndarray) -> None:
        """Add the losses (N,) of the N steps from `first_step` on."""
        for step, (g_loss, d_loss) in enumerate(zip(g_losses.tolist(), d_losses.tolist(), strict=True), first_step):
            self.scalars(step, g_loss=g_loss, d_loss=d_loss)

    def scalars(self, step: int, **values: float) -> None:
        """Add scalars of a step, by tag."""
        self._add(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])

    def image(self, step: int, tag: str, png: bytes) -> None:
        """Add a PNG, in grey or RGB."""
        with Image.open(io.BytesIO(png)) as header:  # reads no pixels
            (width, height), colorspace = header.size, COLORSPACES.get(header.mode, GREYSCALE)
        image = Summary.Image(height=height, width=width, colorspace=colorspace, encoded_image_string=png)
        self._add(step, [Summary.Value(tag=tag, image=image)])

    def describe(self, run_id: str, name: str, config: dict[str, Any]) -> None:
        """Add the run's id and name to the TEXT and HPARAMS pages, and the fields of its config that are not None."""
        values = {name: value for name, value in config.items() if value is not None}
        title = f"{run_id}: {name}"
        # The page of hyperparameters shows only some of them at first, but in each row the trial.
        hparams = hparams_pb({"run": run_id, "name": name, **values}, trial_id=title)
        for summary in (hparams, text_pb("run", title)):
            ours = Summary.FromString(summary.SerializeToString())
            self._write(Event(wall_time=time.time(), summary=ours))

    def flush(self) -> None:
        """Append everything added so far to the file, and fsync it; drop it, with a warning, where that fails."""
        try:
            make_folder(self._directory)
            with self._path.open("ab") as file:
                is_new = not file.tell()
                added = (_head() if is_new else b"") + self._buffer.getvalue()
                file.write(added)
                file.flush()
                os.fsync(file.fileno())
            self._written.update(added)
            if is_new:
                fsync_dir(self._directory)
        except OSError as error:
            if not self._has_failed:
                log.warning("%s cannot be written (%s); training goes on without it", self._directory, error.strerror)
            self._has_failed = True
            self._path = _new_path(self._directory)  # this one may end within a record
            self._written = hashlib.sha256()
        self._buffer.seek(0)
        self._buffer.truncate()

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the event file, by its name in the run directory."""
        return {f"{layout.TENSORBOARD}{self._path.name}": self._written.hexdigest()}

    def _add(self, step: int, values: list[Summary.Value]) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def _new_path(directory: Path) -> Path:
    """Return a path for a new event file, whose name sorts after those of all others.

    TensorBoard reads the files in the order of their names, and drops events that an earlier file holds. So the second
    in the name is later than in the others, also where two files are opened within a second, or another machine wrote
    them with a clock that is ahead.
    """
    matches = (FILE_NAME.fullmatch(path.name) for path in directory.glob("*"))
    seconds = [int(match[1]) for match in matches if match]
    second = max(int(time.time()), max(seconds, default=0) + 1)
    return directory / f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}"


def _head() -> bytes:
    """Return the record with which an event file begins."""
    head = io.BytesIO()
    RecordWriter(head).write(Event(wall_time=time.time(), file_version=FILE_VERSION).SerializeToString())
    return head.getvalue()
