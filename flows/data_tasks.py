"""Where does a flow run get its images?"""

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.retries import without_secrets, worth_retrying
from flows.settings import Settings
from gan.cli.progress import show_download
from gan.config import TrainConfig
from gan.data.dataset import Dataset, load_dataset, validate_dataset
from gan.data.download import download_dataset
from gan.data.shared import download_from_store, upload_to_store
from gan.registry.judging import share_judge
from gan.runs.config_file import data_of
from gan.sets.catalog import find_set
from gan.sets.loading import load_set
from gan.sets.set_manifest import SetManifest
from gan.sets.set_store import find_or_get, put_set
from gan.storage.address import open_store


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
@without_secrets
def download_mnist(settings: Settings) -> None:
    """Download the files that are missing or damaged in the data directory.

    A bucket is the first mirror, and gets the files that it lacks. So the machines of a cluster download them once.
    """
    store = open_store(settings.store) if settings.is_remote and settings.pinned else None
    if store:
        download_from_store(store, settings.data_dir)
    with show_download() as progress:
        download_dataset(settings.data_dir, settings.mirrors, pinned=settings.pinned, progress=progress)
    if store:
        upload_to_store(store, settings.data_dir)


@task(cache_policy=NO_CACHE, retries=0)
@without_secrets
def validate_mnist(settings: Settings) -> None:
    """Read every byte of the four files and check them."""
    validate_dataset(settings.data_dir, pinned=settings.pinned)


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
@without_secrets
def fetch_set(address: str, settings: Settings) -> None:
    """Find an imported data set on this machine, or copy it from the bucket. A bucket gets it, unless it is private.

    So it is with the judge of the set, if there is one.
    """
    if not settings.is_remote:
        find_set(settings.sets_dir, address)
        return
    store = open_store(settings.store)
    folder = find_or_get(store, settings.sets_dir, address)
    if not SetManifest.read(folder).facts.private:
        put_set(store, folder)
        share_judge(store, folder)


def set_of(config: TrainConfig, settings: Settings) -> str | None:
    """Return which imported data set a run is made from: as its config says, or as the run itself. None: MNIST."""
    return config.data or data_of(settings.run_path)


def load_data(config: TrainConfig, settings: Settings) -> Dataset:
    """Return the images of a run, after a check of every byte."""
    if address := set_of(config, settings):
        return load_set(settings.sets_dir, address)
    return load_dataset(settings.data_dir, pinned=settings.pinned)
