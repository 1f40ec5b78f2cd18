"""Which runs does a store hold, and which of them are published?"""

from collections import defaultdict
from datetime import UTC
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from gan.errors import RunError
from gan.runs import layout
from gan.runs.config_file import parse_fields
from gan.runs.provenance import Provenance, run_name
from gan.storage.base import ObjectInfo, Store
from gan.sync.stored_run import ATTEMPTS, RUNS, StoredRun


class RunInfo(BaseModel):
    """One run of a store, as its file names and its config.json describe it. Only `verify` reads every byte."""

    version: Literal[1] = 1
    run_id: str
    state: Literal["published", "unfinished"] = Field(description="published: it has a manifest, the last file put.")
    steps: int = Field(description="Step of the newest checkpoint; 0 before the first.")
    num_steps: int | None = Field(description="Steps the run is to have; null when config.json does not say.")
    recipe: str | None = Field(description="Null when config.json does not say.")
    seed: int | None = Field(description="Null when config.json does not say.")
    created: str | None = Field(description="When it was begun: ISO 8601, UTC; null when provenance.json does not say.")
    bytes: int = Field(description="Size of all its files.")
    updated: str = Field(description="When the newest of them was written, by the store's clock: ISO 8601, UTC.")

    @property
    def name(self) -> str:
        """Return what people call the run."""
        return run_name(self.recipe, self.num_steps, self.seed, self.created)


Versions = dict[StoredRun, dict[str, ObjectInfo]]  # a run by its own keys and as each holder has written it


def list_runs(store: Store) -> list[RunInfo]:
    """Return the runs of a store, ordered by id. A run that is being written may be among them."""
    return _describe_all(store, (RUNS, ATTEMPTS))


def find_run(run: StoredRun) -> RunInfo | None:
    """Return what a store has of one run, or None where it has no file of it."""
    return next(iter(_describe_all(run.store, (run.prefix, f"{ATTEMPTS}{run.run_id}/"))), None)


def _describe_all(store: Store, prefixes: tuple[str, ...]) -> list[RunInfo]:
    runs: dict[str, Versions] = defaultdict(lambda: defaultdict(dict))
    for prefix in prefixes:
        for info in store.list(prefix):
            run, name = _split(store, info.key)
            if name:
                runs[run.run_id][run][name] = info
    return [_describe(versions) for _, versions in sorted(runs.items())]


def _split(store: Store, key: str) -> tuple[StoredRun, str]:
    """Return the run to which a key belongs, by its own keys or as a holder has written it, and the file's name."""
    kind, run_id, rest = (*key.split("/", 2), "")[:3]
    if f"{kind}/" == RUNS:
        return StoredRun(store, run_id), rest
    token, _, name = rest.partition("/")
    return StoredRun(store, run_id, token), name


def stored_name(run: StoredRun) -> str:
    """Return what people call a run, as far as its files say; it is empty where they say nothing."""
    config = _read_config(run)
    return run_name(config.get("recipe"), config.get("num_steps"), config.get("seed"), _read_created(run))


def _describe(versions: Versions) -> RunInfo:
    """Describe a run by the version that is published, else by the one that is furthest."""
    run, files = max(versions.items(), key=_rank)
    found = [info for each in versions.values() for info in each.values()]
    config = _read_config(run) if layout.CONFIG in files else {}
    return RunInfo(
        run_id=run.run_id,
        state="published" if _is_published(run, files) else "unfinished",
        steps=max(layout.checkpoint_steps(files), default=0),
        num_steps=config.get("num_steps"),
        recipe=config.get("recipe"),
        seed=config.get("seed"),
        created=_read_created(run) if layout.PROVENANCE in files else None,
        bytes=sum(info.size for info in found),
        updated=max(info.modified for info in found).astimezone(UTC).isoformat(timespec="seconds"),
    )


def _rank(version: tuple[StoredRun, dict[str, ObjectInfo]]) -> tuple[bool, int, int]:
    run, files = version
    return _is_published(run, files), max(layout.checkpoint_steps(files), default=0), run.number


def _is_published(run: StoredRun, files: dict[str, ObjectInfo]) -> bool:
    return not run.token and layout.MANIFEST in files


def _read_config(run: StoredRun) -> dict[str, Any]:
    """Return the fields of config.json; none where it is damaged, so that one bad run does not hide the others."""
    try:
        fields = parse_fields(run.read(layout.CONFIG) or b"", run.where(layout.CONFIG))
    except RunError:
        return {}
    kinds = {"recipe": str, "num_steps": int, "seed": int}
    return {name: fields[name] for name, kind in kinds.items() if isinstance(fields.get(name), kind)}


def _read_created(run: StoredRun) -> str | None:
    """Return when the run was begun, or None where provenance.json is damaged."""
    try:
        return Provenance.model_validate_json(run.read(layout.PROVENANCE) or b"").created
    except ValidationError:
        return None
