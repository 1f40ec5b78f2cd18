"""When does a run replace the champion?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gan.errors import StorageError
from gan.evaluation.classifier import ClassifierOutputs, classify
from gan.evaluation.comparison import compare
from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
from gan.evaluation.judge import WEIGHTS_SHA256
from gan.evaluation.results import BETTER, Comparison, Evaluation, Metric
from gan.files import temporary_folder
from gan.recipes.draw import draw
from gan.registry.champion import Change, History, append, is_stored, not_promoted, read_champion
from gan.runs import layout
from gan.runs.manifest import Manifest
from gan.runs.sampling import load_sampler
from gan.storage.base import Store
from gan.sync.fetch import fetch_files
from gan.sync.stored_run import StoredRun

SO_FAR = "champion so far"
NO_FIGURE = "-"  # of a champion that is not there, or was measured by another judge
SEED = 0  # of the latents, the same for every run that is measured


@dataclass(frozen=True)
class Challenger:
    """A checkpoint of a published run, and its figures by the present classifier."""

    run_id: str
    step: int
    sha256: str  # of the checkpoint
    evaluation: Evaluation
    seen: ClassifierOutputs


class ChampionComparison(BaseModel):
    """A challenger compared with the champion."""

    model_config = ConfigDict(frozen=True)

    comparison: Comparison
    champion: Evaluation = Field(description="Of the champion, by the present judge.")


Compare = Callable[[Change], ChampionComparison | None]  # None: the champion's run was deleted from the store


class Decision(BaseModel):
    """What was decided about a run, and why."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    outcome: Literal["promoted", "kept", "unchanged"] = Field(
        description="kept: the champion stays. unchanged: the run is the champion already."
    )
    run_id: str
    step: int
    champion: str | None = Field(description="Run id of the champion before; null where there was none.")
    reason: str
    evaluation: Evaluation = Field(description="Of the run.")
    before: Evaluation | None = Field(None, exclude=True, description="Of the champion before, by the present judge.")
    compared: ChampionComparison | None = Field(
        None,
        serialization_alias="meeting",
        description="With the champion before; null where it was not compared.",
    )

    def to_json(self) -> str:
        """Return the decision as `gan champion promote --json` prints it."""
        return self.model_dump_json(by_alias=True)

    def __str__(self) -> str:
        verdict = {
            "promoted": f"{self.run_id} is the champion now",
            "kept": f"{self.champion} stays the champion, not {self.run_id}",
            "unchanged": f"{self.run_id} stays the champion",
        }
        return f"{verdict[self.outcome]}: {self.reason}"

    def columns(self, names: Mapping[str, str]) -> list[str]:
        """Return a line for the run and one for the champion, as the columns of `rows` are called.

        `names` has what people call the runs, by their ids.
        """
        run = _called(names.get(self.run_id), f"{self.run_id}, step {self.step:,}")
        champion = _called(names.get(self.champion), self.champion) if self.champion else "none"
        return [f"run: {run}", f"{SO_FAR}: {champion}"]

    def rows(self) -> list[dict[str, str]]:
        """Return a table of figures, with columns for the run, the champion so far and real images.

        No cell is long, so that a page shows all columns.
        """
        champion = self.compared.champion if self.compared else self.before
        rows = []
        for name in type(self.evaluation).model_fields:
            metric = getattr(self.evaluation, name)
            if isinstance(metric, Metric):
                their = getattr(champion, name, None)
                theirs = _value(their) if their else NO_FIGURE
                rows.append(_row(name.replace("_", " "), BETTER[name], _value(metric), theirs, f"{metric.floor:.3f}"))
        covered, theirs = (str(each.classes_covered) if each else NO_FIGURE for each in (self.evaluation, champion))
        floor = str(len(self.evaluation.class_shares))
        return [*rows, _row("classes covered", BETTER["classes_covered"], covered, theirs, floor)]


def measure(
    run: StoredRun, evaluator: Evaluator, champion: Change | None = None, num_samples: int = NUM_SAMPLES
) -> Challenger:
    """Measure a published run by its best checkpoint; a champion by the checkpoint that was promoted.

    Where the champion has figures by the present classifier, these are used, and not measured again.

    Raises:
        StorageError: there is no such published run, or it cannot be read.
        ChecksumError: a file is not what the manifest says, or not what was promoted.
    """
    manifest = run.published_manifest()
    name = champion.checkpoint if champion else best_checkpoint(manifest)
    if champion and (name not in manifest.files or manifest.files[name].sha256 != champion.sha256):
        raise not_promoted(run.where(name), champion, str(manifest.files.get(name, "no such file")))
    with temporary_folder() as folder:  # not the cache: it would grow with each champion of a worker
        fetch_files(run, manifest, (file for file in manifest.files if file.startswith(name)), folder)
        network, config, step = load_sampler(folder / name)
    images = draw(network, config.latent_dim, num_samples, SEED)
    seen = classify(evaluator.classifier, images)
    known = champion.evaluation if champion and champion.evaluation.judge == WEIGHTS_SHA256 else None
    evaluation = known or evaluator.evaluate(images, seen)
    # A copy of a run directory has the manifest of the first one: the address names the run.
    return Challenger(run.run_id or manifest.run_id, step, manifest.files[name].sha256, evaluation, seen)


