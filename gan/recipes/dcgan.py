"""What is the recipe `dcgan`? Convolutional networks, class-conditional: the best images, at fewer and slower steps.

The strided convolutions are those of Radford et al. 2016. The discriminator has one output per class and answers for
the class of the image (as in Mescheder et al. 2018, whose R1 penalty has more weight here than in `tuned`). So the
networks cannot be trained without the class. Only the generator has batch norm, because R1 considers each image alone.
"""

from gan.recipes.base import ConvNetworks, Defaults, Recipe

DCGAN = Recipe(
    name="dcgan",
    summary="convolutions, class-conditional",
    networks=ConvNetworks(),
    engine="autograd",
    loss="bce",
    grid="fixed_latents",
    defaults=Defaults(
        num_steps=30_000,
        conditional=True,
        learning_rate=2e-3,
        lr_decay_start=0.17,
        lr_decay_from=3e-4,
        lr_decay_to=3e-4,
        beta1=0.5,
        beta2=0.99,
        dropout=0,
        augment_translate=2,
        augment_start=0,
        r1_gamma=0.3,
        ema_decay=0.9998,
        on_collapse="restart",
    ),
)
