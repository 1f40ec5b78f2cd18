"""Which exceptions can a library raise? One of each class that Python has."""

import builtins
import errno
from collections.abc import Iterator

ARGUMENTS = ((), ("utf-8", b"x", 0, 1, "no"), ("utf-8", "x", 0, 1, "no"), ("no", 0, 1, "no"), ("two", [ValueError()]))


def each_exception() -> Iterator[BaseException]:
    """Yield an instance of each builtin class of exceptions, and some that name an error of the system."""
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            yield _instance(kind)
    for number in (errno.EPIPE, errno.ENOSPC, errno.EACCES):
        yield OSError(number, "no", "file")
    yield SystemExit("text")


def expected(error: BaseException) -> tuple[int, str]:
    """Return the exit code of a command in which an error is raised, and how its output begins."""
    if isinstance(error, KeyboardInterrupt):
        return 130, ""
    if isinstance(error, MemoryError):
        return 1, "error: there is not enough memory (MemoryError)"
    return 1, f"unexpected: {type(error).__name__}"


def _instance(kind: type[BaseException]) -> BaseException:
    for arguments in ARGUMENTS:
        try:
            return kind(*arguments)
        except TypeError:
            continue
    raise AssertionError(f"{kind} needs other arguments")
