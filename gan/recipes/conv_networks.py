"""What are the networks of convolutions?"""

from torch import Tensor, nn

from gan.recipes.base import NUM_CLASSES
from gan.recipes.generator import Generator

WIDTH = 32  # channels at 14x14; twice as many at 7x7
HIDDEN = 256  # width of the linear layers that see the whole image


class ConvGenerator(Generator):
    """Two linear layers to 7x7, a convolution, then two transposed ones that double the side (Radford et al. 2016).

    A layer before a norm has no bias, because the norm would remove it.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(conditional=True)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim + NUM_CLASSES, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 2 * WIDTH * 7 * 7, bias=False),
            nn.Unflatten(1, (2 * WIDTH, 7, 7)),  # (B, 64, 7, 7)
            nn.BatchNorm2d(2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1, bias=False),  # (B, 32, 14, 14)
            nn.BatchNorm2d(WIDTH),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1),  # (B, 1, 28, 28)
            nn.Tanh(),
        )


class ConvDiscriminator(nn.Module):
    """Two convolutions that halve the side, a linear layer that sees the whole image, and an output for each class.

    An image is scored by the output of its class (as in Mescheder et al. 2018). There is no batch norm, because R1
    considers each image alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, WIDTH, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),  # (B, 64, 7, 7)
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * WIDTH * 7 * 7, HIDDEN),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Linear(HIDDEN, NUM_CLASSES)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) of images (B, 1, 28, 28) as images of their classes (B,)."""
        return self.class_logits(self.layers(images), labels)

    def class_logits(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) for classes (B,), given the output (B, 256) of the layers before the head."""
        logits: Tensor = self.head(hidden)  # (B, 10)
        return logits.gather(1, labels.unsqueeze(1)).squeeze(1)