def best_checkpoint(manifest: Manifest) -> str:
    """Return the name of the best checkpoint where the manifest says which it is, else of the last one."""
    if manifest.best:
        return layout.checkpoint(manifest.best.step)
    steps = layout.checkpoint_steps(manifest.files)
    if not steps:
        raise StorageError(
            f"run {manifest.run_id} was published without a checkpoint, so it cannot be measured. Measure another run."
        )
    return layout.checkpoint(steps[-1])


def comparer(store: Store, challenger: Challenger, evaluator: Evaluator) -> Compare:
    """Return a function that measures a champion of a store and compares the challenger with it."""
    return partial(_compare_with, store, challenger, evaluator)


def _compare_with(
    store: Store, challenger: Challenger, evaluator: Evaluator, champion: Change
) -> ChampionComparison | None:
    if not is_stored(store, champion):
        return None
    run = StoredRun(store, champion.run_id)
    measured = measure(run, evaluator, champion, challenger.evaluation.num_samples)
    comparison = compare(challenger.seen, measured.seen, evaluator.reference.features)
    return ChampionComparison(comparison=comparison, champion=measured.evaluation)


def promote(
    store: Store,
    challenger: Challenger,
    compare_with: Compare,
    by: str,
    *,
    force: bool = False,
    reason: str | None = None,
) -> Decision:
    """Make a run the champion if it is better than the present one by more than the noise; return the decision.

    Where another process changes the champion meanwhile, the run must be better than the new champion. With `force`
    no comparison is made; `reason` then says why.

    Raises:
        StorageError: the store, or the champion in it, cannot be read or written.
        ChecksumError: the champion's checkpoint is not the one that was promoted.
    """
    while True:
        found = read_champion(store)
        decision = _decide(found.history, challenger, compare_with, force, reason)
        if decision.outcome != "promoted" or append(store, found, _change(decision, challenger, by)):
            return decision


def _decide(
    history: History, challenger: Challenger, compare_with: Compare, force: bool, reason: str | None
) -> Decision:
    current = history.current
    if current and (current.run_id, current.sha256) == (challenger.run_id, challenger.sha256):
        return _decision("unchanged", challenger, current, "it is the champion already")
    if force:
        return _decision("promoted", challenger, current, f"by hand{f': {reason}' if reason else ''}")
    if current is None:
        return _decision("promoted", challenger, None, "it is the first one")
    if challenger.run_id in history.run_ids:
        before = "it was the champion before and can be again only by hand: gan champion promote --force"
        return _decision("kept", challenger, current, before)
    compared = compare_with(current)
    if compared is None:
        return _decision("promoted", challenger, current, f"the champion, {current.run_id}, was deleted from the store")
    measured_again = ""
    if current.evaluation.judge != WEIGHTS_SHA256:
        measured_again = "; both were measured again, since the judge has changed"
    outcome: Literal["promoted", "kept"] = "promoted" if compared.comparison.is_better else "kept"
    return _decision(outcome, challenger, current, f"{compared.comparison}{measured_again}", compared)


def _decision(
    outcome: Literal["promoted", "kept", "unchanged"],
    challenger: Challenger,
    current: Change | None,
    reason: str,
    compared: ChampionComparison | None = None,
) -> Decision:
    return Decision(
        outcome=outcome,
        run_id=challenger.run_id,
        step=challenger.step,
        champion=current.run_id if current else None,
        reason=reason,
        evaluation=challenger.evaluation,
        before=current.evaluation if current and current.evaluation.judge == WEIGHTS_SHA256 else None,
        compared=compared,
    )


def _change(decision: Decision, challenger: Challenger, by: str) -> Change:
    return Change(
        action="promoted",
        by=by,
        reason=decision.reason,
        run_id=challenger.run_id,
        step=challenger.step,
        sha256=challenger.sha256,
        evaluation=challenger.evaluation,
        comparison=decision.compared.comparison if decision.compared else None,
    )


def _value(metric: Metric) -> str:
    return f"{metric.value:.3f} ± {metric.error:.3f}"


def _called(name: str | None, run_id: str) -> str:
    return f"{name} ({run_id})" if name else run_id


def _row(figure: str, better: str, run: str, champion: str, real: str) -> dict[str, str]:
    return {"figure": figure, "better": better, "run": run, SO_FAR: champion, "real images": real}
