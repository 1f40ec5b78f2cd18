"""By which judge are runs of a data set compared with its champion, and how does a machine get that judge?

The judge of an imported set lies beside it. A bucket gets a copy, so that all machines have the same one. There its
weights and its reference have their SHA-256 as their names, and the card, which names them, is written last and once.
"""

import logging
from pathlib import Path

from gan.data.dataset import Dataset
from gan.errors import DataError
from gan.evaluation.evaluator import Evaluator
from gan.evaluation.judge import CARD, REFERENCE_NAME, WEIGHTS_NAME, JudgeCard, judge_of, mnist_judge, read_card
from gan.files import atomic_write, verified
from gan.sets.catalog import find_set
from gan.sets.loading import JUDGE
from gan.sets.set_manifest import SetManifest
from gan.sets.set_store import find_or_get, prefix_of
from gan.storage.base import Store
from gan.storage.local import LocalStore

log = logging.getLogger(__name__)


def evaluator_of(data: Dataset, device: str) -> Evaluator | None:
    """Return an evaluator with the judge of a data set; None where an imported set has no judge yet.

    Raises as `Evaluator` and `judge_of` do.
    """
    if data.judge_folder is None:
        return Evaluator(data, device)
    judge = mnist_judge(device) if data.is_mnist else judge_of(data, device)
    return Evaluator(data, device, judge) if judge else None


def fetch_judged_set(store: Store, sets_dir: Path, address: str, *, shares: bool = False) -> str:
    """Find a set on this machine, or copy it from a bucket, and so with its judge. Return its NAME@SHA-256.

    If it `shares`, a bucket that has no judge of the set gets that of this machine.

    Raises as `find_or_get` and `share_judge` do.
    """
    if isinstance(store, LocalStore):
        folder = find_set(sets_dir, address)
    else:
        folder = find_or_get(store, sets_dir, address)
        if shares or not (folder / JUDGE / CARD).exists():
            share_judge(store, folder)
    return SetManifest.read(folder).address


def no_judge(name: str) -> str:
    """Say what is to be done where a data set has no judge."""
    return f"{name} has no judge yet; `gan judge train --data {name}` trains it"


def share_judge(store: Store, set_folder: Path) -> None:
    """Copy the judge of a set into a store that has none, or from the store where the folder has none.

    Where both have one, both stay. The judge of a private set stays on its machine, as its images do.

    Raises:
        DataError: one of them is damaged, or another version made it.
        StorageError: the store cannot be read or written, or the disk refuses.
    """
    manifest = SetManifest.read(set_folder)
    if manifest.facts.private:
        return
    folder, prefix = set_folder / JUDGE, f"{prefix_of(manifest.name, manifest.sha256)}{JUDGE}/"
    raw = store.read(f"{prefix}{CARD}")
    if (folder / CARD).exists():
        if raw is None:
            _put(store, prefix, folder)
    elif raw is not None:
        _get(store, prefix, folder, raw)


def _put(store: Store, prefix: str, folder: Path) -> None:
    card = read_card(folder)
    for name, sha256 in _files(card).items():
        store.put(f"{prefix}{sha256}.safetensors", folder / name, sha256)
    store.put_new(f"{prefix}{CARD}", (folder / CARD).read_bytes())


def _get(store: Store, prefix: str, folder: Path, raw: bytes) -> None:
    """Copy a judge from a store, its card last: a folder without a card has no judge."""
    where = f"{prefix}{CARD} in {store.address}"
    try:
        card = JudgeCard.model_validate_json(raw)
    except ValueError as error:
        raise DataError(f"{where} is damaged, or of another version. Delete it, and train the judge again.") from error
    for name, sha256 in _files(card).items():
        key = f"{prefix}{sha256}.safetensors"

        def damaged(found: str, key: str = key, sha256: str = sha256) -> DataError:
            return DataError(
                f"{key} in {store.address}: SHA-256 expected {sha256}, found {found}. Delete {prefix}{CARD}, and "
                "train the judge again."
            )

        atomic_write(folder / name, verified(store.get(key), sha256, damaged))
    atomic_write(folder / CARD, raw)
    log.info("%s: the judge was copied from %s", folder, store.address)


def _files(card: JudgeCard) -> dict[str, str]:
    """Return the SHA-256 of the files of a judge, by name."""
    return {WEIGHTS_NAME: card.weights_sha256, REFERENCE_NAME: card.reference_sha256}
