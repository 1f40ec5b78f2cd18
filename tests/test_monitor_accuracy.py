"""Does the benchmark of the monitor find its right and its wrong reports?"""

import pytest

from benchmarks.monitor_accuracy import MonitoredTraining, train_monitored
from gan.health import HealthEvent, Kind
from tests.support.digits import mnist


def event(kind: Kind, step: int) -> HealthEvent:
    return HealthEvent(event=kind, attempt=1, step=step, since=1, finding="", action="ignored", to_step=None, seed=None,
                       vitals=None)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "dead_since", "events", "verdict"),
    [
        ("published", 298, [event("dead_discriminator", 2000)], "right"),
        ("published", 298, [event("dead_discriminator", 3000)], "at the wrong time"),
        ("published", 2500, [event("dead_discriminator", 2000)], "at the wrong time"),
        ("published", 298, [], "missed"),
        ("published", 4500, [], "too late to tell"),
        ("published", None, [], "right"),
        ("published", None, [event("dead_discriminator", 2000)], "false alarm"),
        ("published", None, [event("collapse", 5000)], "right"),
        ("tuned", None, [event("collapse", 5000)], "false alarm"),
    ],
)
def test_the_verdict_on_the_monitor_follows_from_the_losses(
    recipe: str, dead_since: int | None, events: list[HealthEvent], verdict: str
) -> None:
    assert MonitoredTraining(recipe, 0, 6000, dead_since, tuple(events), 0.001).verdict == verdict


def test_a_monitored_training_of_tuned_works() -> None:
    found = train_monitored("tuned", 0, 10, mnist(), snapshot_steps=10)
    assert (found.dead_since, found.events, found.verdict) == (None, (), "right") and 0 < found.monitor_share < 1
    assert str(found).endswith("no events")
