"""What is the whole state of a training, and how does it become tensors and back?"""

import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from gan.config import TrainConfig
from gan.engine.adam import Moments
from gan.errors import CheckpointError
from gan.health import Health
from gan.recipes.networks import Generator, make_networks
from gan.seeds import derive_seed, make_rng

NUM_FIXED = 25  # the 5x5 grid


class TrainState:
    """Hold all that a next step depends on, and the losses so far.

    Two states with equal `tensors()` under equal configs have equal futures, bit for bit, on the same machine.
    """

    def __init__(self, config: TrainConfig, dtype: torch.dtype = torch.float32) -> None:
        """Make the state before the first step of a resolved config, on its device."""
        assert config.seed is not None
        device = torch.device(config.device)
        with torch.random.fork_rng(devices=[]):
            # Drawn on the CPU in float32, so that every device and precision begins from the same weights.
            torch.manual_seed(derive_seed(config.seed, "weights"))
            self.generator, self.discriminator = make_networks(config)
        self.generator.to(device, dtype)
        self.discriminator.to(device, dtype)
        self.ema: Generator | None = copy.deepcopy(self.generator).eval() if config.ema_decay else None
        self.g_moments, self.d_moments = Moments.of(self.generator), Moments.of(self.discriminator)
        self.random = make_rng(config.seed, "steps", device=device)  # latents and dropout
        fixed_z = torch.randn(NUM_FIXED, config.latent_dim, generator=make_rng(config.seed, "fixed_z"))
        self.fixed_z = fixed_z.to(device, dtype)
        self.step = 0
        self.g_losses = np.empty(0, np.float32)  # one a step
        self.d_losses = np.empty(0, np.float32)
        self.health = Health()

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self.fixed_z.device

    @property
    def sampler(self) -> Generator:
        """The generator that samples are drawn from: the averaged one where there is one."""
        return self.ema or self.generator

    def record(self, g_losses: np.ndarray, d_losses: np.ndarray) -> None:
        """Append the losses (N,) of the last N steps."""
        self.g_losses = np.concatenate([self.g_losses, g_losses.astype(np.float32)])
        self.d_losses = np.concatenate([self.d_losses, d_losses.astype(np.float32)])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name, on the CPU; weights and moments may share memory with the state."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self._live().items()} | {
            "step": torch.tensor(self.step),
            "random": self.random.get_state(),
            "g_losses": torch.from_numpy(self.g_losses),
            "d_losses": torch.from_numpy(self.d_losses),
            "health": torch.frombuffer(bytearray(self.health.model_dump_json().encode()), dtype=torch.uint8),
        }

    def load(self, tensors: dict[str, Tensor]) -> Self:
        """Take the state from tensors made by `tensors()` under the same config.

        Raises:
            CheckpointError: names, shapes or dtypes differ; the state may then be half taken.
        """
        live = self._live()
        names = live.keys() | {"step", "random", "g_losses", "d_losses", "health"}
        if odd := sorted(names ^ (tensors.keys() | {"health"})):
            raise CheckpointError(f"the checkpoint does not fit this version: tensors {', '.join(odd[:5])}")
        for name, target in live.items():
            source = tensors[name]
            if (source.shape, source.dtype) != (target.shape, target.dtype):
                raise CheckpointError(
                    f"the checkpoint does not fit this version: {name} is {source.dtype} {tuple(source.shape)}, "
                    f"expected {target.dtype} {tuple(target.shape)}"
                )
            target.data.copy_(source)
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].clone())
        self.g_losses, self.d_losses = tensors["g_losses"].numpy().copy(), tensors["d_losses"].numpy().copy()
        self.health = health_in(tensors)
        return self

    def _live(self) -> dict[str, Tensor]:
        networks: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if self.ema is not None:
            networks["ema"] = self.ema
        live = {f"{prefix}.{name}": t for prefix, net in networks.items() for name, t in net.state_dict().items()}
        for prefix, moments in (("g_adam", self.g_moments), ("d_adam", self.d_moments)):
            for name, of_parameter in moments.items():
                live |= {f"{prefix}.{name}.{key}": tensor for key, tensor in of_parameter._asdict().items()}
        return live


def health_in(tensors: dict[str, Tensor]) -> Health:
    """Return what the referee remembers in a state's tensors; nothing of a run that was begun before there was one."""
    return Health.model_validate_json(tensors["health"].numpy().tobytes()) if "health" in tensors else Health()
