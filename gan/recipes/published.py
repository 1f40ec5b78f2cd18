"""What is the recipe `published`? A tutorial's GAN, row by row, with its mistakes.

It is here to reproduce the tutorial and to study how a GAN fails. Two mistakes keep it from working well:

- The discriminator ends in a ReLU before the sigmoid, so it never says "fake" with more than 50 %. It loses its
  gradient when the value before the ReLU is negative for every image. On most seeds that happens early.
- The batch norm has eps=0.8. The tutorial meant the momentum.

The loss and the networks are those of Goodfellow et al. 2014, with batch norm in the generator.
"""

from gan.recipes.base import Defaults, MlpNetworks, Recipe

NUM_STEPS = 99 * 937  # epochs 1..99 of 60,000 // 64 batches each

PUBLISHED = Recipe(
    name="published",
    summary="the tutorial to the letter",
    networks=MlpNetworks(batch_norm_eps=0.8, leaky_slope=0.0),
    engine="mlp",
    loss="rectified_bce",
    grid="batch",
    defaults=Defaults(
        num_steps=NUM_STEPS,
        conditional=False,
        learning_rate=1e-4,
        lr_decay_start=1,  # never
        lr_decay_from=1e-4,
        lr_decay_to=1e-4,
        beta1=0.9,
        beta2=0.999,
        dropout=0,
        augment_translate=0,
        augment_start=0,
        r1_gamma=0,
        ema_decay=0,
        on_collapse="ignore",  # the tutorial trains to the end in any case
    ),
)
