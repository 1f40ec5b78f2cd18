"""How does a program that works until a signal say what it does, and stop?"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

QUIET_SECONDS = 60.0


def log_to_stderr(log: logging.Logger) -> None:
    """Show the INFO lines of a program with their times. What it says again and again is shown once."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    log.addFilter(_is_news())


def stop_event(log: logging.Logger, what: str) -> threading.Event:
    """Return an event that SIGTERM, SIGINT and SIGHUP set. Under nohup, SIGHUP stays ignored."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        log.info("%s: %s", signal.Signals(number).name, what)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)
    return stop


def _is_news() -> Callable[[logging.LogRecord], bool]:
    """Return a filter for lines that were also said within the last minute."""
    said: dict[str, float] = {}

    def is_news(record: logging.LogRecord) -> bool:
        now = time.monotonic()
        for message in [message for message, when in said.items() if now - when > QUIET_SECONDS]:
            del said[message]
        message = record.getMessage()
        is_new = message not in said
        said[message] = now
        return is_new

    return is_news
