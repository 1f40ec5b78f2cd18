"""How does a console script run its command, and which exit code does it return?"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from gan.cli.streams import GONE, drop_unwritable_output, failure_of
from gan.errors import GanError, UnexpectedError

Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)

# Training's threads wait for each other hundreds of times a step. By default OpenMP spins for milliseconds while it
# waits, which slows a step tenfold when another process is busy. Not spinning at all doubles a step's time on an idle
# machine. This value lies between the two.
WAITING = {"GOMP_SPINCOUNT": "3000"}


@dataclass
class Invocation:
    """Hold what one call of a console script was asked for, apart from its command's own options."""

    debug: bool = False
    prints_result: bool = True  # False: the result is on the disk, and is there without a reader of the output


def open_standard_streams() -> None:
    """Connect each standard stream that is closed with /dev/null, and drop output that cannot be written.

    Otherwise the next file or socket takes its number, and a child process that prints writes into that.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, errors="backslashreplace"))
    drop_unwritable_output()


def run_command(command: click.Command) -> int:
    """Run a click command on sys.argv and return its exit code. Its errors are told as those of a program are."""
    open_standard_streams()
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)  # torch reads it when it is imported, which is later
    invocation = Invocation()

    def call() -> int:
        code = _call(command, invocation)
        return (code if isinstance(code, int) else 0) or _code_of_output(invocation)

    return run_program(call, invocation)


def run_program(call: Callable[[], int], invocation: Invocation | None = None) -> int:
    """Call the main function of a program, and return the exit code.

    An error of ours, or a wrong option, is one message on stderr. Any other error is, too, also in another thread, and
    its traceback is in a file. With --debug each of them is its traceback, without secrets.
    """
    invocation = invocation or Invocation()
    try:
        with _told_in_each_thread():
            return call()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except GanError as error:
        _tell(error, debug=invocation.debug)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BaseException as error:  # noqa: BLE001 - any, and in one line
        if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code:
            return error.code
        _tell(error, debug=invocation.debug)
        return 1


def _tell(error: BaseException, *, debug: bool = False) -> None:
    """Print the message of an error, or the line for one that nobody has foreseen; with `debug`, its traceback."""
    from gan.storage.unexpected import masked_traceback, unexpected

    if debug:
        click.echo(masked_traceback(error), err=True, nl=False)
    else:
        is_ours = isinstance(error, GanError)
        start = "error: " if is_ours and not isinstance(error, UnexpectedError) else ""
        click.echo(f"{start}{error}" if is_ours else unexpected(error), err=True)


@contextmanager
def _told_in_each_thread() -> Iterator[None]:
    """Print such a line, and not a traceback, for an error that ends another thread during this block."""

    def tell(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value and ended.exc_type is not SystemExit:
            _tell(ended.exc_value)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before


def _code_of_output(invocation: Invocation) -> int:
    """Return 1 where the output of a command was dropped and is all its result, else 0. Only `head` ends silently."""
    failure = failure_of(sys.stdout)
    if failure is None or not invocation.prints_result:
        return 0
    if failure.errno not in GONE:
        click.echo(f"error: the output cannot be written ({failure.strerror}). Write it to another place.", err=True)
    return 1


def _call(command: click.Command, invocation: Invocation) -> object:
    """Call click's main function, and return what the command returns.

    click takes every EOFError for Ctrl-C, and ends at every closed pipe in silence. So it does not get to see them.
    """
    raised: list[Exception] = []
    seen_by_click = copy(command)

    def invoke(context: click.Context) -> object:
        try:
            return command.invoke(context)
        except (EOFError, OSError) as error:
            raised.append(error)
            return None

    seen_by_click.invoke = invoke  # type: ignore[assignment]
    code: object = seen_by_click.main(standalone_mode=False, obj=invocation)
    if raised:
        raise raised[0]
    return code


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def debug_option(
    text: str = "Show the traceback of an error.", *, hidden: bool = False
) -> Callable[[Command], Command]:
    """Give a command the option --debug. The Invocation keeps it; the command's function does not take it."""
    return click.option("--debug", is_flag=True, expose_value=False, callback=_keep_debug, hidden=hidden, help=text)


def _keep_debug(context: click.Context, _option: click.Parameter, given: bool) -> None:
    if given:
        context.ensure_object(Invocation).debug = True


class DebugGroup(click.Group):
    """A group of commands with one option --debug, which may also follow the name of a command."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and let it take --debug without listing it in its help."""
        super().add_command(debug_option(hidden=True)(cmd), name)
