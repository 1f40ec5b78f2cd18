"""What does a run have to show to become the champion?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gan.errors import StorageError
from gan.evaluation.classifier import WEIGHTS_SHA256, ClassifierOutputs, classify
from gan.evaluation.comparison import Comparison, compare
from gan.evaluation.evaluator import NUM_SAMPLES, Evaluation, Evaluator, Metric
from gan.recipes.draw import draw
from gan.registry.champion import Change, append, checkpoint_name, is_gone, not_promoted, read_champion
from gan.runs.manifest import MANIFEST, Manifest, read_manifest
from gan.runs.sampling import load_sampler
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.fetch import fetch_files
from gan.sync.listing import CHECKPOINT
from gan.sync.publish import run_prefix

SEED = 0  # of the latents, for whoever is measured


@dataclass(frozen=True)
class Contender:
    """A checkpoint of a published run, and how good it was found by the present judge."""

    run_id: str
    step: int
    sha256: str  # of the checkpoint
    evaluation: Evaluation
    seen: ClassifierOutputs


class Meeting(BaseModel):
    """Hold what came of a contender's comparison with the champion."""

    model_config = ConfigDict(frozen=True)

    comparison: Comparison
    champion: Evaluation = Field(description="Of the champion, by the present judge.")


Meet = Callable[[Change], Meeting | None]  # None: the champion's run is not in the store any more


class Decision(BaseModel):
    """Say what `gan champion promote`, or the flow, has decided about a run, and why."""

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
    meeting: Meeting | None = Field(None, description="With the champion before; null where it was not compared.")

    def __str__(self) -> str:
        verdict = {
            "promoted": f"{self.run_id} is the champion now",
            "kept": f"{self.champion} stays the champion, not {self.run_id}",
            "unchanged": f"{self.run_id} stays the champion",
        }
        return f"{verdict[self.outcome]}: {self.reason}"

    def rows(self) -> list[dict[str, str]]:
        """Return a table of the figures, its columns the run, the champion before and real images."""
        champion = self.meeting.champion if self.meeting else None
        rows = [_row("run", f"{self.run_id}, step {self.step:,}", self.champion or "", "")]
        for name in type(self.evaluation).model_fields:
            if isinstance(metric := getattr(self.evaluation, name), Metric):
                theirs = _value(getattr(champion, name)) if champion else ""
                rows.append(_row(name.replace("_", " "), _value(metric), theirs, f"{metric.floor:.3f}"))
        covered, theirs = (str(each.classes_covered) if each else "" for each in (self.evaluation, champion))
        return [*rows, _row("classes covered", covered, theirs, "10")]


def measure(
    run: Store, evaluator: Evaluator, champion: Change | None = None, num_samples: int = NUM_SAMPLES
) -> Contender:
    """Measure a published run, the store at its own address, by the checkpoint that stands for it.

    Of a champion it is the checkpoint that was promoted; figures by the present judge are not taken twice.

    Raises:
        StorageError: there is no such published run, or it cannot be read.
        ChecksumError: a file is not what the manifest says, or not what was promoted.
    """
    manifest = read_manifest(run, "")
    if manifest is None:
        raise StorageError(f"{run.address} has no {MANIFEST}: there is no such run, or it is unfinished.")
    name = champion.checkpoint if champion else best_checkpoint(manifest)
    if champion and (name not in manifest.files or manifest.files[name].sha256 != champion.sha256):
        raise not_promoted(f"{name} in {run.address}", champion, str(manifest.files.get(name, "no such file")))
    with TemporaryDirectory(prefix="gan-") as folder:  # no cache: a worker would fill its disk, champion by champion
        fetch_files(run, "", manifest, (file for file in manifest.files if file.startswith(name)), Path(folder))
        network, config, step = load_sampler(Path(folder, name))
    images = draw(network, config.latent_dim, num_samples, SEED)
    seen = classify(evaluator.classifier, images)
    known = champion.evaluation if champion and champion.evaluation.judge == WEIGHTS_SHA256 else None
    evaluation = known or evaluator.evaluate(images, seen)
    return Contender(manifest.run_id, step, manifest.files[name].sha256, evaluation, seen)


