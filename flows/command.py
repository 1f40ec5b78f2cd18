"""How does `gan-train` run the flow, and what does it report at the end?"""

from typing import Literal, cast, get_args

from prefect import tags
from pydantic import BaseModel, ConfigDict, Field

from flows.gan_train import gan_train
from flows.orphans import close_orphans, owned_runs
from flows.prefect_compat import call_flow
from flows.server import prefect_api
from flows.settings import Settings
from gan.config import TrainConfig
from gan.errors import RunError
from gan.runs import layout
from gan.runs.run_dir import RunDir

EndState = Literal["completed", "failed", "cancelled", "crashed"]


class Outcome(BaseModel):
    """Report how a run ended. `gan-train --json` prints it as one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    state: EndState = Field(description="Prefect's state of the flow run.")
    step: int = Field(description="Step of the newest checkpoint; 0 if there is none.")
    run_dir: str
    address: str | None = Field(description="Where the run is published; null unless completed.")
    health: list[str] = Field(description="Health events, as in metrics.jsonl.")
    message: str | None = Field(description="What failed or stopped the run, and what to do; null when completed.")


def run_flow(config: TrainConfig, settings: Settings) -> tuple[Outcome, BaseException | None]:
    """Run the flow in this process, with a Prefect server of its own if none is configured.

    Returns how the run ended, and the error that ended it, if any.
    """
    with prefect_api() as database:
        close_orphans(database)
        with owned_runs(database, settings.command) as tag, tags(tag):
            state, result = call_flow(gan_train, settings.run_id, config)
    error = result if isinstance(result, BaseException) else None
    outcome = Outcome(
        run_id=settings.run_id,
        state=_end_state(state.type.value, error),
        step=_saved_step(settings),
        run_dir=str(settings.run_path),
        address=None if error else result,
        health=_health(settings),
        message=str(error) if error else None,
    )
    return outcome, error


def _end_state(name: str, error: BaseException | None) -> EndState:
    """Return Prefect's state as an end. Somebody may have put another one, such as Scheduled, on the flow run."""
    if name.lower() in get_args(EndState):
        return cast(EndState, name.lower())
    return "failed" if error else "completed"


def _health(settings: Settings) -> list[str]:
    try:
        return [str(event) for event in RunDir(settings.run_path).read_events()]
    except RunError:  # the file is damaged; the run failed with this error already
        return []


def _saved_step(settings: Settings) -> int:
    return max(layout.checkpoint_steps_in(settings.run_path), default=0)
