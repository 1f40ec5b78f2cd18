"""What stands in for Prefect's worker in tests of its process? A program with a child that stands in for a run."""

import signal
import subprocess
import sys
import time

RUN = """
import signal, sys, time
def save(*_):
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
print("the run trains", flush=True)
time.sleep(600)
"""


def end(*_: object) -> None:
    """Do what a worker does at SIGTERM, which comes after the end of the run."""
    print(f"the worker ends after its run, which ended with {run.wait()}", flush=True)  # noqa: T201
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    run = subprocess.Popen([sys.executable, "-c", RUN, "prefect.engine"])
    while True:
        time.sleep(600)
