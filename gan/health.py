"""Is this training alive: is the discriminator dead, has it won for good, are the samples all alike?

Pure: what is measured at a snapshot (gan.training.vitals) goes in, a diagnosis comes out. A sign of illness counts
only when it has been there at every snapshot for so many steps; how long it has, is part of the training's state.
"""

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

LN2 = math.log(2)
LN2_ERROR = 1e-6  # of a mean of float32; losses of a living discriminator do not stay so near for two steps
FLAT = 1e-6  # less than this is no difference: between logits, or in the variance of images in [-1, 1]

# One that gives every image the same logit cannot be woken by any image. What Adam remembers is gone by then, too.
FLAT_STEPS = 100
# With a rectified head one rare image may do it: published, seed 3, lay without a gradient for 602 steps and rose.
ASLEEP_STEPS = 1000
# A guess costs D 0.7: what it learns keeps it near or below that.
EXPLODED_LOSS = 10.0
EXPLODED_STEPS = 100
# The mean derivative of d_loss by a logit is 0.34 to 0.59 in the first 3000 steps of a healthy run (tuned).
WON_SLOPE = 1e-3
WON_STEPS = 3000  # as long as there is a slope at all, it may yet turn
# Of the variance of real images: tuned has 0.005 after 10 steps, 0.3 after 100, 0.45 after 1000, 0.75 after 3000;
# published, noise as it is, 0.5 or more.
LEAST_DIVERSITY = 0.1
WARM_UP_STEPS = 1000
COLLAPSED_STEPS = 1000
# The judge sees 1 class in the first samples (tuned), 3 after 500 steps, 7 or more after 1000, 10 after 2000. A run at
# a tenth of the learning rate shall not be called collapsed.
FEW_CLASSES = 3
CLASSES_FROM = 10_000
MAX_ATTEMPTS = 4

