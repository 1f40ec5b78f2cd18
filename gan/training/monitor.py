"""What should be done about a training that has failed?"""

from collections.abc import Callable
from typing import NamedTuple

from gan.config import RunConfig
from gan.data.batches import Batches
from gan.data.dataset import Dataset
from gan.engine.state import TrainState
from gan.errors import GanError, TrainingCollapsedError, TrainingDivergedError
from gan.evaluation.evaluator import known_classifier
from gan.health import ADVICE, CLASSES_FROM, MAX_ATTEMPTS, Action, Diagnosis, Health, HealthEvent, Vitals, diagnose
from gan.seeds import derive_seed
from gan.training.loop import Snapshot
from gan.training.vitals import measure


class Decision(NamedTuple):
    """What to do about a diagnosis, as the fields of a HealthEvent say it."""

    action: Action
    to_step: int | None = None
    seed: int | None = None


def config_of_attempt(config: RunConfig, num_rewinds: int) -> RunConfig:
    """Return the config of the attempt after so many rewinds. A restarted attempt has a seed of its own."""
    if config.on_collapse != "restart" or not num_rewinds:
        return config
    return config.model_copy(update={"seed": derive_seed(config.seed, "restart", num_rewinds)})


class Monitor:
    """Check a training at each snapshot and decide, by its config, what to do about a diagnosis. Writes no file.

    A decision depends only on the state, its losses and its step, so a resumed run gets the same decision again.
    """

    def __init__(self, config: RunConfig, data: Dataset, newest_good_snapshot: Callable[[int], int]) -> None:
        """Load the classifier if the training gets far enough to need it and it knows the training images.

        `newest_good_snapshot(step)` returns the last snapshot before a step that can be loaded; 0 when there is none.
        """
        self.config = config
        self._newest_good_snapshot = newest_good_snapshot
        self.classes = data.main_classes
        self.classifier = known_classifier(data, config.device) if config.num_steps >= CLASSES_FROM else None

    def examine(self, state: TrainState, batches: Batches, snapshot: Snapshot) -> HealthEvent | None:
        """Measure the vitals, update the signs in `state.health`, and return an event for a new diagnosis."""
        config = config_of_attempt(self.config, len(state.health.rewinds))
        vitals = measure(state, config, batches(state.step), snapshot, self.classifier, self.classes)
        signs, diagnosis = diagnose(state.health.signs, state.step, vitals, len(self.classes))
        state.health = state.health.model_copy(update={"signs": signs})
        if diagnosis is None or not state.health.is_new(diagnosis.kind):
            return None
        return self._event(state.health, diagnosis, state.step, vitals)

    def diverged(self, state: TrainState, error: TrainingDivergedError) -> HealthEvent:
        """Return the event for a NaN or Inf. Training never continues from one."""
        diagnosis = Diagnosis("not_finite", error.step, f"NaN or Inf: {error.found}")
        return self._event(state.health, diagnosis, error.step, None)

    def _event(self, health: Health, diagnosis: Diagnosis, step: int, vitals: Vitals | None) -> HealthEvent:
        decision = self._decide(health, diagnosis)
        return HealthEvent(
            event=diagnosis.kind,
            attempt=len(health.rewinds) + 1,
            step=step,
            since=diagnosis.since,
            finding=diagnosis.finding,
            action=decision.action,
            to_step=decision.to_step,
            seed=decision.seed,
            vitals=None if diagnosis.kind == "not_finite" else vitals,
        )

    def _decide(self, health: Health, diagnosis: Diagnosis) -> Decision:
        policy, num_attempts = self.config.on_collapse, len(health.rewinds) + 1
        if policy == "ignore" and diagnosis.kind != "not_finite":
            return Decision("ignored")
        if policy in ("ignore", "fail") or diagnosis.kind == "constant_data" or num_attempts == MAX_ATTEMPTS:
            return Decision("failed")
        if policy == "rollback":
            return Decision("rolled_back", to_step=self._newest_good_snapshot(diagnosis.since))
        return Decision("restarted", to_step=0, seed=config_of_attempt(self.config, num_attempts).seed)


def error_of(event: HealthEvent, before: tuple[HealthEvent, ...]) -> GanError:
    """Return the error that ends a training with `event`; its message lists the events before."""
    is_diverged = event.event == "not_finite"
    error_type = TrainingDivergedError if is_diverged else TrainingCollapsedError
    ended = "diverged" if is_diverged else "ended"
    given_up = f" Given up after {event.attempt - 1} more attempts." if event.attempt > 1 else ""
    earlier = "".join(f"\nBefore that, {each}" for each in before)
    return error_type(
        f"training {ended} at step {event.step}: {event.finding}, since step {event.since}. "
        f"The checkpoint before it is intact.{given_up} {ADVICE[event.event]}{earlier}"
    )
