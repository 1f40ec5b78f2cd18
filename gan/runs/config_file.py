"""How is a run's config written to config.json and read back?"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gan.config import RunConfig
from gan.errors import RunError
from gan.recipes.resolve import recipe_of, stored_config
from gan.runs import layout

VERSION = 1


def config_bytes(config: RunConfig) -> bytes:
    """Return the content of config.json."""
    fields = {"version": VERSION, **config.model_dump(mode="json")}
    return (json.dumps(fields, indent=2) + "\n").encode()


def parse_fields(content: bytes, where: str) -> dict[str, Any]:
    """Return the fields in a config.json, unchecked. Raises RunError where it is damaged or of another version."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where}: cannot be read ({error}). Restore it from a copy.") from error
    if not isinstance(fields, dict) or fields.pop("version", None) != VERSION:
        raise RunError(
            f"{where}: not a config of version {VERSION}. Restore it from a copy, or use the gan-train that wrote it."
        )
    return fields


def parse_config(content: bytes, where: str) -> RunConfig:
    """Return the config in a config.json. Raises RunError where it is damaged or of another version."""
    try:
        return stored_config(parse_fields(content, where))
    except ValueError as error:
        raise RunError(
            f"{where}: no run can have this config ({faults_in(error)}). "
            "Restore it from a copy, or use the gan-train that wrote it."
        ) from error


def check_recipe(run_path: Path) -> None:
    """Refuse a run whose recipe is not built in and cannot be used here, before the work that its opening needs.

    Raises:
        RecipeError: it was not named, or cannot be imported.
        ConfigMismatchError: its code is not that of the run.
    """
    path = run_path / layout.CONFIG
    with suppress(OSError, RunError):  # there is no run yet, or it is refused when it is opened
        recipe_of(parse_config(path.read_bytes(), str(path)))


def faults_in(error: ValueError) -> str:
    """Return what is wrong with the fields of a config, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more


def data_of(run_path: Path) -> str | None:
    """Return which imported data set the run in a directory was made from.

    None: it was made from MNIST or the files of a folder, or its config.json is missing or damaged.
    """
    try:
        return parse_config((run_path / layout.CONFIG).read_bytes(), str(run_path)).data
    except (OSError, RunError):
        return None


def data_in(content: bytes | None) -> str | None:
    """Return which imported data set a config.json names; None where it names none, is missing or damaged.

    It imports no recipe, and is checked when the set is looked for.
    """
    with suppress(RunError):
        named = parse_fields(content or b"", layout.CONFIG).get("data")
        return named if isinstance(named, str) else None
    return None