def best_checkpoint(manifest: Manifest) -> str:
    """Return the checkpoint that stands for a run: the best one where the manifest names it, else the last."""
    if manifest.best:
        return checkpoint_name(manifest.best.step)
    steps = [int(match[1]) for name in manifest.files if (match := CHECKPOINT.fullmatch(name))]
    if not steps:
        raise StorageError(f"run {manifest.run_id} was published without a checkpoint: it cannot be measured.")
    return checkpoint_name(max(steps))


def meeting(store: Store, contender: Contender, evaluator: Evaluator) -> Meet:
    """Return what compares a contender with a champion of a store, judged anew."""

    def meet(champion: Change) -> Meeting | None:
        if is_gone(store, champion):
            return None
        run = open_store(f"{store.address}/{run_prefix(champion.run_id)}")
        rival = measure(run, evaluator, champion, contender.evaluation.num_samples)
        comparison = compare(contender.seen, rival.seen, evaluator.reference.features)
        return Meeting(comparison=comparison, champion=rival.evaluation)

    return meet


def promote(
    store: Store, contender: Contender, meet: Meet, by: str, *, force: bool = False, reason: str | None = None
) -> Decision:
    """Make a run the champion if it is better than the present one by more than the noise; say what was decided.

    Where somebody else changes the champion meanwhile, it has to be better than the new one. With `force` it need not
    be; `reason` then says why.

    Raises:
        StorageError: the store, or the champion in it, cannot be read or written.
        ChecksumError: the champion's checkpoint is not the one that was promoted.
    """
    while True:
        found = read_champion(store)
        decision = _decide(found.history.history, contender, meet, force, reason)
        if decision.outcome != "promoted" or append(store, found, _change(decision, contender, by)):
            return decision


def _decide(history: list[Change], contender: Contender, meet: Meet, force: bool, reason: str | None) -> Decision:
    current = history[-1] if history else None
    if current and (current.run_id, current.sha256) == (contender.run_id, contender.sha256):
        return _decision("unchanged", contender, current, "it is the champion already")
    if force:
        return _decision("promoted", contender, current, f"by hand{f': {reason}' if reason else ''}")
    if current is None:
        return _decision("promoted", contender, None, "it is the first one")
    if any(change.run_id == contender.run_id for change in history):
        again = "it was the champion before, and is one again by hand only: gan champion promote --force"
        return _decision("kept", contender, current, again)
    met = meet(current)
    if met is None:
        return _decision("promoted", contender, current, f"{current.run_id}, the champion, is gone from the store")
    judged_anew = "" if current.evaluation.judge == WEIGHTS_SHA256 else "; both judged anew, as the judge has changed"
    outcome: Literal["promoted", "kept"] = "promoted" if met.comparison.is_better else "kept"
    return _decision(outcome, contender, current, f"{met.comparison}{judged_anew}", met)


def _decision(
    outcome: Literal["promoted", "kept", "unchanged"],
    contender: Contender,
    current: Change | None,
    reason: str,
    met: Meeting | None = None,
) -> Decision:
    return Decision(
        outcome=outcome,
        run_id=contender.run_id,
        step=contender.step,
        champion=current.run_id if current else None,
        reason=reason,
        evaluation=contender.evaluation,
        meeting=met,
    )


def _change(decision: Decision, contender: Contender, by: str) -> Change:
    return Change(
        action="promoted",
        by=by,
        reason=decision.reason,
        run_id=contender.run_id,
        step=contender.step,
        sha256=contender.sha256,
        evaluation=contender.evaluation,
        comparison=decision.meeting.comparison if decision.meeting else None,
    )


def _value(metric: Metric) -> str:
    return f"{metric.value:.3f} ± {metric.error:.3f}"


def _row(figure: str, run: str, champion: str, real: str) -> dict[str, str]:
    return {"figure": figure, "run": run, "champion": champion, "real images": real}
