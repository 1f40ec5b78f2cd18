"""Are the variables that lead to a bucket usable?"""

import os

from gan.errors import StorageError

NOT_EMPTY = ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
COUNTS = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")


def check_variables() -> None:
    """Raise StorageError for a variable of boto3 that cannot be right. The message never has its value."""
    for name in (*NOT_EMPTY, *COUNTS):
        if (value := os.environ.get(name)) is not None and (fault := _fault_of(name, value)):
            raise StorageError(f"{name} {fault}. Set it again, or unset it.")


def _fault_of(name: str, value: str) -> str | None:
    if name in NOT_EMPTY and not value:
        return "is empty"
    if name in COUNTS and not (value.isdecimal() and int(value)):
        return "is not a whole number above 0"
    return None
