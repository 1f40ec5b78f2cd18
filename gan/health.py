"""Has this training failed: is the discriminator dead, has it won, are all samples alike?

Pure functions: they turn the vitals measured at a snapshot (gan.training.vitals) into a diagnosis. A sign leads to a
diagnosis only after it was found at every snapshot for a number of steps. The state of the training stores since when
each sign is present.
"""

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

LN2 = math.log(2)
LN2_ERROR = 1e-6  # of a float32 mean. The losses of a working discriminator do not stay this close for two steps.
FLAT = 1e-6  # a smaller difference of logits, or variance of images in [-1, 1], counts as zero

# A discriminator that gives every image the same logit does not recover. Adam's averages have decayed by then, too.
FLAT_STEPS = 100
# Behind a ReLU head one rare image may restore the gradient: published with seed 3 had none for 602 steps, then
# recovered.
NO_GRADIENT_STEPS = 1000
# Guessing gives D a loss of 0.7. In a working training it stays near or below that.
EXPLODED_LOSS = 10.0
EXPLODED_STEPS = 100
# The mean derivative of d_loss by a logit is 0.34 to 0.59 in the first 3000 steps of a healthy run (tuned).
WON_SLOPE = 1e-3
WON_STEPS = 3000  # while there is any slope, the training may still recover
# The samples' share of the variance of real images: tuned has 0.005 after 10 steps, 0.3 after 100, 0.45 after 1000,
# 0.75 after 3000. published, whose samples are noise, has 0.5 or more.
LEAST_DIVERSITY = 0.1
WARM_UP_STEPS = 1000
COLLAPSED_STEPS = 1000
# The classifier finds 1 class in the first samples of tuned, 3 after 500 steps, 7 or more after 1000, 10 after 2000.
# It is used late, so that a run with a tenth of the learning rate is not called collapsed.
FEW_CLASSES = 3  # of ten; where the training images have fewer classes, or more, as large a share of them
MAX_SURE_CLASSES = 64  # that the 128 samples of a snapshot show at least, of however many classes they are
CLASSES_FROM = 10_000
NUM_CLASSES = 10
MAX_ATTEMPTS = 4

