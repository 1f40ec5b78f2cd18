"""Does the referee's benchmark tell right from wrong?"""

import pytest

from benchmarks.referee import Watched, watch
from gan.health import HealthEvent, Kind
from tests.support.digits import mnist


def said(kind: Kind, step: int) -> HealthEvent:
    return HealthEvent(event=kind, attempt=1, step=step, since=1, finding="", action="ignored", to_step=None, seed=None,
                       vitals=None)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "died", "events", "verdict"),
    [
        ("published", 298, [said("dead_discriminator", 2000)], "right"),
        ("published", 298, [said("dead_discriminator", 3000)], "at the wrong time"),
        ("published", 2500, [said("dead_discriminator", 2000)], "at the wrong time"),
        ("published", 298, [], "missed"),
        ("published", 4500, [], "too late to tell"),
        ("published", None, [], "right"),
        ("published", None, [said("dead_discriminator", 2000)], "false alarm"),
        ("published", None, [said("collapse", 5000)], "right"),
        ("tuned", None, [said("collapse", 5000)], "false alarm"),
    ],
)
def test_the_referee_is_judged_by_the_losses(
    recipe: str, died: int | None, events: list[HealthEvent], verdict: str
) -> None:
    assert Watched(recipe, 0, 6000, died, tuple(events), 0.001).verdict == verdict


def test_a_training_that_is_watched_lives() -> None:
    found = watch("tuned", 0, 10, mnist(), snapshot_steps=10)
    assert (found.died, found.events, found.verdict) == (None, (), "right") and 0 < found.share < 1
    assert str(found).endswith("nothing said")
