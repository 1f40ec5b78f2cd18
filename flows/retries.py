"""After which errors is a task tried again, and after which a flow run?"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from gan.errors import (
    CheckpointError,
    ConfigMismatchError,
    DataError,
    DeviceError,
    DownloadError,
    GanError,
    RecipeError,
    RunError,
    RunInUseError,
    StorageError,
    TrainingCollapsedError,
    TrainingDivergedError,
    UnexpectedError,
)
from gan.storage.unexpected import unexpected

UNHEALTHY = (TrainingDivergedError, TrainingCollapsedError)
# Of a flow run. Another machine, or a later time, may have what is missing: a network, a store, a device, the run.
PASSING = (DownloadError, StorageError, DeviceError, RunInUseError)
# Of a task: another attempt in the same process does not help.
PERMANENT = (DataError, ConfigMismatchError, DeviceError, RecipeError, RunError, CheckpointError, *UNHEALTHY)

Given = ParamSpec("Given")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def without_secrets(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Turn an error that nobody has foreseen into an UnexpectedError: Prefect logs tracebacks, and keeps messages."""

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except GanError:
            raise
        except Exception as error:  # noqa: BLE001 - any
            raise UnexpectedError(unexpected(error)) from None

    return call


def is_transient(error: object) -> bool:
    """Return whether another attempt may succeed, as after a network or disk error. Bad data and NaN stay."""
    return isinstance(error, DownloadError) or not isinstance(error, PERMANENT)


def worth_retrying(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide for each task here whether Prefect runs it again, and log a warning if so."""
    transient = is_transient(state.data)
    if transient:
        log.warning("%s will be tried again: %s", run.name, state.data)
    return transient
