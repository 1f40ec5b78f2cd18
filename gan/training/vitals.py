"""How are a training's vitals measured without changing it?"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import RunConfig
from gan.data.batches import Real
from gan.engine.custom_loss import loss_slopes
from gan.engine.state import TrainState
from gan.evaluation import metrics
from gan.evaluation.classifier import Classifier, classify
from gan.evaluation.results import least_share
from gan.health import CLASSES_FROM, NUM_CLASSES, Vitals, stuck_steps
from gan.images import to_uint8
from gan.recipes.base import CustomLoss
from gan.recipes.resolve import recipe_of
from gan.seeds import make_rng
from gan.training.loop import Snapshot

NUM_SAMPLES = 128  # takes 10 ms on one CPU core, 20 ms with the classifier


@torch.no_grad()
def measure(
    state: TrainState,
    config: RunConfig,
    real: Real,
    snapshot: Snapshot,
    classifier: Classifier | None,
    classes: Sequence[int] = range(NUM_CLASSES),
) -> Vitals:
    """Measure the vitals at a snapshot. The latents depend only on the seed and the step.

    The discriminator gets real images and fakes of the generator in training. Variance and classes are measured on
    samples of the network that `gan sample` uses. The classifier, if there is one, is used from step CLASSES_FROM on;
    it looks for the `classes` of the training images.
    """
    rng = make_rng(config.seed, "health", state.step)
    z = torch.randn(NUM_SAMPLES, config.latent_dim, generator=rng).to(state.fixed_z)
    images, labels = real.images[:NUM_SAMPLES].to(z.dtype), real.labels[:NUM_SAMPLES]
    fake_z = z[: len(images)]  # a batch may be smaller than NUM_SAMPLES
    samples = state.sampler.eval()(z)
    fake = samples[: len(images)] if state.ema is None else state.generator.eval()(fake_z)
    state.generator.train()
    both_labels = torch.cat([labels, state.generator.labels(fake_z)])
    logits = state.discriminator.eval()(torch.cat([images, fake]), both_labels)  # (2B,)
    state.discriminator.train()
    is_real = torch.arange(len(logits), device=logits.device) < len(images)
    figures = [
        logits.max() - logits.min(),
        ((logits > 0) == is_real).double().mean(),
        _slopes(logits, is_real, config).mean(),
        samples.flatten(1).var(0).sum(),
        images.flatten(1).var(0).sum(),
    ]
    # One copy from the device for all five.
    spread, accuracy, slope, variance, real_variance = torch.stack([each.double() for each in figures]).tolist()
    return Vitals(
        g_loss=snapshot.g_loss,
        d_loss=snapshot.d_loss,
        stuck_steps=stuck_steps(state.g_losses, state.d_losses),
        spread=spread,
        accuracy=accuracy,
        slope=slope,
        variance=variance,
        real_variance=real_variance,
        num_classes=_num_classes(classifier, samples, classes) if classifier and state.step >= CLASSES_FROM else None,
    )


def _slopes(logits: Tensor, is_real: Tensor, config: RunConfig) -> Tensor:
    """Return (2B,): the absolute derivative of each image's loss by its logit. D's gradient starts from it."""
    loss = recipe_of(config).loss
    if isinstance(loss, CustomLoss):
        return loss_slopes(loss, f"recipe {config.recipe}", logits, is_real)
    if loss == "bce":
        return (torch.sigmoid(logits) - is_real.to(logits.dtype)).abs()
    # The published head applies a ReLU before the sigmoid: no gradient below 0, nor where the sigmoid rounds to 1.
    probability = torch.sigmoid(F.relu(logits))
    return (probability - is_real.to(logits.dtype)).abs() * (logits > 0) * (probability < 1)


def _num_classes(classifier: Classifier, samples: Tensor, classes: Sequence[int]) -> int:
    outputs = classify(classifier, to_uint8(samples))
    shares = metrics.class_shares(outputs.probabilities)
    return int((shares[list(classes)] > least_share(len(shares))).sum())
