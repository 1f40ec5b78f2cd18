"""How are a training's vital signs taken, without touching it?"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import TrainConfig
from gan.data.batches import Real
from gan.engine.state import TrainState
from gan.evaluation import classifier as judge
from gan.evaluation import metrics
from gan.evaluation.classifier import Judge
from gan.evaluation.evaluator import COVERED_SHARE
from gan.health import CLASSES_FROM, Vitals, stuck_steps
from gan.images import to_uint8
from gan.seeds import generator
from gan.training.loop import Snapshot

NUM_SAMPLES = 128  # 10 ms on one core of a CPU, and 20 ms where the judge looks at them, too


@torch.no_grad()
def measure(state: TrainState, config: TrainConfig, real: Real, snapshot: Snapshot, classifier: Judge | None) -> Vitals:
    """Take the vital signs at a snapshot, on latents that depend on seed and step alone.

    D is shown real images and fakes of the live generator; diversity and classes are those of
    the samples that the run would hand out. The judge, if it knows the data, is asked once a count says something.
    """
    assert config.seed is not None
    random = generator(config.seed, "health", state.step)
    z = torch.randn(NUM_SAMPLES, config.latent_dim, generator=random).to(state.fixed_z)
    images, digits = real.images[:NUM_SAMPLES].to(z.dtype), real.digits[:NUM_SAMPLES]
    samples, asked = state.sampler.eval()(z), z[: len(images)]
    fake = samples[: len(images)] if state.ema is None else state.generator.eval()(asked)
    state.generator.train()
    both = torch.cat([digits, state.generator.digits(asked)])
    logits = state.discriminator(torch.cat([images, fake]), both)  # (2B,)
    is_real = torch.arange(len(logits), device=logits.device) < len(images)
    figures = [
        logits.max() - logits.min(),
        ((logits > 0) == is_real).double().mean(),
        _slopes(logits, is_real, config).mean(),
        samples.flatten(1).var(0).sum(),
        images.flatten(1).var(0).sum(),
    ]
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
        num_classes=_num_classes(classifier, samples) if classifier and state.step >= CLASSES_FROM else None,
    )


def _slopes(logits: Tensor, is_real: Tensor, config: TrainConfig) -> Tensor:
    """Return the size of each image's loss's derivative by its logit (2B,), which begins D's gradient."""
    if config.recipe != "published":
        return (torch.sigmoid(logits) - is_real.to(logits.dtype)).abs()
    probability = torch.sigmoid(F.relu(logits))
    return (probability - is_real.to(logits.dtype)).abs() * (logits > 0) * (probability < 1)


def _num_classes(classifier: Judge, samples: Tensor) -> int:
    seen = judge.look(classifier, to_uint8(samples))
    return int((metrics.class_shares(seen.probabilities) > COVERED_SHARE).sum())
