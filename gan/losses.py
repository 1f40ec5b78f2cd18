"""What do the two networks minimise?"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.config import RecipeName

Loss = Callable[[Tensor, float], Tensor]


def probability_loss(logits: Tensor, label: float) -> Tensor:
    """Return the tutorial's BCELoss(Sigmoid(logits), label), each log held at -100 or more; logits (B,)."""
    return F.binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


def logits_loss(logits: Tensor, label: float) -> Tensor:
    """Return the same cross-entropy taken on the logits, exact where the sigmoid saturates; logits (B,)."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def loss_of(recipe: RecipeName) -> Loss:
    """Return the adversarial loss of a recipe."""
    return probability_loss if recipe == "published" else logits_loss
