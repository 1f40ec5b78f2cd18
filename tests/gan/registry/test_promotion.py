"""Does a published run become the champion if it is better, and only then?"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.errors import ChecksumError, StorageError
from gan.evaluation.classifier import NUM_FEATURES
from gan.evaluation.evaluator import Evaluator
from gan.evaluation.judge import WEIGHTS_SHA256
from gan.registry.champion import Change, read_champion
from gan.registry.promotion import (
    Challenger,
    ChampionComparison,
    Decision,
    NotCompared,
    best_checkpoint,
    comparer,
    measure,
    promote,
)
from gan.runs.manifest import Best, Manifest
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.training.runner import open_run
from tests.support.challengers import by_figures, challenger_at, evaluation
from tests.support.digits import mnist
from tests.support.publishing import publish
from tests.support.real_digits import real_digits
from tests.support.small_run import CHECKPOINTS, write_run

pytestmark = pytest.mark.usefixtures("small_networks")

NUM_SAMPLES = 300


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(real_digits())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with two bad runs, one of which is worse."""
    path = tmp_path_factory.mktemp("runs")
    for run_id, learning_rate in (("better", 6e-4), ("worse", 0.1)):
        config = TrainConfig(num_steps=4, learning_rate=learning_rate, lr_decay_start=1, ema_decay=0, num_threads=1)
        with open_run(path / run_id, config, mnist()) as run:
            list(run.train())
        publish(path / run_id, StoredRun(LocalStore(path / "store"), run_id))
    return path / "store"


@pytest.fixture
def store(runs: Path, tmp_path: Path) -> Store:
    return open_store(shutil.copytree(runs, tmp_path / "store"))


def measured(store: Store, run_id: str, evaluator: Evaluator) -> Challenger:
    return measure(StoredRun(store, run_id), evaluator, num_samples=NUM_SAMPLES)


def challenge(store: Store, run_id: str, evaluator: Evaluator, **options: object) -> Decision:
    challenger = measured(store, run_id, evaluator)
    return promote(store, challenger, comparer(store, challenger, evaluator), "me@here", **options)  # type: ignore[arg-type]


def champions(store: Store) -> list[str]:
    return [change.run_id for change in read_champion(store).history.history]


def test_a_run_is_measured_by_its_last_checkpoint(store: Store, evaluator: Evaluator) -> None:
    found = measured(store, "worse", evaluator)
    manifest = StoredRun(store, "worse").manifest()
    assert manifest and (found.run_id, found.step) == ("worse", 4)
    assert found.sha256 == manifest.files["checkpoints/step-000004.safetensors"].sha256
    assert found.seen.features.shape == (NUM_SAMPLES, NUM_FEATURES)
    assert found.evaluation.num_samples == NUM_SAMPLES
    with pytest.raises(StorageError, match=r"runs/none/manifest\.json in .* is missing: there is no such run"):
        measured(store, "none", evaluator)


def test_a_run_is_measured_by_its_best_checkpoint_if_the_manifest_names_one(tmp_path: Path) -> None:
    manifest = Manifest.of(write_run(tmp_path), "a")
    assert best_checkpoint(manifest) == CHECKPOINTS[1]
    assert best_checkpoint(manifest.model_copy(update={"best": Best(step=1000, distance=1.0)})) == CHECKPOINTS[0]
    with pytest.raises(StorageError, match="run a was published without a checkpoint"):
        best_checkpoint(manifest.model_copy(update={"files": {}}))


def test_the_first_is_promoted_a_better_one_replaces_it_and_a_worse_one_does_not(
    store: Store, evaluator: Evaluator
) -> None:
    first = challenge(store, "worse", evaluator)
    assert str(first) == "worse is the champion now: it is the first one"
    assert [row["champion so far"] for row in first.rows()] == ["-"] * 9
    assert first.columns({}) == ["run: worse, step 4", "champion so far: none"]
    second = challenge(store, "better", evaluator)
    assert (second.outcome, second.champion) == ("promoted", "worse")
    assert second.compared and second.compared.champion == first.evaluation
    third = challenge(store, "worse", evaluator)
    assert (third.outcome, champions(store)) == ("kept", ["worse", "better"])
    assert "it was the champion before and can be again only by hand" in third.reason


