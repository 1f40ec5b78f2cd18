"""When does a run replace the champion of its data set?"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from gan.data.data_note import DataNote
from gan.errors import StorageError
from gan.evaluation.classifier import ClassifierOutputs, classify
from gan.evaluation.comparison import compare
from gan.evaluation.evaluator import NUM_SAMPLES, Evaluator
from gan.evaluation.results import BETTER, Comparison, Evaluation, Metric, named_shares
from gan.files import temporary_folder
from gan.recipes.draw import draw
from gan.registry.champion import Change, History, append, is_stored, not_promoted, read_champion
from gan.runs import layout
from gan.runs.manifest import Manifest
from gan.runs.provenance import note_of
from gan.runs.sampling import load_sampler
from gan.storage.base import Store
from gan.sync.fetch import fetch_files
from gan.sync.stored_run import StoredRun

SO_FAR = "champion so far"
NO_FIGURE = "-"  # of a champion that is not there, or was measured by another judge
MAX_CLASS_ROWS = 50  # of a table in Prefect's UI
SEED = 0  # of the latents, the same for every run that is measured


@dataclass(frozen=True)
class Challenger:
    """A checkpoint of a published run, and its figures by the present judge of its data set."""

    run_id: str
    step: int
    sha256: str  # of the checkpoint
    evaluation: Evaluation
    seen: ClassifierOutputs
    data: DataNote | None = None  # the imported data set; None: MNIST
    real_shares: tuple[float, ...] = ()  # of the classes among the test images, where they have names


class ChampionComparison(BaseModel):
    """A challenger compared with the champion."""

    model_config = ConfigDict(frozen=True)

    comparison: Comparison
    champion: Evaluation = Field(description="Of the champion, by the present judge.")


class NotCompared(NamedTuple):
    """Why a challenger cannot be compared with a champion, and what follows from that."""

    outcome: Literal["promoted", "kept"]
    reason: str


Compare = Callable[[Change], ChampionComparison | NotCompared]


class Decision(BaseModel):
    """What was decided about a run, and why."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    outcome: Literal["promoted", "kept", "unchanged"] = Field(
        description="kept: the champion stays. unchanged: the run is the champion already."
    )
    run_id: str
    step: int
    data: DataNote | None = Field(
        None, description="The imported data set; left out where it is MNIST.", exclude_if=lambda value: value is None
    )
    champion: str | None = Field(description="Run id of the champion before; null where there was none.")
    reason: str
    evaluation: Evaluation = Field(description="Of the run.")
    real_shares: tuple[float, ...] = Field((), exclude=True, description="Of the classes among real images.")
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
        champion = f"the champion of {self.data.name}" if self.data else "the champion"
        verdict = {
            "promoted": f"{self.run_id} is {champion} now",
            "kept": f"{self.champion} stays {champion}, not {self.run_id}",
            "unchanged": f"{self.run_id} stays {champion}",
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
        if not self.evaluation.class_shares:  # the images have no labels
            return rows
        covered, theirs = (str(each.classes_covered) if each else NO_FIGURE for each in (self.evaluation, champion))
        num_classes = str(len(named_shares(self.evaluation.class_shares, self.data.classes if self.data else ())))
        rows.append(_row("classes covered", BETTER["classes_covered"], covered, theirs, num_classes))
        return rows + self._class_rows(champion)

    def _class_rows(self, champion: Evaluation | None) -> list[dict[str, str]]:
        """Return a row for each class that has a name, with its share of the samples and of real images."""
        names = self.data.classes[:MAX_CLASS_ROWS] if self.data else []
        shares = [each.class_shares if each else [] for each in (self.evaluation, champion)]
        columns = zip_longest(*shares, self.real_shares)
        return [
            _row(f"class {name}", "as real", *(NO_FIGURE if share is None else f"{share:.1%}" for share in row))
            for name, row in zip(names, columns, strict=False)
        ]


def measure(
    run: StoredRun, evaluator: Evaluator, champion: Change | None = None, num_samples: int = NUM_SAMPLES
) -> Challenger:
    """Measure a published run by its best checkpoint; a champion by the checkpoint that was promoted.

    The evaluator is of the run's data set. Where the champion has figures by its judge, these are used, and not
    measured again.

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
    note = note_of(config.data, run.read(layout.PROVENANCE), run.address) if config.data else None
    images = draw(network, config.latent_dim, num_samples, SEED)
    seen = classify(evaluator.classifier, images)
    known = champion.evaluation if champion and champion.evaluation.judge == evaluator.judge.sha256 else None
    evaluation = known or evaluator.evaluate(images, seen)
    # A copy of a run directory has the manifest of the first one: the address names the run.
    return Challenger(
        run.run_id or manifest.run_id,
        step,
        manifest.files[name].sha256,
        evaluation,
        seen,
        note,
        _real_shares(evaluator, note),
    )


def _real_shares(evaluator: Evaluator, note: DataNote | None) -> tuple[float, ...]:
    return tuple(evaluator.reference.class_shares.tolist()) if note and note.classes else ()


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
) -> ChampionComparison | NotCompared:
    if not is_stored(store, champion):
        return NotCompared("promoted", f"the champion, {champion.run_id}, was deleted from the store")
    if challenger.data and champion.evaluation.judge != challenger.evaluation.judge:
        return NotCompared("kept", _two_judges(store, challenger, champion))
    run = StoredRun(store, champion.run_id)
    measured = measure(run, evaluator, champion, challenger.evaluation.num_samples)
    comparison = compare(challenger.seen, measured.seen, evaluator.reference.features, evaluator.judge.sha256)
    return ChampionComparison(comparison=comparison, champion=measured.evaluation)


def _two_judges(store: Store, challenger: Challenger, champion: Change) -> str:
    """Say why figures of two judges of an imported set are not compared, and what to do.

    MNIST's judge is part of this package: there a new version measures both again. The judge of a set may be another
    on another machine, and then neither of them is known to be the better one.
    """
    again, this = (
        shlex.join(["gan", "champion", "promote", *force, f"{store.address}/runs/{run_id}"])
        for force, run_id in ((["--force"], champion.run_id), ([], challenger.run_id))
    )
    return (
        f"the champion was measured by the judge {champion.evaluation.judge}, and this run by the judge "
        f"{challenger.evaluation.judge}; figures of two judges are not compared. If the judge on this machine is the "
        f"right one, measure the champion by it, then compare this run: `{again}`, `{this}`. If it is not, remove the "
        f"folder `judge` beside the set, and use the one of the champion"
    )


def promote(
    store: Store,
    challenger: Challenger,
    compare_with: Compare,
    by: str,
    *,
    force: bool = False,
    reason: str | None = None,
) -> Decision:
    """Make a run the champion of its data set if it is better than the present one by more than the noise.

    Return the decision.

    Where another process changes the champion meanwhile, the run must be better than the new champion. With `force`
    no comparison is made; `reason` then says why.

    Raises:
        StorageError: the store, or the champion in it, cannot be read or written.
        ChecksumError: the champion's checkpoint is not the one that was promoted.
    """
    while True:
        found = read_champion(store, challenger.data.address if challenger.data else None)
        decision = _decide(found.history, challenger, compare_with, force, reason)
        if decision.outcome != "promoted" or append(store, found, _change(decision, challenger, by)):
            return decision


def _decide(
    history: History, challenger: Challenger, compare_with: Compare, force: bool, reason: str | None
) -> Decision:
    current = history.current
    same_judge = current is not None and current.evaluation.judge == challenger.evaluation.judge
    is_current = current is not None and (current.run_id, current.sha256) == (challenger.run_id, challenger.sha256)
    if is_current and (same_judge or not force):  # by hand, it is measured by another judge
        return _decision("unchanged", challenger, current, "it is the champion already")
    if force:
        return _decision("promoted", challenger, current, f"by hand{f': {reason}' if reason else ''}")
    if current is None:
        return _decision("promoted", challenger, None, "it is the first one")
    if challenger.run_id in history.run_ids:
        before = "it was the champion before and can be again only by hand: gan champion promote --force"
        return _decision("kept", challenger, current, before)
    compared = compare_with(current)
    if isinstance(compared, NotCompared):
        return _decision(compared.outcome, challenger, current, compared.reason)
    measured_again = "" if same_judge else "; both were measured again, since the judge has changed"
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
        data=challenger.data,
        real_shares=challenger.real_shares,
        champion=current.run_id if current else None,
        reason=reason,
        evaluation=challenger.evaluation,
        before=current.evaluation if current and current.evaluation.judge == challenger.evaluation.judge else None,
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
        data=challenger.data,
    )


def _value(metric: Metric) -> str:
    return f"{metric.value:.3f} ± {metric.error:.3f}"


def _called(name: str | None, run_id: str) -> str:
    return f"{name} ({run_id})" if name else run_id


def _row(figure: str, better: str, run: str, champion: str, real: str) -> dict[str, str]:
    return {"figure": figure, "better": better, "run": run, SO_FAR: champion, "real images": real}
