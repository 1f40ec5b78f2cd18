"""Which parts of Prefect do we use that its documentation does not promise?

A new version of Prefect may change them. tests/flows/test_prefect_compat.py has a test for each.
"""

from collections.abc import Callable
from pathlib import Path
from signal import SIGINT
from typing import Any, NoReturn
from uuid import UUID

from prefect import Flow
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.exceptions import Abort, TerminationSignal
from prefect.logging.handlers import APILogWorker

SERVER_APP = "prefect.server.api.server:create_app"  # makes the server's ASGI application
SERVER_ENVIRONMENT = {
    "PREFECT__SERVER_EPHEMERAL": "1",  # no UI and no scheduler: only the API that records runs
    "PREFECT__SERVER_FINAL": "1",  # the process makes one application, which saves memory
}
STOPPED = (KeyboardInterrupt, TerminationSignal)  # what SIGINT and SIGTERM raise in a flow


def signal_of(stopped: BaseException) -> int:
    """Return the number of the signal that raised one of STOPPED."""
    return stopped.signal if isinstance(stopped, TerminationSignal) else SIGINT


def call_flow(flow: Flow[..., Any], run_name: str, *args: Any) -> tuple[State[Any], Any]:
    """Run a flow in this process; return its final state, and its result or the exception that it ended with.

    The flow function's own return value is kept here. If the server's answer to the final state is lost, Prefect sends
    the state again and then returns the server's copy, which holds no result.
    """
    returned: list[Any] = []
    named: Any = flow.with_options(flow_run_name=lambda: run_name)
    named.fn = _keep_result(named.fn, returned)
    state: State[Any] = named(*args, return_state=True)
    outcome = returned[0] if returned else state
    return state, outcome.result(raise_on_failure=False) if isinstance(outcome, State) else outcome


def _keep_result(function: Callable[..., Any], returned: list[Any]) -> Callable[..., Any]:
    def kept(config: Any) -> Any:
        returned.append(function(config))
        return returned[-1]

    return kept


def end_process(message: str) -> NoReturn:
    """End the process of this flow run, and leave the run's state as it is."""
    raise Abort(message)


def create_artifact(artifact: Artifact) -> UUID:
    """Create an artifact from a thread that has no event loop, and return its id."""
    created: Any = artifact.create(_sync=True)  # type: ignore[call-arg]
    return UUID(str(created.id))


def send_pending(timeout_seconds: float) -> None:
    """Send the logs and task states that Prefect has not sent yet. It would send them at exit, which is too late."""
    APILogWorker.drain_all(timeout=timeout_seconds)
    EventsWorker.drain_all(timeout=timeout_seconds)


def set_working_dir(template: dict[str, Any], work_dir: Path) -> None:
    """Set the directory in which the runs of a work pool work, in the pool's job template."""
    template["variables"]["properties"]["working_dir"]["default"] = str(work_dir)


def working_dir_of(template: dict[str, Any]) -> Path | None:
    """Return the directory in which the runs of a work pool work, from the pool's job template."""
    directory = _defaults(template).get("working_dir", {}).get("default")
    return Path(directory) if directory else None


def environment_of(template: dict[str, Any], *job_variables: dict[str, Any] | None) -> dict[str, str]:
    """Return what a work pool, and these variables of a deployment and a flow run, add to the environment of a run."""
    found: dict[str, str] = dict(_defaults(template).get("env", {}).get("default") or {})
    for given in job_variables:
        dotted = {key.removeprefix("env."): value for key, value in (given or {}).items() if key.startswith("env.")}
        found |= {**dotted, **((given or {}).get("env") or {})}
    return found


def _defaults(template: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = template.get("variables", {}).get("properties", {})
    return properties
