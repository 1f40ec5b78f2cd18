"""How good are the samples while training goes on, for at most a fiftieth of its time?"""

import logging

from gan.config import TrainConfig
from gan.data.download import Mnist
from gan.engine.state import TrainState
from gan.errors import ChecksumError, DataError
from gan.evaluation.evaluator import NUM_QUICK, Evaluator, QuickEvaluation
from gan.recipes.draw import draw

EVERY_SNAPSHOTS = 5
MIN_STEPS = 1_000  # between two evaluations, each of which costs about as much as 70 steps of a small network
SEED = 1  # the same latents each time, and not those of `gan evaluate`: by these the best checkpoint is chosen

log = logging.getLogger(__name__)


class QuickJudge:
    """Evaluate a training at every 5th snapshot, rarer where snapshots are dense, and at the last.

    Draws from a random stream of its own, and leaves the state as it is. A run shorter than 1,000 steps is not
    evaluated, nor is one on a data set that the judge does not know, which the log says once.
    """

    def __init__(self, config: TrainConfig, data: Mnist) -> None:
        self.config = config
        self.data = data
        self._evaluator: Evaluator | None = None
        self._is_stranger = False

    def is_due(self, step: int) -> bool:
        """Tell whether the snapshot of a step is to be evaluated."""
        num_steps, snapshot_steps = self.config.num_steps, self.config.snapshot_steps
        assert num_steps is not None
        every = snapshot_steps * max(EVERY_SNAPSHOTS, -(-MIN_STEPS // snapshot_steps))
        return num_steps >= MIN_STEPS and (step % every == 0 or step == num_steps)

    def evaluate(self, state: TrainState) -> QuickEvaluation | None:
        """Measure 2,000 samples of a snapshot that is due. Raises ChecksumError when the judge's files are damaged."""
        if self._is_stranger or not self.is_due(state.step):
            return None
        try:
            self._evaluator = self._evaluator or Evaluator(self.data, self.config.device)
        except ChecksumError:
            raise
        except DataError as error:
            self._is_stranger = True
            log.info("training goes on without evaluations: %s", error)
            return None
        images = draw(state.sampler.eval(), self.config.latent_dim, NUM_QUICK, SEED)
        state.generator.train()
        return self._evaluator.quick(images)
