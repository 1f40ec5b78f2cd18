"""Which checkpoint of a run is the best, by the distance measured while it was trained? Light: no torch."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Best(BaseModel):
    """Name a checkpoint by its step, with its distance."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    step: int = Field(ge=1)
    distance: float = Field(description="As in metrics.jsonl at this step: of 2,000 samples, by the judge named there.")


def best_of(measured: Iterable[Best]) -> Best | None:
    """Return the one of least distance, the first of equals; None without any."""
    return min(measured, key=lambda each: each.distance, default=None)


def read_measured(metrics_path: Path) -> list[Best]:
    """Return what was measured by metrics.jsonl; lines that say nothing of it, or cannot be read, are left out."""
    measured = []
    lines = metrics_path.read_text(errors="replace").splitlines() if metrics_path.exists() else []
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            fields = json.loads(line)
            measured.append(Best(step=fields["step"], distance=fields["evaluation"]["distance"]))
    return measured