Kind = Literal["not_finite", "constant_data", "exploded", "dead_discriminator", "discriminator_won", "collapse"]
Action = Literal["ignored", "failed", "rolled_back", "restarted"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # the most severe first: it causes the ones after it
ADVICE: dict[Kind, str] = {
    "not_finite": "Start another run with a lower --learning-rate or another --seed.",
    "constant_data": "Check what is in the data directory; another seed does not help.",
    "exploded": "Start another run with a lower --learning-rate.",
    "dead_discriminator": "Start another run with another --seed, or with --recipe tuned.",
    "discriminator_won": "Start another run with a lower --learning-rate.",
    "collapse": "Start another run with a lower --learning-rate or another --seed.",
}


class Vitals(BaseModel):
    """The measurements of a training at a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    g_loss: float  # means over the steps since the snapshot before
    d_loss: float
    stuck_steps: int  # number of last steps, in a row, at which both losses were ln 2
    spread: float  # range of D's logits over real images and fakes
    accuracy: float  # share of these images that D classifies correctly as real or fake
    slope: float  # mean absolute derivative of an image's D loss by its logit; 0: D has no gradient
    variance: float  # of the samples, summed over the pixels
    real_variance: float  # the same of the real images
    num_classes: int | None  # how many of the training images' classes the samples have; None: not measured


class HealthEvent(BaseModel):
    """One line of metrics.jsonl: a diagnosis and the action taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    event: Kind
    attempt: int  # counted from 1
    step: int  # of the snapshot at which it was found; for NaN or Inf the step itself
    since: int  # the first step with it, or the first snapshot with it where only snapshots are checked
    finding: str
    action: Action
    to_step: int | None  # the step that training was sent back to; None: it was not sent back
    seed: int | None  # of the restarted attempt; None: not restarted
    vitals: Vitals | None  # None for NaN or Inf

    def __str__(self) -> str:
        done = {
            "ignored": "training continued",
            "failed": "training ended",
            "rolled_back": f"back to step {self.to_step:,} with fresh latents" if self.to_step is not None else "",
            "restarted": f"started over with seed {self.seed}",
        }
        return f"step {self.step:,}: {self.finding}, since step {self.since:,}: {done[self.action]}"


class Health(BaseModel):
    """What the monitor stores about a training, as part of its state and of each checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rewinds: tuple[int, ...] = ()  # the step after which each attempt but the first began
    signs: dict[Kind, int] = {}  # the step since which each sign is present
    events: tuple[HealthEvent, ...] = ()

    def is_new(self, kind: Kind) -> bool:
        """Return whether a diagnosis is more severe than every one that was ignored before."""
        return all(KINDS.index(kind) < KINDS.index(event.event) for event in self.events if event.action == "ignored")

    def with_event(self, event: HealthEvent) -> "Health":
        """Return a copy with one more event."""
        return self.model_copy(update={"events": (*self.events, event)})


class Sign(NamedTuple):
    """A sign that a training has failed."""

    num_steps: int  # for how many steps it must be present before it becomes a diagnosis
    finding: str


class Diagnosis(NamedTuple):
    """What is wrong with a training, and since which step."""

    kind: Kind
    since: int
    finding: str


def diagnose(
    before: dict[Kind, int], step: int, vitals: Vitals, real_classes: int = NUM_CLASSES
) -> tuple[dict[Kind, int], Diagnosis | None]:
    """Return the signs at a snapshot, each with the step since which it is present, and the most severe diagnosis.

    Args:
        before: the signs at the snapshot before.
        real_classes: how many classes the samples must have.
    """
    signs = _signs(step, vitals, real_classes)
    since = {kind: before.get(kind, step) for kind in signs}
    if "dead_discriminator" in signs and vitals.stuck_steps:
        # The losses are known at every step, the vitals only at snapshots.
        since["dead_discriminator"] = step - vitals.stuck_steps + 1
    for kind in KINDS:
        if kind in signs and step - since[kind] >= signs[kind].num_steps:
            return since, Diagnosis(kind, since[kind], signs[kind].finding)
    return since, None


def stuck_steps(g_losses: np.ndarray, d_losses: np.ndarray) -> int:
    """Count the last steps, in a row, at which both losses (N,) were ln 2."""
    alive = (np.abs(g_losses - LN2) > LN2_ERROR) | (np.abs(d_losses - LN2) > LN2_ERROR)
    return int(alive[::-1].argmax()) if alive.any() else len(alive)


def _signs(step: int, vitals: Vitals, real_classes: int) -> dict[Kind, Sign]:
    """Return the signs found at a snapshot."""
    signs: dict[Kind, Sign] = {}
    if not (math.isfinite(vitals.spread) and math.isfinite(vitals.variance)):
        signs["not_finite"] = Sign(0, "NaN or Inf: a logit or a sample")
    if vitals.real_variance <= FLAT:
        signs["constant_data"] = Sign(0, "constant data: the real images of a batch are all alike")
    losses = f"g_loss {vitals.g_loss:.4g}, d_loss {vitals.d_loss:.4g}"
    if vitals.d_loss > EXPLODED_LOSS:
        signs["exploded"] = Sign(EXPLODED_STEPS, f"exploded: D errs by orders of magnitude; {losses}")
    if vitals.spread <= FLAT:
        finding = f"dead discriminator: it gives all images one logit; {losses}"
        signs["dead_discriminator"] = Sign(FLAT_STEPS, finding)
    elif vitals.slope == 0 and vitals.accuracy < 1:
        signs["dead_discriminator"] = Sign(NO_GRADIENT_STEPS, f"dead discriminator: it has no gradient; {losses}")
    elif vitals.slope <= WON_SLOPE and vitals.accuracy == 1:
        num_steps = WON_STEPS if vitals.slope else NO_GRADIENT_STEPS
        finding = f"the discriminator has won for good: it is always right; {losses}"
        signs["discriminator_won"] = Sign(num_steps, finding)
    few = FEW_CLASSES * min(real_classes, MAX_SURE_CLASSES) // NUM_CLASSES
    diversity = vitals.variance / max(vitals.real_variance, FLAT)
    if step >= WARM_UP_STEPS and diversity < LEAST_DIVERSITY:
        finding = f"collapse: samples vary {diversity:.1%} as much as real images"
        signs["collapse"] = Sign(COLLAPSED_STEPS, finding)
    elif step >= CLASSES_FROM and vitals.num_classes is not None and vitals.num_classes <= few:
        finding = f"collapse: {vitals.num_classes} of {real_classes} classes in the samples"
        signs["collapse"] = Sign(COLLAPSED_STEPS, finding)
    return signs
