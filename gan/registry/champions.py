"""Which champions does a store have, and which of them does an address name?"""

import re
from pathlib import Path

from gan.config import DATA_ADDRESS
from gan.errors import StorageError
from gan.registry.champion import CHAMPION, CHAMPIONS, Change, History, champion_of, read_history
from gan.sets.loading import MNIST
from gan.storage.address import is_remote, open_store
from gan.storage.base import Store

DEFAULT_STORE = "store"
NAME = "champion"  # after a store's address: its champion
KEY = re.compile(rf"{CHAMPIONS}[0-9a-f]{{64}}\.json")
FULL = re.compile(r".*@[0-9a-f]{64}")


def find_champion(address: str, named: str | None = None) -> tuple[Store, Change] | None:
    """Return the store and its champion for the address `champion` (of ./store) or STORE/champion; None for others.

    A path that exists is not such an address. `named` is the data set, as in `data_of_champion`.

    Raises:
        StorageError: the store has no such champion, or cannot be read.
    """
    parent, _, name = address.rpartition("/")
    if name != NAME or f"/{parent}".endswith("/runs") or (not is_remote(address) and Path(address).exists()):
        return None
    store = open_store(parent or DEFAULT_STORE)
    return store, champion_of(store, data_of_champion(store, named))


def histories(store: Store) -> dict[str, History]:
    """Return the history of every champion, MNIST's first, by its key.

    Raises:
        StorageError: the store cannot be read, or one of them is damaged.
    """
    keys = sorted(info.key for info in store.list(CHAMPIONS) if KEY.fullmatch(info.key))
    found = ((key, read_history(store, key)) for key in (CHAMPION, *keys))
    return {key: each.history for key, each in found if each}


def data_of_champion(store: Store, named: str | None) -> str | None:
    """Return the data set, NAME@SHA-256, whose champion NAME or NAME@SHA names; None for MNIST, and for no name.

    It is looked up among the champions of the store, so that the set need not be on this machine.

    Raises:
        StorageError: the store has no champion of such a set, or of several; the message lists them.
    """
    if named in (None, MNIST):
        return None
    if not DATA_ADDRESS.fullmatch(named):
        raise StorageError(f"{named!r} names no data set. Give it as NAME or NAME@SHA, SHA of 8 digits or more.")
    if FULL.fullmatch(named):
        return named
    name, _, sha256 = named.partition("@")
    known = [history.data for history in histories(store).values() if history.data]
    found = [data for data in known if data.split("@")[0] == name and data.split("@")[1].startswith(sha256)]
    if len(found) == 1:
        return found[0]
    choices = "".join(f"\n  {data}" for data in ("mnist", *(found or known)))
    if found:
        raise StorageError(f"{store.address} has champions of {len(found)} data sets {named}. Name one:{choices}")
    raise StorageError(
        f"{store.address} has no champion of {named} yet. `gan-train --data {named}` promotes the first run that it "
        f"measures. There may be one of:{choices}"
    )
