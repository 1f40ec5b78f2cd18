"""How does a step look in plain PyTorch? Tests compare the engines with this version."""

from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor, nn

from gan.config import RunConfig
from gan.data.batches import Batches, Real
from gan.engine.adam import Moments
from gan.engine.base import R1_EVERY
from gan.engine.state import TrainState
from gan.recipes.mlp_networks import dropout_masks
from gan.training.loop import train


class Masked(nn.Module):
    """Multiply by a mask from outside: dropout with random numbers that two programs can share."""

    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask


def generator(latent_dim: int, bn_eps: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent_dim, 128), nn.LeakyReLU(0.2),
        nn.Linear(128, 256), nn.BatchNorm1d(256, bn_eps), nn.LeakyReLU(0.2),
        nn.Linear(256, 512), nn.BatchNorm1d(512, bn_eps), nn.LeakyReLU(0.2),
        nn.Linear(512, 1024), nn.BatchNorm1d(1024, bn_eps), nn.LeakyReLU(0.2),
        nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip


def published_discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1), nn.ReLU(),
        nn.Sigmoid(),
    )  # fmt: skip


def tuned_discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512), nn.LeakyReLU(0.2), Masked(), nn.Linear(512, 256), nn.LeakyReLU(0.2), Masked(),
        nn.Linear(256, 128), nn.LeakyReLU(0.2), Masked(), nn.Linear(128, 1),
    )  # fmt: skip


def digits_of(z: Tensor, num_classes: int = 10) -> Tensor:
    """Return the digit that each latent decides. The first number of z decides it, as often as MNIST has each digit.

    Of more classes, each is as frequent as the others.
    """
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949] if num_classes == 10 else [1] * num_classes
    edges = [NormalDist().inv_cdf(sum(counts[:digit]) / sum(counts)) for digit in range(1, num_classes)]
    return torch.tensor([sum(first >= edge for edge in edges) for first in z[:, 0].tolist()])


