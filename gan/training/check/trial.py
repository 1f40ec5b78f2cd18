"""What does a process do that trains a recipe for a check? It trains a small run, and writes down every step.

The recipe's code is imported in such a process alone. The training is that of every run: gan.training.runner.
"""

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from gan.config import RunConfig
from gan.data.batches import Real
from gan.data.dataset import Dataset
from gan.engine.base import Engine
from gan.errors import GanError
from gan.recipes.custom.fingerprint import fingerprint, package_files
from gan.recipes.custom.importing import permit
from gan.recipes.resolve import RECIPES
from gan.training.check.capture import refusals
from gan.training.check.outcome import Findings, Range
from gan.training.check.plan import BATCH, FINDINGS, TRACE, Trial
from gan.training.check.traps import Traps
from gan.training.runner import Run, open_run


def main(words: str) -> None:
    """Run the trial that a JSON object describes. An error of the recipe is written, not raised."""
    trial = Trial(**json.loads(words))
    findings = Findings()
    try:
        if trial.recipe not in RECIPES:
            permit(trial.recipe)
            findings.sha256 = fingerprint(trial.recipe).sha256
        _train(trial, findings)
    except GanError as error:
        findings.error = str(error)
        findings.traceback = traceback.format_exc()
    content = {**findings.model_dump(mode="json"), "traceback": findings.traceback}
    Path(trial.folder, FINDINGS).write_text(json.dumps(content))


def _train(trial: Trial, findings: Findings) -> None:
    files = set() if trial.recipe in RECIPES else package_files(trial.recipe)
    traps = Traps(files, trial.recipe.partition(":")[0].partition(".")[0])
    watch = _Watch(traps)
    with (
        Path(trial.folder, TRACE).open("a") as trace,
        open_run(Path(trial.folder, "run"), trial.config, _data(), resume=True) as run,
    ):
        with watch.steps(run) if trial.watches else _unwatched():
            for _ in run.train(lambda: _write_down(run, trial, trace)):
                pass
        _write_down(run, trial, trace)
        if trial.watches:
            watch.report(findings, run.config)


@contextmanager
def _unwatched() -> Iterator[None]:
    yield


def _write_down(run: Run, trial: Trial, trace: Any) -> bool:
    """Write a hash of each tensor of the state, which a step has just changed; then die, if it is time to."""
    tensors = {name: _hash(tensor) for name, tensor in run.state.tensors().items()}
    trace.write(json.dumps({"step": run.state.step, "tensors": tensors}) + "\n")
    trace.flush()
    if trial.kill_after and run.state.step == trial.kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return False


class _Watch:
    """Watch the steps of a training."""

    def __init__(self, traps: Traps) -> None:
        self.traps = traps
        self.seconds: list[float] = []
        self.images: list[tuple[float, float]] = []
        self.logits: list[tuple[float, float]] = []
        self.shape: list[int] = []

    @contextmanager
    def steps(self, run: Run) -> Iterator[None]:
        """Watch each step of the block."""
        take_step = Engine.step
        clock = time.perf_counter
        networks = {"generator": run.state.generator, "discriminator": run.state.discriminator}

        def watched(engine: Engine, real: Real, losses: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            with self.traps.set(networks):
                began = clock()
                fake = take_step(engine, real, losses, *args, **kwargs)
                self.seconds.append(clock() - began)
            self.shape = list(fake.shape)
            self.images.append((float(fake.min()), float(fake.max())))
            return fake

        def note(_module: Any, _inputs: Any, logits: Tensor) -> None:
            self.logits.append((float(logits.detach().min()), float(logits.detach().max())))

        handle = run.state.discriminator.register_forward_hook(note)
        Engine.step = watched  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            Engine.step = take_step  # type: ignore[method-assign]
            handle.remove()

    def report(self, findings: Findings, config: RunConfig) -> None:
        """Write what was found."""
        findings.sources = self.traps.sources
        findings.images_shape = self.shape
        findings.images, findings.logits = _range(self.images), _range(self.logits)
        findings.seconds_per_step = median(self.seconds)
        findings.graph = refusals(config, self.traps.line, self.traps.line_of)


def _range(values: list[tuple[float, float]]) -> Range | None:
    if not values:
        return None
    return Range(low=min(low for low, _ in values), high=max(high for _, high in values))


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


def _data() -> Dataset:
    """Return 10 kinds of stripes, with noise: a set that every recipe can begin to learn."""
    rng = np.random.default_rng(0)
    labels = np.arange(8 * BATCH, dtype=np.uint8) % 10
    waves = np.sin(np.arange(28)[None, :, None] * (labels[:, None, None] + 1) / 6)  # (N, 28, 1)
    noise = rng.normal(0, 20, (len(labels), 28, 28))
    images = np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)
    return Dataset(images, labels, images[:BATCH], labels[:BATCH], {"train-images-idx3-ubyte": "0" * 64})


if __name__ == "__main__":
    main(sys.argv[1])
