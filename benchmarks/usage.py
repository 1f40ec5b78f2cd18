"""What does a command take: time and memory? `python usage.py PROGRAM [OPTION ...]` prints it as JSON.

A child begins with the peak memory of whoever starts it, and RUSAGE_CHILDREN keeps the largest of all children: only
a small process that starts one command and no other can tell what that command took.
"""

import json
import resource
import subprocess
import sys
import time
from typing import NamedTuple


class Usage(NamedTuple):
    """What a command took."""

    began_at: float  # seconds since 1970
    ended_at: float
    peak_rss_bytes: int  # of the command's process, or of the largest of those that it waited for

    @property
    def seconds(self) -> float:
        """Return the wall time."""
        return self.ended_at - self.began_at


def main() -> int:
    """Run a command, its output left out, and return its exit code."""
    began_at = time.time()
    code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # kilobytes on Linux
    sys.stdout.write(json.dumps(Usage(began_at, time.time(), peak)._asdict()))
    return code


if __name__ == "__main__":
    sys.exit(main())
