"""What is the state of a training, and how is it written to tensors and read back?"""

import copy
import hashlib
from typing import Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from gan.config import RunConfig
from gan.engine.adam import Moments
from gan.errors import CheckpointError
from gan.health import Health
from gan.recipes.generator import Generator, default_counts
from gan.recipes.networks import make_networks
from gan.seeds import derive_seed, make_rng

NUM_FIXED = 25  # the 5x5 grid
MAX_COUNT = 2**32  # images of a class: more than any data set has, and the sum is no overflow
LOSSES = ("g_losses", "d_losses")
LOSSES_SHA256 = "losses_sha256"  # stands for them in a checkpoint
OPTIONAL = {"health", "class_counts"}  # tensors that not every checkpoint has
ADVICE = "Restore it from a copy, or use the gan-train that wrote it."


class TrainState:
    """Hold all that the next step depends on, and the losses so far.

    From two states with equal `tensors()`, equal configs train to equal bits on the same machine.
    """

    def __init__(
        self, config: RunConfig, dtype: torch.dtype = torch.float32, class_counts: Tensor | None = None
    ) -> None:
        """Make the state before the first step of a resolved config, on its device.

        `class_counts` (num_classes,) int64 are those of the training images; None: those of `default_counts`.
        """
        device = torch.device(config.device)
        with torch.random.fork_rng(devices=[]):
            # Draw on the CPU in float32, so that every device and precision starts from the same weights.
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.generator, self.discriminator = make_networks(config)
        if class_counts is not None:
            self.generator.use_class_counts(class_counts)
        self.generator.to(device, dtype)
        self.discriminator.to(device, dtype)
        self.ema: Generator | None = copy.deepcopy(self.generator).eval() if config.ema_decay else None
        self.g_moments, self.d_moments = Moments.zeros(self.generator), Moments.zeros(self.discriminator)
        self.rng = make_rng(config.seed, "steps", device=device)  # draws latents, dropout masks and translations
        fixed_z = torch.randn(NUM_FIXED, config.latent_dim, generator=make_rng(config.seed, "fixed_z"))
        self.fixed_z = fixed_z.to(device, dtype)
        self.step = 0
        self.g_losses = np.empty(0, np.float32)  # one a step
        self.d_losses = np.empty(0, np.float32)
        self.health = Health()

    @property
    def device(self) -> torch.device:
        """The device that holds the networks."""
        return self.fixed_z.device

    @property
    def sampler(self) -> Generator:
        """The generator that draws samples: the average if the run has one, else the live one."""
        return self.ema or self.generator

    def record(self, g_losses: np.ndarray, d_losses: np.ndarray) -> None:
        """Append the losses (N,) of the last N steps."""
        self.g_losses = np.concatenate([self.g_losses, g_losses.astype(np.float32)])
        self.d_losses = np.concatenate([self.d_losses, d_losses.astype(np.float32)])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name, on the CPU; weights and moments may share memory with the state."""
        counts = self.generator.class_counts.cpu()
        is_default = torch.equal(counts, default_counts(len(counts)))
        found = {} if is_default or not self.generator.conditional else {"class_counts": counts}
        found |= {name: tensor.detach().cpu().contiguous() for name, tensor in self._named_tensors().items()}
        return found | {
            "step": torch.tensor(self.step),
            "random": self.rng.get_state(),
            "g_losses": torch.from_numpy(self.g_losses),
            "d_losses": torch.from_numpy(self.d_losses),
            "health": torch.frombuffer(bytearray(self.health.model_dump_json().encode()), dtype=torch.uint8),
        }

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Read the state from tensors that `tensors()` made under the same config. Return the state.

        Between two snapshots a state has fewer losses than steps. `with_losses` checks those of a checkpoint.

        Raises:
            CheckpointError: names, shapes, dtypes or what they hold differ. The state may then be half overwritten.
        """
        targets = self._named_tensors()
        expected = targets.keys() | {"step", "random", *LOSSES}
        differing = sorted(expected ^ (tensors.keys() - OPTIONAL))
        if differing:
            raise CheckpointError(
                f"the checkpoint does not fit this version: missing or unknown tensors "
                f"{', '.join(differing[:5])}. {ADVICE}"
            )
        for name, target in targets.items():
            _check_fits(name, tensors[name], target.dtype, target.shape)
            target.data.copy_(tensors[name])
        _check_fits("random", tensors["random"], torch.uint8, self.rng.get_state().shape)
        try:
            self.rng.set_state(tensors["random"].clone())
        except RuntimeError as error:
            raise CheckpointError(
                f"the checkpoint is damaged: random is no state of a generator ({error}). {ADVICE}"
            ) from error
        for network in filter(None, (self.generator, self.ema)):
            network.use_class_counts(read_class_counts(tensors, len(network.class_counts)))
        _check_fits("step", tensors["step"], torch.int64, torch.Size(()))
        for name in ("g_losses", "d_losses"):
            _check_fits(name, tensors[name], torch.float32, torch.Size((tensors["g_losses"].numel(),)))
        self.g_losses, self.d_losses = tensors["g_losses"].numpy().copy(), tensors["d_losses"].numpy().copy()
        self.step = int(tensors["step"])
        self.health = read_health(tensors)
        return self

    def _named_tensors(self) -> dict[str, Tensor]:
        """Return weights, averages and moments by their names in a checkpoint; not copies."""
        named: dict[str, Tensor] = {}
        networks = {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}
        for prefix, network in networks.items():
            if network is not None:
                named |= {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
        for prefix, moments in (("g_adam", self.g_moments), ("d_adam", self.d_moments)):
            for name, moments_of_parameter in moments.items():
                named |= {f"{prefix}.{name}.{key}": tensor for key, tensor in moments_of_parameter._asdict().items()}
        return named


def without_losses(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state's tensors as a checkpoint has them: of the losses so far only their SHA-256, uint8 (32,)."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in LOSSES}
    return kept | {LOSSES_SHA256: _losses_sha256(*(tensors[name].numpy() for name in LOSSES))}


def with_losses(tensors: dict[str, Tensor], losses: np.ndarray | None) -> dict[str, Tensor]:
    """Return a checkpoint's tensors with the losses of its steps: g_loss and d_loss, float32 (step or more, 2).

    A checkpoint of an older version has its losses itself.

    Raises:
        CheckpointError: there are no such losses, or they are not those of the checkpoint.
    """
    if "step" not in tensors:
        raise CheckpointError(f"the checkpoint does not fit this version: step is missing. {ADVICE}")
    _check_fits("step", tensors["step"], torch.int64, torch.Size(()))
    step = int(tensors["step"])
    if LOSSES_SHA256 not in tensors:
        for name in LOSSES:
            if name not in tensors:
                raise CheckpointError(f"the checkpoint does not fit this version: {name} is missing. {ADVICE}")
            _check_fits(name, tensors[name], torch.float32, torch.Size((step,)))
        return tensors
    found = np.empty((0, 2), np.float32) if losses is None else losses[:step]
    columns = [np.ascontiguousarray(column, np.float32) for column in found.T]
    if len(found) != step or not torch.equal(_losses_sha256(*columns), tensors[LOSSES_SHA256]):
        raise CheckpointError(f"the losses of its {step:,} steps are missing or damaged.")
    kept = {name: tensor for name, tensor in tensors.items() if name != LOSSES_SHA256}
    return kept | {name: torch.from_numpy(column) for name, column in zip(LOSSES, columns, strict=True)}


def _losses_sha256(g_losses: np.ndarray, d_losses: np.ndarray) -> Tensor:
    content = np.stack([g_losses, d_losses], 1).astype("<f4").tobytes()
    return torch.frombuffer(bytearray(hashlib.sha256(content).digest()), dtype=torch.uint8)


def read_class_counts(tensors: dict[str, Tensor], num_classes: int) -> Tensor:
    """Return how many training images of each class a state's tensors name, (num_classes,) int64.

    Without any, they are those of `default_counts`.

    Raises:
        CheckpointError: the tensor holds something else.
    """
    if "class_counts" not in tensors:
        return default_counts(num_classes)
    counts = tensors["class_counts"]
    _check_fits("class_counts", counts, torch.int64, torch.Size((num_classes,)))
    if not 0 <= int(counts.min()) <= int(counts.max()) < MAX_COUNT or not counts.any():
        raise CheckpointError(f"the checkpoint is damaged: class_counts is {counts.tolist()}. {ADVICE}")
    return counts


def read_health(tensors: dict[str, Tensor]) -> Health:
    """Return what the monitor remembers in a state's tensors. A state of a version without a monitor has nothing.

    Raises:
        CheckpointError: the tensor holds something else.
    """
    if "health" not in tensors:
        return Health()
    content = tensors["health"]
    _check_fits("health", content, torch.uint8, torch.Size((content.numel(),)))
    try:
        return Health.model_validate_json(content.numpy().tobytes())
    except ValidationError as error:
        raise CheckpointError(
            f"the checkpoint is damaged, or another version wrote it: health: {error.errors()[0]['msg']}. {ADVICE}"
        ) from error


def _check_fits(name: str, found: Tensor, dtype: torch.dtype, shape: torch.Size) -> None:
    if (found.dtype, found.shape) != (dtype, shape):
        raise CheckpointError(
            f"the checkpoint does not fit this version: {name} is {found.dtype} {tuple(found.shape)}, "
            f"expected {dtype} {tuple(shape)}. {ADVICE}"
        )
