"""How does Ctrl-C or SIGTERM end a training after the current step?"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_SECONDS = (
    1.0  # `timeout` and process managers signal the process and its group, so one request arrives twice
)


class Stop:
    """Return whether a signal has asked to stop. The training loop calls it at each step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The shell's code for a command that a signal ended: 130 or 143."""
        assert self.signal is not None
        return 128 + self.signal


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a Stop. Another one, more than a second later, ends the process at once.

    Outside the main thread Python allows no handlers, and the Stop is never set.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    asked_at = 0.0
    before = {number: signal.getsignal(number) for number in STOPPING}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        if stop.signal is None:
            stop.signal, asked_at = number, time.monotonic()
        elif time.monotonic() - asked_at > SAME_REQUEST_SECONDS:
            restore()
            os.kill(os.getpid(), number)

    for number in STOPPING:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
