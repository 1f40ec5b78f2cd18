"""With which weights does a run begin that another run has trained before?

The run copies the checkpoint, whole, so that its SHA-256 in config.json proves the copy. Resume and --from-scratch read
the copy; the other run may change or go. Only data is read: a recipe that the other run names is not imported.
"""

from pathlib import Path
from typing import NamedTuple

import safetensors.torch
from torch import Tensor, nn

from gan.config import RunConfig
from gan.engine.state import TrainState
from gan.errors import CheckpointError, ConfigMismatchError
from gan.files import atomic_write, check_path, sha256_bytes
from gan.recipes.networks import make_networks
from gan.runs import checkpoint, layout
from gan.runs.checkpoint import Checkpoint

NUM_NAMED = 3  # tensors that do not fit


class InitialWeights(NamedTuple):
    """The checkpoint that a run begins from."""

    content: bytes
    sha256: str


def read_initial(path: Path, config: RunConfig) -> InitialWeights:
    """Read a checkpoint, or the newest good one of a run directory, for a run with this config.

    Raises:
        CheckpointError: there is no checkpoint, or none verifies.
        ConfigMismatchError: its networks have other tensors, or are conditioned otherwise.
        StorageError: this user may not read the folder.
    """
    check_path(path)
    if path.is_dir():
        step = checkpoint.use_newest(path, lambda found: found.step)
        if step is None:
            raise CheckpointError(f"{path}: there is no checkpoint yet to begin from. Train the run first.")
        path = checkpoint.path_of(path, step)
    content = checkpoint.read_verified(path)
    _check_fits(checkpoint.decode(content, path), config, path)
    return InitialWeights(content, sha256_bytes(content))


def copy_initial(path: Path | None, config: RunConfig, run_path: Path) -> RunConfig:
    """Copy what `read_initial` reads into a new run; return the run's config, with the SHA-256. Raises as it does.

    `path` is a copy of what the config names, where that is in a bucket. A run with fresh weights gets no copy.
    """
    if config.init_from is None:
        (run_path / layout.INITIAL).unlink(missing_ok=True)  # of a process that was killed before it wrote a config
        return config
    initial = read_initial(path or Path(config.init_from), config)
    atomic_write(run_path / layout.INITIAL, initial.content)
    return config.model_copy(update={"init_sha256": initial.sha256})


def begin_from_copy(state: TrainState, config: RunConfig, run_path: Path) -> None:
    """Give a state at step 0 the weights in a run's copy; do nothing where the run began with fresh ones.

    The average is that of the checkpoint or, where it has none, its generator.

    Raises:
        CheckpointError: the copy is missing or damaged.
    """
    if config.init_sha256 is None:
        return
    path = run_path / layout.INITIAL
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Restore it from a copy.") from error
    found = sha256_bytes(content)
    if found != config.init_sha256:
        raise CheckpointError(
            f"{path}: damaged: SHA-256 expected {config.init_sha256} by {layout.CONFIG}, found {found}. "
            "Restore it from a copy."
        )
    tensors = safetensors.torch.load(content)
    state.generator.load_state_dict(_weights("generator", tensors))
    state.discriminator.load_state_dict(_weights("discriminator", tensors))
    if state.ema is not None:
        state.ema.load_state_dict(_weights("ema", tensors) or _weights("generator", tensors))


def _weights(network: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network in a checkpoint, by their names in it."""
    prefix = f"{network}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_fits(found: Checkpoint, config: RunConfig, path: Path) -> None:
    faults = []
    if found.config.get("conditional", config.conditional) != config.conditional:
        faults.append(f"conditional is {found.config['conditional']}, and this run has {config.conditional}")
    for name, network in zip(("generator", "discriminator"), make_networks(config), strict=True):
        faults += _faults(name, network, _weights(name, found.tensors))
    if faults:
        more = f"; and {len(faults) - NUM_NAMED} more" if len(faults) > NUM_NAMED else ""
        raise ConfigMismatchError(
            f"--init-from: {path} does not fit this run: {'; '.join(faults[:NUM_NAMED])}{more}. Give the options of "
            "the run that it is from, or begin from another one."
        )


def _faults(prefix: str, network: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """List the tensors of a network that other weights do not fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    return [
        f"{prefix}.{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none of this name')}"
        for name in [*expected, *(found.keys() - expected.keys())]
        if found.get(name) != expected.get(name)
    ]