Kind = Literal["not_finite", "constant_data", "exploded", "dead_discriminator", "discriminator_won", "collapse"]
Action = Literal["ignored", "failed", "rolled_back", "restarted"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # the gravest first: it is the cause of those after it
ADVICE: dict[Kind, str] = {
    "not_finite": "Start another run with a lower --learning-rate or another --seed.",
    "constant_data": "Check what is in the data directory; no seed mends that.",
    "exploded": "Start another run with a lower --learning-rate.",
    "dead_discriminator": "Start another run with another --seed, or with --recipe tuned.",
    "discriminator_won": "Start another run with a lower --learning-rate.",
    "collapse": "Start another run with a lower --learning-rate or another --seed.",
}


class Vitals(BaseModel):
    """Hold what is measured of a training at a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    g_loss: float  # means over the steps since the snapshot before
    d_loss: float
    stuck_steps: int  # the last steps, in a row, at which both losses were ln 2
    spread: float  # greatest less least of D's logits over real images and fakes
    accuracy: float  # share of them that D takes for what they are
    slope: float  # mean size of d_loss's derivative by a logit, as if it were alone; 0: D learns nothing more
    variance: float  # of samples, summed over the pixels
    real_variance: float
    num_classes: int | None  # that the judge sees in the samples; None: it was not asked


class HealthEvent(BaseModel):
    """Hold one line of metrics.jsonl: an illness, and what was done about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    event: Kind
    attempt: int  # of the run's tries, from 1
    step: int  # the snapshot at which it was found; of NaN, the step itself
    since: int  # the first step with it, or the first snapshot where only those were looked at
    finding: str
    action: Action
    to_step: int | None  # training went on from this state; None: it was not sent back
    seed: int | None  # that it was restarted on
    vitals: Vitals | None  # None of what is not finite

    def __str__(self) -> str:
        done = {
            "ignored": "training went on",
            "failed": "training ended",
            "rolled_back": f"back to step {self.to_step:,} with fresh latents" if self.to_step is not None else "",
            "restarted": f"started over with seed {self.seed}",
        }
        return f"step {self.step:,}: {self.finding}, since step {self.since:,}: {done[self.action]}"


class Health(BaseModel):
    """Hold what the referee remembers of a training: part of its state, and saved with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rewinds: tuple[int, ...] = ()  # the step that each try but the first began after
    signs: dict[Kind, int] = {}  # since which step each has been there
    events: tuple[HealthEvent, ...] = ()

    def is_news(self, kind: Kind) -> bool:
        """Tell whether an illness is no more of what is ignored already, nor what comes of that."""
        return all(KINDS.index(kind) < KINDS.index(event.event) for event in self.events if event.action == "ignored")

    def with_event(self, event: HealthEvent) -> "Health":
        """Return the same with one more event."""
        return self.model_copy(update={"events": (*self.events, event)})


class Illness(NamedTuple):
    """What is wrong with a training, and since when."""

    kind: Kind
    since: int
    finding: str


def diagnose(before: dict[Kind, int], step: int, vitals: Vitals) -> tuple[dict[Kind, int], Illness | None]:
    """Return the signs of illness at a snapshot, with the step since which each is there, and the gravest illness.

    Args:
        before: the signs at the snapshot before.
    """
    found = _signs(step, vitals)
    since = {kind: before.get(kind, step) for kind in found}
    if "dead_discriminator" in found and vitals.stuck_steps:
        since["dead_discriminator"] = step - vitals.stuck_steps + 1  # the losses of every step know it better
    for kind in KINDS:
        if kind in found and step - since[kind] >= found[kind][0]:
            return since, Illness(kind, since[kind], found[kind][1])
    return since, None


def stuck_steps(g_losses: np.ndarray, d_losses: np.ndarray) -> int:
    """Count the last steps, in a row, at which both losses (N,) were ln 2."""
    alive = (np.abs(g_losses - LN2) > LN2_ERROR) | (np.abs(d_losses - LN2) > LN2_ERROR)
    return int(alive[::-1].argmax()) if alive.any() else len(alive)


def _signs(step: int, vitals: Vitals) -> dict[Kind, tuple[int, str]]:
    """Return the signs at a snapshot, each with the steps for which it must last to count, and in words."""
    signs: dict[Kind, tuple[int, str]] = {}
    if not (math.isfinite(vitals.spread) and math.isfinite(vitals.variance)):
        signs["not_finite"] = 0, "NaN or Inf: a logit or a sample"
    if vitals.real_variance <= FLAT:
        signs["constant_data"] = 0, "constant data: the real images of a batch are all alike"
    losses = f"g_loss {vitals.g_loss:.4g}, d_loss {vitals.d_loss:.4g}"
    if vitals.d_loss > EXPLODED_LOSS:
        signs["exploded"] = EXPLODED_STEPS, f"exploded: D errs by orders of magnitude; {losses}"
    if vitals.spread <= FLAT:
        signs["dead_discriminator"] = FLAT_STEPS, f"dead discriminator: it gives all images one logit; {losses}"
    elif vitals.slope == 0 and vitals.accuracy < 1:
        signs["dead_discriminator"] = ASLEEP_STEPS, f"dead discriminator: it has no gradient; {losses}"
    elif vitals.slope <= WON_SLOPE and vitals.accuracy == 1:
        patience = WON_STEPS if vitals.slope else ASLEEP_STEPS
        signs["discriminator_won"] = patience, f"the discriminator has won for good: it is always right; {losses}"
    diversity = vitals.variance / max(vitals.real_variance, FLAT)
    if step >= WARM_UP_STEPS and diversity < LEAST_DIVERSITY:
        signs["collapse"] = COLLAPSED_STEPS, f"collapse: samples vary {diversity:.1%} as much as real images"
    elif step >= CLASSES_FROM and vitals.num_classes is not None and vitals.num_classes <= FEW_CLASSES:
        signs["collapse"] = COLLAPSED_STEPS, f"collapse: {vitals.num_classes} of 10 classes in the samples"
    return signs