def test_a_worse_run_is_not_promoted_and_the_table_shows_both(store: Store, evaluator: Evaluator) -> None:
    challenge(store, "better", evaluator)
    kept = challenge(store, "worse", evaluator)
    assert (kept.outcome, champions(store)) == ("kept", ["better"])
    assert str(kept).startswith("better stays the champion, not worse: distance ")
    names = {"worse": "tuned, 4 steps", "better": "published, 4 steps"}
    assert kept.columns(names) == [
        "run: tuned, 4 steps (worse, step 4)", "champion so far: published, 4 steps (better)",
    ]  # fmt: skip
    rows = {row["figure"]: row for row in kept.rows()}
    assert all(len(cell) < 20 for row in kept.rows() for cell in row.values())
    assert list(rows)[:6] == ["distance", "kernel distance", "score", "precision", "recall", "histogram distance"]
    assert (rows["distance"]["better"], rows["score"]["better"]) == ("lower", "higher")
    assert kept.compared and float(rows["distance"]["champion so far"].split()[0]) == pytest.approx(
        kept.compared.comparison.champion_distance, abs=0.001
    )


def test_the_champion_compared_with_itself_changes_nothing(store: Store, evaluator: Evaluator) -> None:
    challenge(store, "worse", evaluator)
    for force in (False, True):
        again = challenge(store, "worse", evaluator, force=force)
        assert str(again) == "worse stays the champion: it is the champion already"
        assert {row["figure"]: row["run"] == row["champion so far"] for row in again.rows()}["distance"]
    assert champions(store) == ["worse"]


def test_by_hand_any_run_is_promoted(store: Store, evaluator: Evaluator) -> None:
    challenge(store, "better", evaluator)
    forced = challenge(store, "worse", evaluator, force=True, reason="to compare by eye")
    assert str(forced) == "worse is the champion now: by hand: to compare by eye"
    assert champions(store) == ["better", "worse"]


def test_if_the_classifier_has_changed_both_are_measured_again(store: Store, evaluator: Evaluator) -> None:
    other = evaluation(0.001).model_copy(update={"judge": "0" * 64})
    by_another_classifier = replace(measured(store, "worse", evaluator), evaluation=other)
    promote(store, by_another_classifier, by_figures(by_another_classifier), "me@here")
    decision = challenge(store, "better", evaluator)
    assert decision.outcome == "promoted"
    assert decision.reason.endswith("; both were measured again, since the judge has changed")
    assert decision.compared and decision.compared.champion == measured(store, "worse", evaluator).evaluation
    assert decision.compared.comparison.judge == WEIGHTS_SHA256


def test_a_champion_with_other_bytes_than_were_promoted_is_not_compared(store: Store, evaluator: Evaluator) -> None:
    changed = replace(measured(store, "better", evaluator), sha256="0" * 64)
    promote(store, changed, by_figures(changed), "me@here")
    with pytest.raises(
        ChecksumError, match=r"runs/better/checkpoints/.* is not the champion that was promoted: .* expected 0{64}"
    ):
        challenge(store, "worse", evaluator)
    assert challenge(store, "worse", evaluator, force=True).outcome == "promoted"


def test_a_champion_that_was_deleted_is_replaced(store: Store, evaluator: Evaluator) -> None:
    challenge(store, "better", evaluator)
    store.delete("runs/better/manifest.json")
    assert str(challenge(store, "worse", evaluator)) == (
        "worse is the champion now: the champion, better, was deleted from the store"
    )


def test_after_another_promotion_a_run_is_compared_with_the_new_champion(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for challenger in (challenger_at("a", 50), challenger_at("b", 40)):
        promote(store, challenger, by_figures(challenger), "me@here")
    middling, quick = challenger_at("middling", 30), challenger_at("quick", 20)
    seen: list[str] = []

    def compare_with(champion: Change) -> ChampionComparison | NotCompared:
        if not seen:
            promote(store, quick, by_figures(quick), "another")
        seen.append(champion.run_id)
        return by_figures(middling)(champion)

    decision = promote(store, middling, compare_with, "me@here")
    assert (decision.outcome, decision.champion, seen) == ("kept", "quick", ["b", "quick"])
    assert champions(store) == ["a", "b", "quick"]
