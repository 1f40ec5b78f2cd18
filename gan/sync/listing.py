"""Which runs does a store hold, and which of them are whole?"""

import json
import re
from collections import defaultdict
from datetime import UTC
from typing import Literal

from pydantic import BaseModel, Field

from gan.runs.manifest import MANIFEST
from gan.storage.base import ObjectInfo, Store
from gan.sync.publish import run_prefix

RUNS = "runs/"
CHAMPION = "champion.json"  # beside them; see gan.registry.champion
CHECKPOINT = re.compile(r"checkpoints/step-(\d+)\.safetensors")


class RunInfo(BaseModel):
    """Describe one run of a store, from its names and its config.json; `verify` is what reads its bytes."""

    version: Literal[1] = 1
    run_id: str
    state: Literal["published", "unfinished"] = Field(description="published: it has a manifest, the last file put.")
    steps: int = Field(description="Step of the newest checkpoint; 0 before the first.")
    num_steps: int | None = Field(description="Steps the run is to have; null when config.json does not say.")
    recipe: str | None = Field(description="Null when config.json does not say.")
    bytes: int = Field(description="Size of all its files.")
    updated: str = Field(description="When the newest of them was written, by the store's clock: ISO 8601, UTC.")


def list_runs(store: Store) -> list[RunInfo]:
    """Return the runs of a store, ordered by id; a run that is being written may be among them."""
    runs: dict[str, dict[str, ObjectInfo]] = defaultdict(dict)
    for info in store.list(RUNS):
        run_id, slash, name = info.key.removeprefix(RUNS).partition("/")
        if slash:
            runs[run_id][name] = info
    return [_describe(store, run_id, files) for run_id, files in sorted(runs.items())]


def _describe(store: Store, run_id: str, files: dict[str, ObjectInfo]) -> RunInfo:
    config = _read_config(store, run_prefix(run_id) + "config.json") if "config.json" in files else {}
    num_steps, recipe = config.get("num_steps"), config.get("recipe")
    checkpoints = [int(match[1]) for name in files if (match := CHECKPOINT.fullmatch(name))]
    return RunInfo(
        run_id=run_id,
        state="published" if MANIFEST in files else "unfinished",
        steps=max(checkpoints, default=0),
        num_steps=num_steps if isinstance(num_steps, int) else None,
        recipe=recipe if isinstance(recipe, str) else None,
        bytes=sum(info.size for info in files.values()),
        updated=max(info.modified for info in files.values()).astimezone(UTC).isoformat(timespec="seconds"),
    )


def _read_config(store: Store, key: str) -> dict[str, object]:
    """Return what config.json says, or nothing where it is damaged: one bad run must not hide the others."""
    try:
        config = json.loads(store.read(key) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
