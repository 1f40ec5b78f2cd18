"""What is the recipe `tuned`? The published layer sizes, repaired and stabilised. It is the default.

- LeakyReLU in the discriminator, and a loss on logits: the gradient does not vanish (Goodfellow et al. 2014, Radford
  et al. 2016, which also has beta1=0.5).
- Both networks are conditioned on the class (Mirza and Osindero 2014): without it, the generator must pass through
  images between two classes that are neither.
- R1, a penalty on the discriminator's gradient at real images (Mescheder et al. 2018).
- Augmentation of real and fake images alike (Zhao et al. 2020, DiffAugment): otherwise the discriminator memorises the
  60,000 real images.
- Samples come from a moving average of the generator's weights (EMA; Yazici et al. 2019).

The values were chosen on seed 0. A short run needs others: its learning rate decays later and less, and it ends before
the discriminator memorises real images.
"""

from gan.recipes.base import Defaults, EmbeddedMlpNetworks, MlpNetworks, Recipe
from gan.recipes.published import NUM_STEPS

TUNED = Recipe(
    name="tuned",
    summary="the same layer sizes, repaired, stabilised and class-conditional",
    networks=MlpNetworks(batch_norm_eps=1e-5, leaky_slope=0.2),
    networks_of_others=EmbeddedMlpNetworks(batch_norm_eps=1e-5, leaky_slope=0.2),
    engine="mlp",
    loss="bce",
    grid="fixed_latents",
    defaults=Defaults(
        num_steps=NUM_STEPS,
        conditional=True,
        learning_rate=6e-4,
        lr_decay_start=0.15,
        lr_decay_from=2e-4,
        lr_decay_to=3e-5,
        beta1=0.5,
        beta2=0.999,
        dropout=0,
        augment_translate=2,
        augment_start=0.15,
        r1_gamma=0.02,
        ema_decay=0.9999,
        on_collapse="restart",
    ),
    short_run={"lr_decay_start": 0.43, "lr_decay_to": 2e-4, "augment_start": 1},
)
