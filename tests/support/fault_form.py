"""Which form of the fault bed runs: the short one of `make faults`, or the long one of `FAULTS=long make faults`?"""

import os

IS_LONG = os.environ.get("FAULTS") == "long"


def num(short: int, long: int) -> int:
    """Return how many faults are injected."""
    return long if IS_LONG else short
