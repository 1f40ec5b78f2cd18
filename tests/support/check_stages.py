"""Which stages stand in for those of the GPU check? They import no torch, so that their processes start at once."""

import os
import subprocess
import time

from benchmarks.gpu_check.settings import CheckFailedError, NotRunError, Record, Settings


def passes(settings: Settings, record: Record) -> None:
    record("scratch is there", str(settings.scratch.is_dir()))
    record("scaled", settings.scaled(1000, least=7))


def fails(settings: Settings, record: Record) -> None:
    raise CheckFailedError("one bit differs")


def lacks_something(settings: Settings, record: Record) -> None:
    raise NotRunError("the program nsys is missing")


def hangs(settings: Settings, record: Record) -> None:
    child = subprocess.Popen(["sleep", "60"])
    record("child", child.pid)
    time.sleep(60)


def dies(settings: Settings, record: Record) -> None:
    os.abort()
