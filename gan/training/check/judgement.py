"""Does a recipe resume bit for bit, and if not, why? Three processes train it: undisturbed, killed, and resumed."""

import json
import subprocess
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from gan.errors import RecipeError
from gan.files import temporary_folder
from gan.training.check.outcome import RANDOM, Difference, Findings, RecipeCheck
from gan.training.check.plan import FINDINGS, TRACE, Trial, snapshot_steps

LEAST_STEPS = 4
ROOT = Path(__file__).parents[3]  # the folder that has gan/
# The folder comes last, and -P keeps the working directory out: the recipe is found as every command finds it.
PROGRAM = f"import sys; sys.path.append({str(ROOT)!r}); from gan.training.check.trial import main; main(sys.argv[1])"
SLACK = 1e-4  # beyond -1 and 1, of an image that is rounded

Trace = dict[int, dict[str, str]]  # the hash of each tensor, by step


def check_recipe(recipe: str, num_steps: int) -> RecipeCheck:
    """Train a recipe, built in or by its address, with and without a SIGKILL, and compare every byte of the state.

    Raises RecipeError where a process ends in another way than by an error of the recipe.
    """
    snapshot = snapshot_steps(num_steps)
    killed_after = num_steps // 2 + (num_steps // 2 % snapshot == 0)  # between two snapshots, if that is possible
    with temporary_folder() as folder:
        whole, parts = folder / "whole", folder / "parts"
        findings = _run(Trial(recipe, str(whole), num_steps, watches=True))
        difference = None
        if findings.error is None:
            _run(Trial(recipe, str(parts), num_steps, kill_after=killed_after))
            expected, before = _read(whole / TRACE), _read(parts / TRACE)
            difference = _compare(expected, before, "repeated")
            if difference is None:
                (parts / TRACE).unlink()
                after = _run(Trial(recipe, str(parts), num_steps))
                findings.error, findings.traceback = after.error, after.traceback
                difference = _compare(expected, _read(parts / TRACE), "resumed")
    faults = faults_of(findings, difference)
    return RecipeCheck(
        **findings.model_dump(),
        traceback=findings.traceback,
        recipe=recipe,
        passed=not faults,
        num_steps=num_steps,
        killed_after=killed_after,
        difference=difference,
        faults=faults,
    )


def _run(trial: Trial) -> Findings:
    """Run a trial in a process of its own, and return what it has found; nothing where it was to be killed."""
    folder = Path(trial.folder)
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(asdict(trial))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if trial.kill_after and done.returncode == -9:
        return Findings()
    if done.returncode or not (folder / FINDINGS).exists():
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RecipeError(f"recipe {trial.recipe}: a process that trains it ended unexpectedly: {lines[-1]}")
    return Findings.model_validate_json((folder / FINDINGS).read_bytes())


def _read(path: Path) -> Trace:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["step"]: line["tensors"] for line in lines}


def _compare(expected: Trace, found: Trace, between: str) -> Difference | None:
    """Return the first difference of two trainings at the steps that both have."""
    for step in sorted(expected.keys() & found.keys()):
        ours, theirs = expected[step], found[step]
        names = [name for name in chain(ours, theirs.keys() - ours.keys()) if ours.get(name) != theirs.get(name)]
        if names:
            fields = {"between": between, "step": step, "tensor": names[0], "num_others": len(names) - 1}
            return Difference.model_validate(fields)
    return None


def faults_of(findings: Findings, difference: Difference | None) -> list[str]:
    """Return why a recipe has not passed."""
    if findings.error:
        return [findings.error]
    faults = [str(difference)] if difference else []
    for source in findings.sources:
        if difference or source.kind in RANDOM:
            faults.append(f"a step depends on what no checkpoint has: {source}")
    if difference and not findings.sources:
        faults.append("what a step depends on besides its inputs was not found: look for datetime, files or extensions")
    if findings.images and not -1 - SLACK <= findings.images.low <= findings.images.high <= 1 + SLACK:
        faults.append(f"images lie in {findings.images}, expected [-1, 1]")
    return faults
