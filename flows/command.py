"""How does a command run the flow, and what does it tell of the end?"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from prefect import tags
from prefect.client.schemas.objects import State
from pydantic import BaseModel, ConfigDict, Field

from flows.gan_train import gan_train
from flows.orphans import close_leftovers, owned_runs
from flows.server import prefect_api
from flows.settings import Workplace
from gan.config import TrainConfig
from gan.errors import RunError
from gan.runs import checkpoint
from gan.runs.run_dir import RunDir

T = TypeVar("T")


class Outcome(BaseModel):
    """Say how a run ended: the line that `gan-train --json` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_id: str
    state: Literal["completed", "failed", "cancelled", "crashed"] = Field(description="Prefect's, of the flow run.")
    step: int = Field(description="Of the newest checkpoint; 0 when there is none.")
    run_dir: str
    address: str | None = Field(description="Where the run is published; null unless completed.")
    health: list[str] = Field(description="What the referee has found and what was done, as in metrics.jsonl.")
    message: str | None = Field(description="What went wrong, or stopped it, and what to do; null when completed.")


def run_flow(config: TrainConfig, workplace: Workplace) -> tuple[Outcome, BaseException | None]:
    """Run the flow in this process, with a Prefect server of its own if need be; return how it ended, and on what."""
    named = gan_train.with_options(flow_run_name=lambda: workplace.run_id)
    returned: list[str | State[Any]] = []
    named.fn = _keeping(returned, gan_train.fn)
    with prefect_api() as database:
        close_leftovers(database)
        with owned_runs(database, workplace.command) as tag, tags(tag):
            state: State[Any] = named(config, return_state=True)
    # Of a state whose report got no answer and was sent again, Prefect returns the server's form, which holds no data.
    end = returned[0] if returned else state
    result = end.result(raise_on_failure=False) if isinstance(end, State) else end
    error = result if isinstance(result, BaseException) else None
    outcome = Outcome(
        run_id=workplace.run_id,
        state=state.type.value.lower(),
        step=_saved_step(workplace),
        run_dir=str(workplace.run_path),
        address=None if error else result,
        health=_health(workplace),
        message=str(error) if error else None,
    )
    return outcome, error


def _keeping(returned: list[T], run: Callable[..., T]) -> Callable[..., T]:
    def kept(config: TrainConfig) -> T:
        returned.append(run(config))
        return returned[-1]

    return kept


def _health(workplace: Workplace) -> list[str]:
    try:
        return [str(event) for event in RunDir(workplace.run_path).read_events()]
    except RunError:  # damaged, and what the run ended with
        return []


def _saved_step(workplace: Workplace) -> int:
    return max(checkpoint.steps_in(workplace.run_path), default=0)
