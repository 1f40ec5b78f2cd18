"""What does `import gan` offer to a Python program?

Each name is imported when it is first used, so that importing `gan` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan.config import RunConfig, TrainConfig
    from gan.data.batches import Batches
    from gan.data.dataset import Dataset, load_dataset
    from gan.data.download import download_dataset
    from gan.engine.state import TrainState
    from gan.errors import GanError
    from gan.evaluation.evaluator import Evaluator
    from gan.evaluation.results import Evaluation
    from gan.recipes.draw import draw
    from gan.recipes.resolve import resolve
    from gan.runs.sampling import load_sampler
    from gan.storage.address import open_store
    from gan.training.loop import Snapshot, train
    from gan.training.runner import Run, open_run

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "Dataset",
    "Evaluation",
    "Evaluator",
    "GanError",
    "Run",
    "RunConfig",
    "Snapshot",
    "TrainConfig",
    "TrainState",
    "__version__",
    "download_dataset",
    "draw",
    "load_dataset",
    "load_sampler",
    "open_run",
    "open_store",
    "resolve",
    "train",
]

_MODULES = {
    "Batches": "gan.data.batches",
    "Dataset": "gan.data.dataset",
    "Evaluation": "gan.evaluation.results",
    "Evaluator": "gan.evaluation.evaluator",
    "GanError": "gan.errors",
    "Run": "gan.training.runner",
    "RunConfig": "gan.config",
    "Snapshot": "gan.training.loop",
    "TrainConfig": "gan.config",
    "TrainState": "gan.engine.state",
    "download_dataset": "gan.data.download",
    "draw": "gan.recipes.draw",
    "load_dataset": "gan.data.dataset",
    "load_sampler": "gan.runs.sampling",
    "open_run": "gan.training.runner",
    "open_store": "gan.storage.address",
    "resolve": "gan.recipes.resolve",
    "train": "gan.training.loop",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would take every name for an attribute of any type

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'gan' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
