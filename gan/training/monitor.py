"""What is to be done about a training that is ill?"""

import logging
from pathlib import Path

from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.data.download import Mnist
from gan.engine.state import TrainState
from gan.errors import CheckpointError, GanError, TrainingCollapsedError, TrainingDivergedError
from gan.evaluation.classifier import load_judge
from gan.health import ADVICE, MAX_ATTEMPTS, Action, Health, HealthEvent, Illness, Vitals, diagnose
from gan.seeds import derive_seed
from gan.training import checkpoint
from gan.training.loop import Snapshot
from gan.training.vitals import measure

log = logging.getLogger(__name__)


def config_of_try(config: TrainConfig, num_rewinds: int) -> TrainConfig:
    """Return what a try is trained by: started over, it has a seed of its own."""
    if config.on_collapse != "restart" or not num_rewinds:
        return config
    assert config.seed is not None
    return config.model_copy(update={"seed": derive_seed(config.seed, "restart", num_rewinds)})


class Referee:
    """Look at a training at each snapshot, and say what its config wants done about an illness; changes no file.

    What it says follows from the state, its losses and its step alone: a run that is resumed hears the same again.
    """

    def __init__(self, config: TrainConfig, data: Mnist, checkpoints_dir: Path) -> None:
        """Load the judge where it knows the data."""
        self.config = config
        self.checkpoints_dir = checkpoints_dir
        self.judge = load_judge(config.device) if data.is_pinned else None

    def examine(self, state: TrainState, batches: Batches, snapshot: Snapshot) -> HealthEvent | None:
        """Take the vital signs, note the signs of illness in `state.health`, return an illness that is news."""
        config = config_of_try(self.config, len(state.health.rewinds))
        vitals = measure(state, config, batches(state.step), snapshot, self.judge)
        signs, illness = diagnose(state.health.signs, state.step, vitals)
        state.health = state.health.model_copy(update={"signs": signs})
        if illness is None or not state.health.is_news(illness.kind):
            return None
        return self._event(state.health, illness, state.step, vitals)

    def diverged(self, state: TrainState, error: TrainingDivergedError) -> HealthEvent:
        """Say what is to be done about NaN or Inf, which no training goes on from."""
        illness = Illness("not_finite", error.step, f"NaN or Inf: {error.found}")
        return self._event(state.health, illness, error.step, None)

    def _event(self, health: Health, illness: Illness, step: int, vitals: Vitals | None) -> HealthEvent:
        action, to_step, seed = self._decide(health, illness)
        return HealthEvent(
            event=illness.kind,
            attempt=len(health.rewinds) + 1,
            step=step,
            since=illness.since,
            finding=illness.finding,
            action=action,
            to_step=to_step,
            seed=seed,
            vitals=None if illness.kind == "not_finite" else vitals,
        )

    def _decide(self, health: Health, illness: Illness) -> tuple[Action, int | None, int | None]:
        """Return the action, the step to go back to, and the seed to start over with."""
        policy, num_attempts = self.config.on_collapse, len(health.rewinds) + 1
        if policy == "ignore" and illness.kind != "not_finite":
            return "ignored", None, None
        if policy in ("ignore", "fail") or illness.kind == "constant_data" or num_attempts == MAX_ATTEMPTS:
            return "failed", None, None
        if policy == "rollback":
            return "rolled_back", self._last_healthy(illness.since), None
        return "restarted", 0, config_of_try(self.config, num_attempts).seed

    def _last_healthy(self, since: int) -> int:
        """Return the step of the newest snapshot's checkpoint from before an illness that verifies; 0: there is none.

        What a stop has saved between two snapshots does not count: a run that was not stopped has it not.
        """
        for path in checkpoint.newest_first(self.checkpoints_dir):
            step = checkpoint.step_of(path)
            if step < since and step % self.config.snapshot_steps == 0:
                try:
                    checkpoint.load(path)
                    return step
                except CheckpointError as error:
                    log.warning("%s; trying the one before it", error)
        return 0


def error_of(event: HealthEvent, before: tuple[HealthEvent, ...]) -> GanError:
    """Return what a training ends with that an illness has ended, after the events before it."""
    kind, ended = (
        (TrainingDivergedError, "diverged") if event.event == "not_finite" else (TrainingCollapsedError, "ended")
    )
    tries = "".join(f"\nBefore that, {each}" for each in before)
    given_up = f" Given up after {event.attempt - 1} more tries." if event.attempt > 1 else ""
    return kind(
        f"training {ended} at step {event.step}: {event.finding}, since step {event.since}. "
        f"The checkpoint before it is intact.{given_up} {ADVICE[event.event]}{tries}"
    )
