"""Which store, which data and which run does a flow run use? Read from the environment, in this file alone."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from prefect.runtime import flow_run

from gan.cli.common_options import DEFAULT_DATA_DIR, DEFAULT_SETS_DIR, data_words
from gan.cli.options import recipe_words
from gan.config import RECIPE_ADDRESS, TrainConfig
from gan.data.download import mirrors_from_env
from gan.data.mirrors import check_mirrors
from gan.errors import SettingError
from gan.runs.manifest import check_run_id
from gan.storage.address import is_remote, open_store
from gan.storage.s3_settings import check_public_endpoint

DEFAULT_STORE = "store"


@dataclass(frozen=True)
class Settings:
    """Hold what a flow run reads from its environment."""

    run_id: str
    store: str
    data_dir: Path
    mirrors: tuple[str, ...]
    pinned: bool  # accept MNIST only, not another data set of 28x28 images
    from_scratch: bool
    sets_dir: Path = DEFAULT_SETS_DIR
    default_seed: int = 0  # for a config without a seed
    recipe: str = TrainConfig().recipe

    @classmethod
    def from_env(cls, recipe: str = TrainConfig().recipe) -> Self:
        """Read the environment, for a run of this recipe.

        Raises:
            StorageError: GAN_RUN_ID cannot be a folder's name, GAN_STORE is not the address of a store, or
                S3_PUBLIC_ENDPOINT_URL is not an address.
            SettingError: a switch is neither 1 nor 0.
            DataError: GAN_MNIST_MIRRORS names something else than a mirror.
        """
        run_id = os.environ.get("GAN_RUN_ID") or str(flow_run.id)
        check_run_id(run_id)
        store = store_from_env()
        open_store(store)
        if is_remote(store):
            check_public_endpoint()
        mirrors = tuple(mirrors_from_env())
        check_mirrors(mirrors)  # before `command` shows them: what is no mirror may have a password in it
        return cls(
            run_id=run_id,
            store=store,
            data_dir=Path(os.environ.get("GAN_DATA_DIR") or DEFAULT_DATA_DIR),
            mirrors=mirrors,
            pinned=not _is_on("GAN_NO_PINNED_HASH"),
            from_scratch=_is_on("GAN_FROM_SCRATCH"),
            sets_dir=Path(os.environ.get("GAN_SETS_DIR") or DEFAULT_SETS_DIR),
            default_seed=_scheduled_seed() if _is_on("GAN_SEED_BY_SCHEDULE") else 0,
            recipe=recipe,
        )

    @property
    def run_path(self) -> Path:
        """Return the run directory: the published one in a local store, or ./store/runs/RUN-ID for a bucket."""
        return run_path_in(self.store, self.run_id)

    @property
    def is_remote(self) -> bool:
        """Return whether the store is a bucket. The run directory is then a working copy."""
        return is_remote(self.store)

    @property
    def command(self) -> str:
        """Return the command that resumes this run, or publishes it if it is trained."""
        words = ["gan-train", "--run-id", self.run_id]
        if self.store != DEFAULT_STORE:
            words += ["--store", self.store]
        data = data_words(self.data_dir, self.mirrors, self.pinned, self.sets_dir)
        return shlex.join([*words, *recipe_words(self.recipe), *data])


def store_from_env() -> str:
    """Return the address of the store."""
    return os.environ.get("GAN_STORE") or DEFAULT_STORE


def recipes_from_env() -> list[str]:
    """Return the recipes, besides the built-in ones, that a worker takes. Importing one runs its code.

    Raises:
        SettingError: GAN_RECIPES has something else in it than addresses of recipes.
    """
    names = [name.strip() for name in os.environ.get("GAN_RECIPES", "").split(",") if name.strip()]
    for name in names:
        if not RECIPE_ADDRESS.match(name):
            raise SettingError(
                f"GAN_RECIPES has {name[:200]!r} in it, which is no address of a recipe. Give PACKAGE.MODULE:NAME, "
                "separated by commas."
            )
    return names


def run_path_in(store: str, run_id: str) -> Path:
    """Return the directory in which a run of a store is trained."""
    return Path(DEFAULT_STORE if is_remote(store) else store, "runs", run_id)


def _is_on(name: str) -> bool:
    """Return whether a variable is 1. Raises SettingError if it is anything else than 1, 0 or empty."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SettingError(f"{name} is {value!r}. Set it to 1 to switch it on, or to 0 to leave it off.")
    return value == "1"


def _scheduled_seed() -> int:
    """Return the time for which this flow run is scheduled as a number, such as 202611240300 (UTC)."""
    return int(f"{flow_run.scheduled_start_time:%Y%m%d%H%M}")
