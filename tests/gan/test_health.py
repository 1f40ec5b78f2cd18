"""Is each failure diagnosed in time, and no healthy training diagnosed?"""

import math

import numpy as np
import pytest

from gan.health import Health, HealthEvent, Kind, Vitals, diagnose, stuck_steps

LIVELY = Vitals(
    g_loss=1.05, d_loss=0.56, stuck_steps=0, spread=4.0, accuracy=0.8, slope=0.35, variance=110.0, real_variance=210.0,
    num_classes=None,
)  # fmt: skip


def failing(**fields: object) -> Vitals:
    return LIVELY.model_copy(update=fields)


EXPLODED = failing(d_loss=50.0)
NO_GRADIENT = failing(slope=0.0, accuracy=0.5)  # published, its last layer rectified to nothing
FLAT = failing(spread=0.0, accuracy=0.5, slope=0.5)
SATURATED = failing(accuracy=1.0, slope=0.0, g_loss=15000.0, d_loss=0.0)
WINNING = failing(accuracy=1.0, slope=5e-4)
ALIKE = failing(variance=2.0)
FEW = failing(num_classes=3)


def first_alarm(vitals: Vitals, interval: int, until: int = 30_000) -> tuple[Kind, int, int] | None:
    """Return (what, found at, since) of a training that has these vitals at every snapshot."""
    signs: dict[Kind, int] = {}
    for step in range(interval, until + 1, interval):
        signs, diagnosis = diagnose(signs, step, vitals)
        if diagnosis:
            return diagnosis.kind, step, diagnosis.since
    return None


@pytest.mark.parametrize("interval", [1, 10, 1000])
def test_a_healthy_training_has_no_diagnosis(interval: int) -> None:
    assert first_alarm(LIVELY, interval) is None


@pytest.mark.parametrize(
    ("vitals", "alarm"),
    [
        (EXPLODED, ("exploded", 2000, 1000)),
        (NO_GRADIENT, ("dead_discriminator", 2000, 1000)),
        (FLAT, ("dead_discriminator", 2000, 1000)),
        (SATURATED, ("discriminator_won", 2000, 1000)),
        (WINNING, ("discriminator_won", 4000, 1000)),
        (ALIKE, ("collapse", 2000, 1000)),
        (FEW, ("collapse", 11_000, 10_000)),
        (failing(real_variance=0.0), ("constant_data", 1000, 1000)),
        (failing(spread=math.nan), ("not_finite", 1000, 1000)),
        (failing(accuracy=1.0, slope=0.0, variance=0.0), ("discriminator_won", 2000, 1000)),  # the cause comes first
    ],
)
def test_each_failure_is_diagnosed_at_snapshots_1000_steps_apart(vitals: Vitals, alarm: tuple[Kind, int, int]) -> None:
    assert first_alarm(vitals, 1000) == alarm


@pytest.mark.parametrize(
    ("found", "real_classes", "said"),
    [
        (1, 1, None),
        (2, 5, None),
        (0, 1, "0 of 1 classes"),
        (1, 5, "1 of 5 classes"),
        (3, 10, "3 of 10 classes"),
        (8, 26, None),
        (7, 26, "7 of 26 classes"),
        (20, 1000, None),
        (19, 1000, "19 of 1000 classes"),
    ],
)
def test_the_classes_that_the_training_images_lack_are_not_missed(
    found: int, real_classes: int, said: str | None
) -> None:
    _, diagnosis = diagnose({"collapse": 10_000}, 11_000, failing(num_classes=found), real_classes)
    assert (diagnosis and diagnosis.finding) == (said and f"collapse: {said} in the samples")


@pytest.mark.parametrize("vitals", [NO_GRADIENT, SATURATED, WINNING, ALIKE, FEW])
def test_a_short_run_of_many_snapshots_may_have_poor_vitals(vitals: Vitals) -> None:
    assert first_alarm(vitals, 10, until=900) is None


@pytest.mark.parametrize("vitals", [NO_GRADIENT, SATURATED, WINNING, ALIKE])
def test_a_sign_that_disappears_counts_from_the_beginning(vitals: Vitals) -> None:
    signs, _ = diagnose({}, 1000, vitals)
    signs, _ = diagnose(signs, 2000, LIVELY)
    assert signs == {}
    assert diagnose(signs, 3000, vitals)[1] is None


def test_stuck_losses_give_the_step_since_which_it_is_dead() -> None:
    _, diagnosis = diagnose({}, 2000, failing(slope=0.0, accuracy=0.5, stuck_steps=1001))
    assert diagnosis and (diagnosis.kind, diagnosis.since) == ("dead_discriminator", 1000)


def test_a_discriminator_that_recovers_in_between_is_not_diagnosed() -> None:
    """As published does with seed 3: without a gradient from step 684 to 1285, and from 1287 on."""
    signs, _ = diagnose({}, 1000, failing(slope=0.0, accuracy=0.5, stuck_steps=317))
    assert signs == {"dead_discriminator": 684}
    signs, diagnosis = diagnose(signs, 2000, failing(slope=0.0, accuracy=0.5, stuck_steps=714))
    assert (signs, diagnosis) == ({"dead_discriminator": 1287}, None)


def test_stuck_steps_counts_from_the_end_where_both_losses_are_ln_2() -> None:
    ln2 = np.float32(math.log(2))
    g_losses = np.array([ln2, 0.7, ln2, ln2, ln2], np.float32)
    d_losses = np.array([ln2, ln2, 0.5, ln2, ln2], np.float32)
    assert stuck_steps(g_losses, d_losses) == 2
    assert stuck_steps(g_losses[:3], d_losses[:3]) == 0
    assert stuck_steps(g_losses[3:], d_losses[3:]) == 2
    assert stuck_steps(g_losses[:0], d_losses[:0]) == 0


def test_after_an_ignored_diagnosis_only_a_more_severe_one_is_new() -> None:
    event = HealthEvent(event="discriminator_won", attempt=1, step=3000, since=1000, finding="", action="ignored",
                        to_step=None, seed=None, vitals=None)  # fmt: skip
    ignoring = Health().with_event(event)
    assert ignoring.is_new("dead_discriminator") and Health().is_new("collapse")
    assert not ignoring.is_new("discriminator_won") and not ignoring.is_new("collapse")
