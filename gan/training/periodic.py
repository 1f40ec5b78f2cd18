"""How good are the samples during training, at a cost of at most 2 % of its time?"""

import logging

from gan.config import RunConfig
from gan.data.dataset import Dataset
from gan.engine.state import TrainState
from gan.errors import ChecksumError, DataError
from gan.evaluation.evaluator import NUM_QUICK, Evaluator
from gan.evaluation.results import QuickEvaluation, least_share
from gan.health import CLASSES_FROM
from gan.recipes.draw import draw

EVERY_SNAPSHOTS = 5
MIN_STEPS = 1_000  # between two evaluations: one takes about as long as 70 steps of a small network
LEAST_EXPECTED = 10  # samples of a class: where there are fewer, a class may be missing by chance
SEED = 1  # the same latents each time, and others than `gan evaluate` uses, because these choose the best checkpoint

log = logging.getLogger(__name__)


class PeriodicEvaluator:
    """Evaluate a training at every 5th snapshot and at the last, but at most every MIN_STEPS steps.

    It has a random stream of its own and does not change the state. It does nothing in a run shorter than MIN_STEPS.
    On a data set that the classifier does not know it logs this once and does nothing.
    """

    def __init__(self, config: RunConfig, data: Dataset) -> None:
        self.config = config
        self.data = data
        self._evaluator: Evaluator | None = None
        self._is_unknown_data = False
        self._warned_of: set[int] = set()

    def is_due(self, step: int) -> bool:
        """Return whether the snapshot at `step` should be evaluated."""
        num_steps, snapshot_steps = self.config.num_steps, self.config.snapshot_steps
        every = snapshot_steps * max(EVERY_SNAPSHOTS, -(-MIN_STEPS // snapshot_steps))
        return num_steps >= MIN_STEPS and (step % every == 0 or step == num_steps)

    def evaluate(self, state: TrainState) -> QuickEvaluation | None:
        """Evaluate 2,000 samples if the snapshot is due. Raises ChecksumError if the classifier's files are damaged."""
        if self._is_unknown_data or not self.is_due(state.step):
            return None
        try:
            self._evaluator = self._evaluator or Evaluator(self.data, self.config.device)
        except ChecksumError:
            raise
        except DataError as error:
            self._is_unknown_data = True
            log.info("training continues without evaluations: %s", error)
            return None
        images = draw(state.sampler.eval(), self.config.latent_dim, NUM_QUICK, SEED)
        state.generator.train()
        found = self._evaluator.evaluate_quick(images)
        self._warn_of_lost_classes(state.step, found)
        return found

    def _warn_of_lost_classes(self, step: int, found: QuickEvaluation) -> None:
        """Log each class that the training images have and the samples lack, once, when the training is old enough.

        Without labels there are no classes. Of many classes, some may be missing among so few samples by chance.
        """
        shares = found.class_shares
        if not shares or found.num_samples < LEAST_EXPECTED * len(shares):
            return
        lost = [label for label in self.data.main_classes if shares[label] <= least_share(len(shares))]
        new = [label for label in lost if label not in self._warned_of]
        if step >= CLASSES_FROM and new:
            self._warned_of.update(new)
            digits = ", ".join(map(str, lost))
            log.warning("step %s: the samples lack %s, which the training images have", f"{step:,}", digits)