class AppendClass(nn.Module):
    """Append the digit, one-hot, to the first latents."""

    def __init__(self, num_latents: int, num_classes: int = 10) -> None:
        super().__init__()
        self.num_latents, self.num_classes = num_latents, num_classes

    def forward(self, z: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(digits_of(z, self.num_classes), self.num_classes)
        return torch.cat([z[:, : self.num_latents], 3 * one_hot], 1)


def dcgan_generator(latent_dim: int) -> nn.Sequential:
    return nn.Sequential(
        AppendClass(latent_dim), nn.Linear(latent_dim + 10, 256, bias=False), nn.BatchNorm1d(256), nn.LeakyReLU(0.2),
        nn.Linear(256, 64 * 7 * 7, bias=False), nn.Unflatten(1, (64, 7, 7)),
        nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def dcgan_discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.LeakyReLU(0.2), nn.Linear(256, 10),
    )  # fmt: skip


def networks(config: RunConfig) -> tuple[nn.Sequential, nn.Sequential]:
    if config.recipe == "dcgan":
        return dcgan_generator(config.latent_dim), dcgan_discriminator()
    if config.recipe == "published":
        return generator(config.latent_dim, 0.8), published_discriminator()
    num_classes = config.data_shape.num_classes
    if num_classes > 10:  # more than the pixels and latents of `tuned` are meant for
        embedded = AppendClass(config.latent_dim, num_classes), *generator(config.latent_dim + num_classes, 1e-5)
        return nn.Sequential(*embedded), nn.Sequential(*tuned_discriminator()[:-1], nn.Linear(128, num_classes))
    tuned = generator(config.latent_dim, 1e-5)
    if config.conditional:
        tuned = nn.Sequential(AppendClass(config.latent_dim - 10), *tuned)
    return tuned, tuned_discriminator()


class Reference:
    """Train a recipe, starting from the weights, moments and random stream of a TrainState."""

    def __init__(self, state: TrainState, config: RunConfig) -> None:
        self.config, self.dropout = config, config.dropout
        self.num_classes = config.data_shape.num_classes
        self.has_output_per_class = config.recipe == "dcgan" or self.num_classes > 10
        self.generator, self.discriminator = networks(config)
        self.loss = nn.BCELoss() if config.recipe == "published" else nn.BCEWithLogitsLoss()
        betas = (config.beta1, config.beta2)
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), lr=config.learning_rate, betas=betas)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=config.learning_rate, betas=betas)
        _copy(state.generator, state.g_moments, self.generator, self.g_optimizer)
        _copy(state.discriminator, state.d_moments, self.discriminator, self.d_optimizer)
        self.rng = torch.Generator()
        self.rng.set_state(state.rng.get_state())
        self.dtype = state.fixed_z.dtype
        self.num_steps = state.step

    def step(self, batch_of_real: Real) -> tuple[float, float]:
        """Train on one batch of real images; return (g_loss, d_loss)."""
        self._set_rate()
        real, digits = batch_of_real
        batch = len(real)
        ones, zeros = torch.ones(batch, 1, dtype=self.dtype), torch.zeros(batch, 1, dtype=self.dtype)
        z = torch.randn(batch, self.config.latent_dim, generator=self.rng, dtype=self.dtype)
        masks = dropout_masks(2 * batch, self.dropout, self.rng, z)  # the draw itself has a test of its own
        fake_translations, real_translations = self._draw_translations(batch)
        fake_masks, real_masks = [mask[:batch] for mask in masks], [mask[batch:] for mask in masks]

        self.g_optimizer.zero_grad()
        fake = self.generator(z)
        drawn = digits_of(z, self.num_classes)
        g_loss = self.loss(self._logits(_translated(fake, fake_translations), fake_masks, drawn), ones)
        g_loss.backward()
        self.g_optimizer.step()

        self.d_optimizer.zero_grad()
        real = _translated(real, real_translations)
        real_loss = self.loss(self._logits(real, real_masks, digits), ones)
        fake = _translated(fake.detach(), fake_translations)
        fake_loss = self.loss(self._logits(fake, fake_masks, drawn), zeros)
        d_loss = 0.5 * (real_loss + fake_loss)
        (d_loss + self._penalty(real, real_masks, digits)).backward()
        self.d_optimizer.step()
        self.num_steps += 1
        return g_loss.item(), d_loss.item()

    def _set_rate(self) -> None:
        config, rate = self.config, self.config.learning_rate
        if self._is_past(config.lr_decay_start):
            first, last = config.lr_decay_start * config.num_steps, config.num_steps
            rate = np.interp(self.num_steps, [first, last], [config.lr_decay_from, config.lr_decay_to])
        for optimizer in (self.g_optimizer, self.d_optimizer):
            optimizer.param_groups[0]["lr"] = rate

    def _is_past(self, share: float) -> bool:
        return self.num_steps / self.config.num_steps >= share

    def _draw_translations(self, batch: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the pixels by which D's images are translated, up and to the left: of the fakes and of the reals."""
        max_pixels = self.config.augment_translate
        if not max_pixels or not self._is_past(self.config.augment_start):
            return [(0, 0)] * batch, [(0, 0)] * batch
        width = 2 * max_pixels + 1
        chosen = torch.randint(width**2, (2 * batch,), generator=self.rng).tolist()
        both = [(number // width - max_pixels, number % width - max_pixels) for number in chosen]
        return both[:batch], both[batch:]

    def _penalty(self, real: Tensor, masks: list[Tensor], digits: Tensor) -> Tensor:
        """Return R1 on every tenth step, multiplied by ten, else 0."""
        if not self.config.r1_gamma or self.num_steps % R1_EVERY:
            return torch.zeros(())
        real = real.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(self._logits(real, masks, digits).sum(), real, create_graph=True)
        return R1_EVERY * self.config.r1_gamma / 2 * slopes.flatten(1).square().sum(1).mean()

    def _logits(self, images: Tensor, masks: list[Tensor], digits: Tensor) -> Tensor:
        masked_layers = [layer for layer in self.discriminator if isinstance(layer, Masked)]
        for index, layer in enumerate(masked_layers):
            layer.mask = masks[index] if masks else None
        if self.config.conditional and not self.has_output_per_class:
            one_hot = nn.functional.one_hot(digits, 28)[:, None, None]  # (B, 1, 1, 28): in the first row
            images = images + nn.functional.pad(10 * one_hot, (0, 0, 0, 27))
        logits: Tensor = self.discriminator(images)
        return logits.gather(1, digits[:, None]) if self.has_output_per_class else logits


def check_equal(state: TrainState, config: RunConfig, batches: Batches) -> Reference:
    """Take all steps of a config by the engine and by the reference, whose losses must agree; return the reference."""
    reference = Reference(state, config)
    expected = np.array([reference.step(batches(step)) for step in range(1, config.num_steps + 1)])
    list(train(state, config, batches))
    assert np.ptp(expected[-10:, 1]) > 1e-3
    np.testing.assert_allclose(state.g_losses, expected[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.d_losses, expected[:, 1], rtol=0, atol=1e-6)
    return reference


def _translated(images: Tensor, translations: list[tuple[int, int]]) -> Tensor:
    """Translate each image. New pixels are black."""
    framed = nn.functional.pad(images, (28, 28, 28, 28), value=-1)
    translated = [f[:, 28 + y : 56 + y, 28 + x : 56 + x] for f, (y, x) in zip(framed, translations, strict=True)]
    return torch.stack(translated)


def _copy(source: nn.Module, moments: dict[str, Moments], target: nn.Module, target_adam: torch.optim.Adam) -> None:
    target.to(next(source.parameters()).dtype)
    for (name, theirs), ours in zip(source.named_parameters(), target.parameters(), strict=True):
        ours.data.copy_(theirs.data)
        target_adam.state[ours] = {key: moment.clone() for key, moment in moments[name]._asdict().items()}
