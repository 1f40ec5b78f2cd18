"""What is each process of a check asked to do?"""

from dataclasses import dataclass

from gan.config import TrainConfig

BATCH = 32
TRACE, FINDINGS = "trace.jsonl", "findings.json"


@dataclass(frozen=True)
class Trial:
    """What one process shall do."""

    recipe: str
    folder: str  # in which it writes
    num_steps: int
    kill_after: int = 0  # the step after which it kills itself; 0: it trains to the end
    watches: bool = False  # whether it looks for the sources of differences, and what it costs

    @property
    def config(self) -> TrainConfig:
        """Return what is asked for: snapshots on the way, of which a resume takes one, and no diagnosis."""
        return TrainConfig(
            recipe=self.recipe,
            num_steps=self.num_steps,
            snapshot_steps=snapshot_steps(self.num_steps),
            batch_size=BATCH,
            device="cpu",
            num_threads=1,
            on_collapse="ignore",
        )


def snapshot_steps(num_steps: int) -> int:
    """Return how many steps lie between two snapshots of a check: a quarter of all."""
    return max(num_steps // 4, 1)
