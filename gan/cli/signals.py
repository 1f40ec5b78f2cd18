"""How does Ctrl-C or SIGTERM end a training after the step in hand?"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_SECONDS = 1.0  # `timeout` and process managers signal the process and its group: one request, twice


class Stop:
    """Answer whether a signal has asked to stop; called by the training loop at each step."""

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
    """Turn the first SIGINT or SIGTERM into a Stop; one that comes a second later acts as without us.

    Outside the main thread, where Python takes no handlers, the Stop is never set.
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
