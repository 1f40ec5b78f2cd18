"""How much time and memory does a command need? `python usage.py PROGRAM [OPTION ...]` prints it as JSON.

A child process starts with the peak memory of its parent, and RUSAGE_CHILDREN holds the peak of the largest child. So
the peak of one command can only be measured by a small process that starts this command and no other.
"""

import json
import resource
import subprocess
import sys
import time
from typing import NamedTuple


class Usage(NamedTuple):
    """The time and memory that a command needed."""

    began_at: float  # seconds since 1970
    ended_at: float
    peak_rss_bytes: int  # of the command's process, or of its largest child process

    @property
    def seconds(self) -> float:
        """Return the wall time."""
        return self.ended_at - self.began_at


def main() -> int:
    """Run a command without its output, and return its exit code."""
    began_at = time.time()
    code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes on Linux
    sys.stdout.write(json.dumps(Usage(began_at, time.time(), peak)._asdict()))
    return code


if __name__ == "__main__":
    sys.exit(main())
