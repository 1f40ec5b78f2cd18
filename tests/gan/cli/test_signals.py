"""Does a signal stop training once, and are the signal handlers restored?"""

import signal
import subprocess
import sys
import threading

from gan.cli.signals import stop_on_signals

WAITS = """
import time
from gan.cli.signals import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


def test_a_signal_asks_to_stop() -> None:
    with stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop() and stop.exit_code == 143


def test_the_same_request_sent_twice_counts_once() -> None:
    """`timeout` signals a process and then its group."""
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_request_acts_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=1.5)
            raise AssertionError("the first SIGTERM has ended it")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == -signal.SIGTERM


def test_outside_the_main_thread_it_never_stops() -> None:
    answers = []

    def ask() -> None:
        with stop_on_signals() as stop:
            answers.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]
